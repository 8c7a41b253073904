"""The page in a real browser with a phone's profile: what it runs, says, shows, and how it takes what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import cli
from targets.transports.browser import Address, Page, Said, Settings
from tests.browser.conftest import Phone, altered, dressed

pytestmark = pytest.mark.xdist_group("browser")
SHORT = Settings(timing_s=0.3)


@contextmanager
def served(bundle: Path, settings: Settings = SHORT, **address: Any) -> Iterator[tuple[Page, list[dict[str, Any]]]]:
    verdicts: list[dict[str, Any]] = []
    with Page(bundle, Address(**address), settings, Said(done=verdicts.append), reuse=True) as page:
        yield page, verdicts


@pytest.mark.parametrize(
    "name", ["int8", "float", *(pytest.param(f"{kind} io", marks=pytest.mark.slow) for kind in ("int8", "int16"))]
)
def test_both_runtimes_say_what_the_host_says(name: str, bundles: Any, phone: Phone) -> None:
    with served(bundles(name)) as (page, verdicts):
        phone.open(page.link)
        assert phone.verdict() == "passed", phone.text()
        phone.shot(f"passed {name}")
    (verdict,) = verdicts
    assert verdict["passed"], verdict["reasons"]
    assert verdict["evaluation_samples"] == 100
    assert verdict["artifacts"].keys() == {"float", "onnxruntime", "tflite"}
    for facts in verdict["artifacts"].values():
        assert facts["errors"] == []
        assert facts["host"]["top1"] == 1.0
        assert facts["host"]["samples"] == 100
        assert (facts["host"]["max_lsb"] or 0) <= (8 if name == "int16 io" else 1)
        assert "latency_ms" not in facts
        assert facts["browser_latency_ms"]["n"] >= 20
    assert any("max_latency_ms was not judged" in note for note in verdict["notes"])
    assert f"{verdict['artifacts']['tflite']['metric']:.2f} %" in phone.text("#artifacts article:last-child")
    assert phone.complaints() == []


def test_it_is_readable_in_the_dark_and_while_it_runs(bundles: Any, phone: Phone) -> None:
    phone.dark(True)
    try:
        with served(bundles("int8"), Settings()) as (page, _):
            phone.open(page.link)
            while "of 100" not in phone.text("#artifacts"):
                assert phone.state() != "broken"
            assert phone.state() == "run"
            phone.shot("running dark")
            assert phone.verdict() == "passed"
            phone.shot("passed dark")
    finally:
        phone.dark(False)
    assert phone.sizes()[0] <= 412, "nothing sticks out to the side"


def test_sound_on_a_narrow_screen(tones: Path, need_browser: str) -> None:
    with dressed(need_browser, width=320) as phone, served(tones) as (page, verdicts):
        phone.open(page.link)
        assert phone.verdict() == "passed", phone.text()
        phone.shot("sound narrow")
        assert phone.sizes()[0] <= 320, "nothing sticks out to the side"
    for facts in verdicts[0]["artifacts"].values():
        assert facts["host"]["top1"] == 1.0
        assert facts["host"]["samples"] == 100
        assert (facts["host"]["max_lsb"] or 0) <= 1


def test_a_gate_that_fails_is_said_in_words(bundles: Any, phone: Phone, tmp_path: Path) -> None:
    bundle = altered(bundles("int8"), tmp_path / "strict", gates={"max_drop": -5, "min_agreement": 0.9})
    with served(bundle) as (page, verdicts):
        phone.open(page.link)
        assert phone.verdict() == "failed"
        phone.shot("failed")
    assert "Not passed" in phone.text("#verdict")
    assert "limit -5 points" in phone.text("#verdict")
    assert not verdicts[0]["passed"]


def test_a_job_that_hangs_is_stopped_and_the_rest_runs(bundles: Any, phone: Phone, tmp_path: Path) -> None:
    bundle = altered(bundles("int8"), tmp_path / "endless", model_onnx=endless())
    with served(bundle, Settings(timing_s=0.1, limit_s=4)) as (page, verdicts):
        phone.open(page.link)
        assert phone.verdict() == "failed"
        phone.shot("hung")
    facts = verdicts[0]["artifacts"]
    assert facts["onnxruntime"]["errors"] == ["no sign of life for 4 s while running the golden samples: stopped"]
    assert facts["float"]["errors"] == facts["tflite"]["errors"] == []
    assert facts["tflite"]["metric"] > 80
    assert any("not done before the browser" in note for note in verdicts[0]["notes"]), "the host hangs as well"


def endless() -> bytes:
    """The digits' interface, and a Loop that never ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Add", ["x", "one"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 10]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10]),
        ],
    )
    nodes = [
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zeros"], ["start"]),
        helper.make_node("Loop", ["", "true", "start"], ["logits"], body=body),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((1, 10), np.float32), "zeros"),
        numpy_helper.from_array(np.ones((1, 10), np.float32), "one"),
        numpy_helper.from_array(np.array(True), "true"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    graph = helper.make_graph(
        nodes, "endless", [image], [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])], constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def test_files_that_no_runtime_takes_are_results(bundles: Any, phone: Phone, tmp_path: Path) -> None:
    bundle = altered(bundles("int8"), tmp_path / "rubbish", model_onnx=b"rubbish", model_tflite=b"rubbish")
    with served(bundle) as (page, verdicts):
        phone.open(page.link)
        assert phone.verdict() == "failed"
        phone.shot("rubbish")
    facts = verdicts[0]["artifacts"]
    assert facts["float"]["errors"] == []
    for name in ("onnxruntime", "tflite"):
        assert len(facts[name]["errors"]) == 1
        assert "\n" not in facts[name]["errors"][0]
        assert f"{name}: {facts[name]['errors'][0]}" in verdicts[0]["reasons"]


