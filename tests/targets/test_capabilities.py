"""What widths buy where: shipped rows, users' own, and what an export says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from exporter import probing, worth
from exporter.cli import main
from exporter.quantization import quantize
from exporter.recipe import Quantize
from targets import Target, TargetError, get_target, list_targets
from targets.capabilities import Capability, buys_nothing, capabilities, judged, save

KITCHEN = Target("ssh://pi@kitchen:22", "", "ssh", "pi@kitchen:22")


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_rows_are_kept_and_come_first() -> None:
    rows = [
        Capability("Conv 3x3", "tflite", 8, 8, True, 2.5),
        Capability("MatMul 512", "onnxruntime", 4, 8, False, 0.9, "latency", True),
    ]
    place = save(KITCHEN, rows)
    assert place.is_file()
    assert capabilities(KITCHEN) == rows
    place.write_text("[{}]")
    with pytest.raises(TargetError, match="not a table of capabilities"):
        capabilities(KITCHEN)


@pytest.mark.parametrize(
    ("speeds", "low_bits"),
    [
        ({8: 2.0, 4: 2.0}, {8: True, 4: False}),
        ({8: 2.0, 4: 3.0}, {8: True, 4: True}),
        ({8: 0.5, 4: 0.9}, {8: False, 4: False}),
        ({8: 0.5, 4: 1.5}, {8: False, 4: True}),
        ({16: 1.5, 4: 0.5}, {16: True, 4: False}),
    ],
)
def test_fewer_bits_must_beat_what_is_wider(speeds: dict, low_bits: dict) -> None:
    rows = judged([Capability("MatMul 512", "tflite", bits, 0, False, speed) for bits, speed in speeds.items()])
    assert {row.weight_bits: row.low_bits for row in rows} == low_bits


@pytest.mark.parametrize(
    ("op", "bits", "activations", "dynamic", "in_vain"),
    [
        ("Conv 3x3", 8, 8, False, False),
        ("Conv 3x3", 4, 8, False, True),
        ("Conv 3x3", 3, 8, False, True),
        ("Conv 3x3", 7, 8, False, True),  # it runs in the kernel of 8 bits
        ("Conv 1x1", 8, 8, False, True),
        ("Conv 3x3", 8, 8, True, False),  # not measured
        ("Relu", 8, 8, False, False),
    ],
)
def test_what_is_in_vain(op: str, bits: int, activations: int, dynamic: bool, in_vain: bool) -> None:
    save(KITCHEN, [
        Capability("Conv 3x3", "tflite", 8, 8, True, 2.5), Capability("Conv 3x3", "tflite", 4, 8, False, 2.5),
        Capability("Conv 1x1", "tflite", 8, 8, False, 0.9),
    ])  # fmt: skip
    assert (buys_nothing(KITCHEN, "tflite", op, bits, activations, dynamic) is not None) == in_vain


def test_shipped_rows_are_sound() -> None:
    shipped = {target.name: capabilities(target) for target in list_targets()}
    assert shipped["host"]
    assert shipped["emulated-pi5"]
    assert shipped["raspberry-pi-5"] == shipped["emulated-pi5"], "until somebody has measured the board itself"
    probed = {(each.op, *width) for each in probing._PROBES for width in probing._WIDTHS.values()}
    for name, rows in shipped.items():
        assert judged(rows) == rows
        assert not rows or {(row.op, *row.width) for row in rows} == probed
        for row in rows:
            assert row.source == "instructions" or (name == "host" and row.source.startswith("latency, "))
    mine = Target("mine", "", base="raspberry-pi-5")
    assert capabilities(mine) == shipped["raspberry-pi-5"]
    assert capabilities(Target("nonesuch", "")) == []


@pytest.mark.parametrize("each", probing._PROBES, ids=lambda each: each.op)
@pytest.mark.parametrize("width", probing._WIDTHS, ids="-".join)
def test_a_plan_finds_the_row_of_what_was_probed(each: probing._Probe, width: tuple[str, str]) -> None:
    model, samples = probing._model(each)
    wishes = Quantize(weights=width[0], activations=width[1], rounder="nearest")  # type: ignore[arg-type]
    found = quantize(model, wishes, lambda: [samples], count=1)
    asked = probing._WIDTHS[width]
    wanted = asked if not asked[2] or "MatMul" in each.op else (asked[0], 0, False)  # dynamic is for linear layers
    save(KITCHEN, [Capability(each.op, "tflite", *wanted[:2], False, 0.5, "latency", wanted[2])])
    rest = [] if width[1] == "int16" else ["onnxruntime"]  # where nothing was measured, what is known of int16 is said
    (said,) = worth.no_gains(found.model, found.rounded.plan, [KITCHEN], ["tflite", *rest])
    assert (said.op, said.weight_bits, said.activation_bits, said.dynamic) == (each.op, *wanted)
    assert "no faster than" in said.reason


def test_of_int16_activations_it_is_known_without_measuring() -> None:
    model, samples = probing._model(probing._PROBES[0])
    found = quantize(model, Quantize(activations="int16"), lambda: [samples], count=1)
    said = worth.no_gains(found.model, found.rounded.plan, [KITCHEN], ["onnxruntime", "tflite"])
    assert [(each.runtime, each.measured, len(each.nodes)) for each in said] == [
        ("onnxruntime", None, 1),
        ("tflite", None, 1),
    ]
    assert all(each.reason.startswith("slower than float") for each in said)


def test_an_export_says_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, samples = probing._model(probing._PROBES[0])
    onnx.save(ir.to_proto(model), tmp_path / "conv.onnx")
    np.savez(tmp_path / "samples.npz", **samples)
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.toml").write_text('base = "raspberry-pi-5"\n')
    (tmp_path / "recipe.toml").write_text(
        '[model]\nsource = "conv.onnx"\n[data]\ncalibration = "samples.npz"\n[quantize]\nweights = "int4"\n'
        '[targets]\nnames = ["mine"]\n'
    )
    assert main(["export", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "bundle")]) == 0
    assert "no faster than 8 bits" in capfd.readouterr().out
    analysis = json.loads((tmp_path / "bundle" / "analysis.json").read_text())
    assert {row["width"] for row in analysis["no_gains"]} == {"4-bit weights, 8-bit activations"}
    assert {row["target"] for row in analysis["no_gains"]} == {"mine"}
    assert "What buys no speed" in (tmp_path / "bundle" / "report.html").read_text()


@pytest.mark.slow
def test_probe(monkeypatch: pytest.MonkeyPatch, own_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    widths = {key: probing._WIDTHS[key] for key in (("int8", "int8"), ("int4", "dynamic"))}
    monkeypatch.setattr(probing, "_PROBES", probing._PROBES[-1:])
    monkeypatch.setattr(probing, "_WIDTHS", widths)
    monkeypatch.setattr(probing, "_SECONDS", 2.0)
    rows, place = probing.probe("host", lambda *_: None)
    assert {(row.runtime, *row.width) for row in rows} == {
        (runtime, *width) for runtime in ("onnxruntime", "tflite") for width in widths.values()
    }
    assert all(row.op == "MatMul 512" and row.speed > 0 and row.source.startswith("latency, ") for row in rows)
    assert place.is_relative_to(own_folder)
    assert capabilities(get_target("host")) == rows
    assert main(["targets", "host"]) == 0
    assert "buys speed" in capfd.readouterr().out
