"""Bundles for the page, and a headless Chromium that is dressed as a phone."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import exporter
from exporter.recipe import LogMel, Preprocess
from targets.transports.browser import runtimes
from tests.browser.client import tiny_bundle

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "out" / "browser"  # screenshots are kept there, to be looked at
TRAIN = 1200
WIDTH, HEIGHT = 412, 915
_AGENT = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """name -> folder: "int8", "float", "int8 io" and "int16 io", all of one CNN trained here on real digits."""
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8)[..., None], digits.target.astype(np.uint8)
    net = _trained(images[:TRAIN], labels[:TRAIN])
    made: dict[str, Path] = {}
    keys = {"int8": {}, "float": {"weights": "float", "activations": "float"}, "int8 io": {"io": "int8"},
            "int16 io": {"activations": "int16", "io": "int16"}}  # fmt: skip

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("bundles") / name.replace(" ", "-")
            exporter.export(
                net,
                {"image": torch.zeros(3, 1, 8, 8)},
                calibration={"image": images[:256]},
                evaluation={"image": images[TRAIN : TRAIN + 100], "labels": labels[TRAIN : TRAIN + 100]},
                preprocess={"image": Preprocess(source_layout="NHWC", scale=1 / 16)},
                max_drop=2.0,
                min_agreement=0.99,
                max_latency_ms=1e-6,  # no browser is held to it
                out=made[name],
                **keys[name],
            )
        return made[name]

    return get


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that hears: tones of four pitches, their log-mel spectrogram, and a small net."""
    rng = np.random.default_rng(0)
    labels = np.arange(140) % 4
    times = np.arange(4000) / 8000
    waves = np.sin(2 * np.pi * 300 * 2.0 ** labels[:, None] * times) * 8000 + rng.normal(0, 500, (140, 4000))
    spec = Preprocess(length=4000, scale=1 / 32768, log_mel=LogMel(sample_rate=8000), mean=-8.0, std=4.0)
    waves = waves.astype(np.int16)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )  # fmt: skip
    return exporter.export(
        net.eval(),
        {"wave": torch.zeros(2, 1, 40, 30)},
        calibration={"wave": waves[:40]},
        evaluation={"wave": waves[40:], "labels": labels[40:].astype(np.uint8)},
        preprocess={"wave": spec},
        out=tmp_path_factory.mktemp("tones") / "bundle",
    ).path


def _trained(images: np.ndarray, labels: np.ndarray) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location("digits_model", ROOT / "sample_apps" / "digits" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    net: torch.nn.Module = module.build()
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 16, torch.from_numpy(labels).long()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(4):
        for index in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def altered(bundle: Path, out: Path, *, gates: Mapping[str, Any] | None = None, **files: bytes) -> Path:
    """A copy with other gates or other bytes in a file, that verifies all the same."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["gates"] = manifest["gates"] if gates is None else dict(gates)
    for entry in manifest["artifacts"] + manifest["files"]:
        data = files.get(entry["path"].replace(".", "_"))
        if data is not None:
            (out / entry["path"]).write_bytes(data)
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


class Phone:
    """One browser; ``open`` shows a link in it, ``verdict`` waits for the end."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, link: str) -> None:
        self.driver.get("about:blank")  # else another # alone loads nothing
        self.driver.get_log("browser")  # complaints() is about this page alone
        self.driver.get(link)

    def state(self) -> str:
        return str(self.driver.execute_script("return document.querySelector('#verdict').dataset.state"))

    def verdict(self) -> str:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 600, 0.1).until(lambda _: self.state() in {"passed", "failed", "broken"})
        return self.state()

    def text(self, selector: str = "body") -> str:
        return str(self.driver.execute_script("return document.querySelector(arguments[0]).innerText", selector))

    def dark(self, on: bool) -> None:
        value = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [value]})

    def sizes(self) -> tuple[int, int]:
        """Width and height of the whole page."""
        root = "document.documentElement"
        found: list[int] = self.driver.execute_script(f"return [{root}.scrollWidth, {root}.scrollHeight]")
        return found[0], found[1]

    def shot(self, name: str) -> Path:
        """The whole page as PNG."""
        width, height = self.sizes()
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        wishes = {"captureBeyondViewport": True, "clip": clip}
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", wishes)
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def complaints(self) -> list[str]:
        """Console lines about the content security policy, files that did not come, and scripts that broke."""
        lines = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in lines if any(word in line for word in ("Content Security", "ERR_", "Uncaught"))]


@pytest.fixture(scope="session")
def need_browser() -> str:
    """Path of Chromium; skips where Chromium, its driver, selenium or the runtimes are missing."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if importlib.util.find_spec("selenium") is None:
        missing.append("selenium")
    if not runtimes.is_set_up():
        missing.append("the page's runtimes (kbit serve --setup)")
    if missing:
        pytest.skip(f"browser tests need {', '.join(missing)}; .ci/run installs them")
    return str(shutil.which("chromium"))


@pytest.fixture(scope="session")
def phone(need_browser: str) -> Iterator[Phone]:
    """Loopback is all that it reaches; http://phone.test is loopback too, as any host of a network would look."""
    with dressed(need_browser) as found:
        yield found


@contextmanager
def dressed(chromium: str, *flags: str, width: int = WIDTH) -> Iterator[Phone]:
    """A Chromium with a phone's profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    rules = "MAP phone.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    always = ("headless=new", "no-sandbox", "no-first-run", "disable-background-networking", "disable-sync")
    for flag in (*always, *flags):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--host-resolver-rules={rules}")
    options.add_argument("--ignore-certificate-errors")
    metrics = {"width": width, "height": HEIGHT, "pixelRatio": 2.0, "touch": True, "mobile": True}
    hints = {"platform": "Android", "mobile": True}
    emulation = {"deviceMetrics": metrics, "userAgent": _AGENT, "clientHints": hints}
    options.add_experimental_option("mobileEmulation", emulation)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Phone(driver)
    finally:
        driver.quit()