def test_a_link_works_once_and_a_reload_goes_on(bundles: Any, phone: Phone) -> None:
    with served(bundles("int8")) as (page, verdicts):
        first = page.link
        phone.open(first)
        assert phone.verdict() == "passed"
        assert phone.driver.current_url.endswith("/"), "the token is no longer in the address"
        phone.driver.refresh()
        assert phone.verdict() == "passed"
        assert len(verdicts) == 2
        phone.driver.delete_all_cookies()
        phone.open(first)
        assert phone.verdict() == "broken"
        assert "this link was used already" in phone.text("#verdict")
        phone.shot("used link")
        phone.open(page.link)
        assert phone.verdict() == "passed"
    phone.open("about:blank")


@pytest.mark.slow
def test_a_computer_that_goes_away_is_said(bundles: Any, phone: Phone) -> None:
    with served(bundles("int8"), Settings(timing_s=60)) as (page, _):
        phone.open(page.link)
        while "of 100" not in phone.text("#artifacts"):
            assert phone.state() != "broken"
    assert phone.verdict() == "broken"
    assert "cannot be reached" in phone.text("#verdict")
    phone.shot("gone")


def test_plain_http_from_another_host(bundles: Any, phone: Phone) -> None:
    """As a phone of the network sees it: no secure context, one thread."""
    with served(bundles("int8")) as (page, verdicts):
        phone.open(page.link.replace("127.0.0.1", "phone.test"))
        assert phone.verdict() == "passed"
    device = verdicts[0]["device"]
    assert (device["secure"], device["isolated"]) == (False, False)
    assert device["platform"] == "Android"


@pytest.mark.slow
def test_https_gives_threads(bundles: Any, phone: Phone) -> None:
    with served(bundles("int8"), Settings(threads=2, timing_s=0.3), https=True) as (page, verdicts):
        phone.open(page.link.replace("127.0.0.1", "phone.test"))
        assert phone.verdict() == "passed"
    assert verdicts[0]["device"]["isolated"] is True
    assert verdicts[0]["device"]["threads"] == 2
    assert phone.complaints() == []


def test_threads_that_the_page_cannot_have_are_an_error(bundles: Any, phone: Phone) -> None:
    with served(bundles("int8"), Settings(threads=2, timing_s=0.1)) as (page, verdicts):
        phone.open(page.link.replace("127.0.0.1", "phone.test"))
        assert phone.verdict() == "failed"
    for facts in verdicts[0]["artifacts"].values():
        assert facts["errors"] == ["2 threads need a page that the browser isolates: kbit serve --https"]


@pytest.mark.slow
def test_webgpu(bundles: Any, need_browser: str) -> None:
    """On a GPU that is software: what comes out counts, not how long it takes."""
    flags = ("enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader", "enable-features=Vulkan")
    with (
        dressed(need_browser, *flags) as phone,
        served(bundles("int8"), Settings(samples=20, timing_s=0.1, accelerator="webgpu")) as (page, verdicts),
    ):
        phone.open(page.link)
        assert phone.verdict() == "passed", phone.text()
    assert verdicts[0]["device"]["accelerator"] == "webgpu"
    assert all(facts["host"]["top1"] == 1.0 for facts in verdicts[0]["artifacts"].values())


def test_a_browser_without_a_gpu_says_so(bundles: Any, phone: Phone) -> None:
    with served(bundles("int8"), Settings(timing_s=0.1, accelerator="webgpu")) as (page, verdicts):
        phone.open(page.link)
        assert phone.verdict() == "failed"
    for facts in verdicts[0]["artifacts"].values():
        assert facts["errors"] == ["this browser offers no WebGPU adapter; leave --webgpu out"]


def test_kbit_check_on_a_browser(
    bundles: Any, need_browser: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = bundles("int8")
    for gates, code in (({"max_drop": 2}, 0), ({"max_drop": -5}, 1)):
        copy = altered(bundle, tmp_path / str(code), gates=gates)
        assert cli.main(["check", str(copy), "--on", "browser:chromium", "--json"]) == code
        found = json.loads(capfd.readouterr().out)
        assert found["passed"] is (code == 0)
        assert found["target"] == "browser:chromium"
        assert json.loads((copy / "check.json").read_text()) == found
        assert all(facts["host"]["top1"] == 1.0 for facts in found["artifacts"].values())
    assert cli.main(["report", str(copy)]) == 0
    assert ", WebAssembly" in (copy / "report.html").read_text()
