"""Browsers as targets, and what is in the way of one: each a clear line, and nothing half-done left."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter import cli
from targets import TargetError, get_target
from targets.transports import browser
from targets.transports.browser import chromium, page, runtimes, transport
from targets.transports.browser.certificate import make_certificate
from targets.types import Job
from tests.browser.client import LOGITS, Client, send

Act = Callable[[Client], None]


@pytest.fixture
def set_up() -> None:
    if not runtimes.is_set_up():
        pytest.skip("the page's runtimes are missing (kbit serve --setup); .ci/run fetches them")


@pytest.fixture
def nothing_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Server:
    """What Client wants of a server, behind a link."""

    def __init__(self, link: str) -> None:
        self.link = link
        self.server_address = ("127.0.0.1", int(link.split(":")[2].partition("/")[0]))


def visit(folder: Path, act: Act, limit_s: float = 600) -> dict[str, Any]:
    """Run a check on a browser that does ``act``."""
    device = transport.open_browser(get_target("browser"))
    threads: list[threading.Thread] = []

    def announce(link: str) -> None:
        client = Client(Server(link))  # type: ignore[arg-type]
        threads.append(threading.Thread(target=act, args=(client,)))
        threads[0].start()

    device.announce = announce
    with device:
        device.push({"manifest.json": folder / "manifest.json"}, lambda *_: None)
        try:
            return device.run(Job("check", {}, limit_s), lambda *_: None)
        finally:
            for thread in threads:
                thread.join()


def whole(client: Client) -> None:
    client.claim(client.token())
    client.get("/job")
    send(client, "float", LOGITS)
    send(client, "onnxruntime", LOGITS)
    client.post("/finish", {"browser": "Test 1"})


def half(client: Client) -> None:
    client.claim(client.token())
    client.get("/job")


def test_a_browser_that_sends_all_gives_a_result(tiny: Path, set_up: None) -> None:
    result = visit(tiny, whole)
    assert result["artifacts"]["onnxruntime"]["golden"]["top1"] == 1.0
    assert result["device"] == {"browser": "Test 1", "cpu": "Test 1, WebAssembly"}
    assert any("not compared with the host" in note for note in result["conditions"]["notes"]), "its files run nowhere"


@pytest.mark.parametrize(
    ("act", "constant", "limit_s", "said"),
    [
        (half, "_SILENT_S", 600, "the browser has been silent for 0 s; keep the page open"),
        (lambda client: None, "_COME_S", 600, "no browser came within 0 s"),
        (half, "_LOOK_S", 0.5, "the time limit is over"),
    ],
)
def test_a_browser_that_does_not_end_is_no_result(
    act: Act, constant: str, limit_s: float, said: str, tiny: Path, set_up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, constant, 0.2)
    with pytest.raises(TargetError, match=said):
        visit(tiny, act, limit_s)


@pytest.mark.parametrize(("address", "said"), [("browser:wifi", "unknown word 'wifi'.*chromium, lan, https, webgpu")])
def test_an_address_that_is_none(address: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        transport.open_browser(get_target(address))


def test_it_does_checks_only(tiny: Path) -> None:
    device = transport.open_browser(get_target("browser"))
    device.push({"manifest.json": tiny / "manifest.json"}, lambda *_: None)
    with pytest.raises(TargetError, match="a browser cannot do 'bench'"):
        device.run(Job("bench", {}), lambda *_: None)
    with pytest.raises(TargetError, match=r"a browser has no outputs\.npz"):
        device.pull("outputs.npz")


def test_without_chromium_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no Chromium on this machine; sudo apt install chromium"):
        chromium.Chromium("http://127.0.0.1/")
    with pytest.raises(TargetError, match="openssl is not installed"):
        make_certificate("127.0.0.1")


def test_a_chromium_that_ends_early_is_said(
    tiny: Path, set_up: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    device = transport.open_browser(get_target("browser:chromium"))
    device.push({"manifest.json": tiny / "manifest.json"}, lambda *_: None)
    with pytest.raises(TargetError, match="Chromium ended with code 7"):
        device.run(Job("check", {}), lambda *_: None)


def test_runtimes_that_are_not_there(nothing_set_up: Path, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", str(tiny)]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    with pytest.raises(TargetError, match="run once: kbit serve --setup"):
        browser.Page(tiny).__enter__()


def test_a_language_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "lm")
    manifest = json.loads((tiny / "manifest.json").read_text()) | {"language_model": {}}
    (tmp_path / "lm" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TargetError, match="tiny is a language model, which the page cannot run; check it on"):
        browser.Page(tmp_path / "lm").__enter__()


def test_set_up_without_npm_leaves_nothing(
    nothing_set_up: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["serve", "--setup"]) == 2
    assert "npm is not installed; sudo apt install npm" in capfd.readouterr().err
    assert not nothing_set_up.exists()


def test_set_up_that_fails_leaves_nothing(
    nothing_set_up: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error network is down' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert cli.main(["serve", "--setup"]) == 2
    assert "npm failed: npm error network is down" in capfd.readouterr().err
    assert [path for path in nothing_set_up.rglob("*") if path.is_file()] == []


def test_a_runtime_that_was_altered_is_not_served(
    set_up: None, nothing_set_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.delenv("XDG_CACHE_HOME")
        good = runtimes.cache_folder()
    shutil.copytree(good, runtimes.cache_folder())
    path = runtimes.cache_folder() / "ort.wasm.min.mjs.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"//"))
    with pytest.raises(TargetError, match="not the file that this version of kbit pins"):
        runtimes.read("ort.wasm.min.mjs")
    path.write_bytes(b"x")
    with pytest.raises(TargetError, match="cannot be read"):
        runtimes.read("ort.wasm.min.mjs")


def test_the_lock_file_pins_every_package_and_names_no_registry() -> None:
    lock = json.loads(runtimes._pinned("package-lock.json"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages.keys() >= {"node_modules/onnxruntime-web", "node_modules/@litertjs/core"}
    for name, entry in packages.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry
    assert b"http" not in runtimes._pinned("package-lock.json")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["serve"], "name a bundle, or --setup"),
        (["serve", "nonesuch"], "nonesuch is not a folder"),
        (["serve", "nonesuch", "--port", "70000"], "--port': Input should be less"),
        (["serve", "nonesuch", "--threads", "0"], "--threads': Input should be greater"),
        (["check", "nonesuch", "--on", "browser"], "nonesuch is not a folder"),
    ],
)
def test_a_user_mistake_is_one_line(words: list[str], line: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    err = capfd.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_a_machine_in_no_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoRoute:
        def __init__(self, *_: Any) -> None: ...
        def __enter__(self) -> NoRoute:
            return self

        def __exit__(self, *_: Any) -> None: ...
        def connect(self, _: Any) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr(page.socket, "socket", NoRoute)
    with pytest.raises(TargetError, match="in no network that a phone could reach; name an address: --host"):
        page.lan_address()
