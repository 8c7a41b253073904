"""The search on a small network: the budget holds, it beats uniform widths, resumes, and does not depend on workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from exporter.cli import main
from exporter.errors import KbitError
from exporter.quantization import Quantized, quantize
from exporter.quantize import apply
from exporter.recipe import Override, Quantize, Recipe, from_dict, read_recipe
from exporter.reference import divergence
from exporter.search import Budget, Search, search
from exporter.search.allocate import allocate
from exporter.search.kit import round_layer, score, score_shipped, write_kit
from exporter.search.latency import predicted
from exporter.subject import Source, Subject, open_subject
from tests.quantize.graphs import model_of, run

WIDTHS = ("int2", "int3", "int4", "int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose layers differ in how much they matter, its data, and a recipe."""
    place, rng = tmp_path_factory.mktemp("search"), np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    text = """net (float[N,3,8,8] image) => (float[N,5] y) {
        a = Conv <pads = [1,1,1,1]> (image, w1, b1)
        b = Relu (a)
        c = Conv <pads = [1,1,1,1]> (b, w2, b2)
        d = Relu (c)
        s = Add (b, d)
        e = Conv <pads = [1,1,1,1]> (s, w3, b3)
        f = Relu (e)
        p = GlobalAveragePool (f)
        q = Flatten (p)
        y = Gemm <transB = 1> (q, w4, b4)
    }"""
    weights = {"w1": 2 * noise(16, 3, 3, 3), "w2": 0.1 * noise(16, 16, 3, 3), "w3": noise(24, 16, 3, 3)}
    weights |= {"w4": 6 * noise(5, 24), **{f"b{i}": 0.1 * noise(n) for i, n in ((1, 16), (2, 16), (3, 24), (4, 5))}}
    model = model_of(text, **weights)
    ir.save(model, place / "net.onnx")
    images = rng.standard_normal((160, 3, 8, 8)).astype(np.float32)
    labels = run(model, {"image": images})["y"].argmax(axis=1)
    np.savez(place / "calib.npz", image=images[:96], labels=labels[:96])
    np.savez(place / "test.npz", image=images[96:], labels=labels[96:])
    (place / "recipe.toml").write_text(
        '[model]\nsource = "net.onnx"\n[data]\ncalibration = "calib.npz"\nevaluation = "test.npz"\n', "utf-8"
    )
    return place


def opened(folder: Path) -> tuple[Recipe, Subject]:
    recipe = read_recipe(folder / "recipe.toml")
    return recipe, open_subject(recipe, folder)


def found(folder: Path, out: Path, average: float = 3, **options: object) -> Search:
    return search(*opened(folder), Budget(average=average), out=out, widths=WIDTHS, **options)  # type: ignore[arg-type]


def body(out: Path) -> dict:
    return json.loads((out / "search.json").read_text("utf-8"))


def parted(model: ir.Model, made: Quantized, images: np.ndarray) -> float:
    """How far the network as it is exported is from the float one."""
    exact, found = (run(graph, {"image": images})["y"] for graph in (model, apply(made.model, made.rounded)))
    return divergence(exact.astype(np.float64), found.astype(np.float64), classes=True)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    found(folder, folder / "whole", workers=2)
    return folder / "whole"


def test_the_plan_holds_the_budget_and_beats_uniform_widths(whole: Path) -> None:
    result = body(whole)
    best, uniform = result["best"], result["uniform"]["int3"]
    assert best["bytes"] <= result["budget"] == uniform["bytes"]
    assert best["shipped"]["divergence"] < 0.7 * uniform["shipped"]["divergence"]
    assert len(set(best["widths"])) > 1
    assert result["uniform"]["int4"]["shipped"] is None, "only what fits is made"


def test_what_is_chosen_by_is_what_export_makes(folder: Path, whole: Path) -> None:
    result, (recipe, subject) = body(whole), opened(folder)
    best = result["best"]
    overrides = [Override(match=f"w{i + 1}", weights=width) for i, width in enumerate(best["widths"])]
    model = subject.prepared()
    made = quantize(model, Quantize(override=overrides, observer=recipe.quantize.observer), subject.batches(32))
    images = np.load(folder / "calib.npz")["image"]
    assert best["shipped"]["divergence"] == pytest.approx(parted(model, made, images), rel=0.05)


def test_a_budget_of_latency(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers stay in float as far as the latency allows; what is compared is what is exported."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # the shipped table, not one of this machine
    out = folder / "fast"
    words = ["search", str(folder / "recipe.toml"), "--max-latency", "0.8", "--on", "host", "--out", str(out)]
    assert main(words) == 0
    assert "0.800 of float's latency on host, predicted" in " ".join(capfd.readouterr().out.split())
    result, model = body(out), opened(folder)[1].prepared()
    best = result["best"]
    widths = {layer["weight"]: width for layer, width in zip(result["layers"], best["widths"], strict=True)}
    times = predicted(model, list(widths), ["int8", "float"], Quantize(), "host", ("onnxruntime", "tflite"))
    assert best["time"] == pytest.approx(sum(times[name][width] for name, width in widths.items()))
    assert best["time"] <= 0.8 < result["uniform"]["float"]["time"] == pytest.approx(1)
    assert set(best["widths"]) == {"int8", "float"}
    assert best["shipped"]["divergence"] < result["uniform"]["int8"]["shipped"]["divergence"]
    assert main(["export", str(out / "recipe.toml"), "--out", str(folder / "fast-bundle")]) == 0
    plan = json.loads((folder / "fast-bundle" / "plan.json").read_text("utf-8"))
    planned = {tensor["name"] for tensor in plan["tensors"] if tensor["role"] == "weight"}
    assert planned == {name for name, width in widths.items() if width == "int8"}
    assert "latency on host, predicted" in (out / "search.html").read_text("utf-8")


@pytest.mark.parametrize("corrected", [False, True])
def test_biases_are_compared_as_they_are_exported(folder: Path, tmp_path: Path, corrected: bool) -> None:
    """A rounder that sees no data leaves them alone unless it is told otherwise."""
    recipe, subject = opened(folder)
    wishes = Quantize(rounder="nearest", bias_correction=corrected)
    recipe = structs.replace(recipe, quantize=wishes)
    model, images = subject.prepared(), np.load(folder / "calib.npz")["image"]
    assert subject.calibration is not None
    write_kit(tmp_path, recipe, model, subject.calibration, None, len(images))
    round_layer(str(tmp_path), "w1", ["int3"])
    (divergence_seen, _) = score(str(tmp_path), {"w1": "int3"}, "calibration")
    override = Override(match="w1", weights="int3", activations="float")
    made = quantize(model, structs.replace(wishes, weights="float", override=[override]), subject.batches(32))
    assert divergence_seen == pytest.approx(parted(model, made, images), rel=1e-3)


@pytest.mark.parametrize(("rounded_with", "judged_by"), [(48, slice(48, 96)), (64, slice(64, 96)), (65, slice(65))])
def test_plans_are_chosen_by_samples_held_out(
    folder: Path, tmp_path: Path, rounded_with: int, judged_by: slice
) -> None:
    """Where half as many are left as layers are rounded with; else by those."""
    recipe, subject = opened(folder)
    model, images = subject.prepared(), np.load(folder / "calib.npz")["image"]
    assert subject.calibration is not None
    write_kit(tmp_path, recipe, model, subject.calibration, None, rounded_with)
    (divergence_seen, _) = score_shipped(str(tmp_path), {"w2": "int2"})
    wishes = structs.replace(recipe.quantize, override=[Override(match="w2", weights="int2")])
    feeds = [{"image": images[start : min(start + 32, rounded_with)]} for start in range(0, rounded_with, 32)]
    made = quantize(model, wishes, lambda: iter(feeds))
    assert divergence_seen == pytest.approx(parted(model, made, images[judged_by]), rel=1e-2)


def test_each_layer_is_measured_alone(whole: Path) -> None:
    for layer in body(whole)["layers"]:
        errors = [layer["choices"][w]["error"] for w in WIDTHS]
        assert errors == sorted(errors, reverse=True)
        assert layer["choices"]["int8"]["error"] < 1e-3
        assert 0 <= layer["choices"]["int8"]["alone"]["divergence"] < layer["choices"]["int2"]["alone"]["divergence"]
        assert layer["choices"]["int8"]["alone"]["metric"] >= 95


def test_the_front_is_one(whole: Path) -> None:
    result = body(whole)
    sizes, losses = ([p[key] for p in result["front"]] for key in ("bytes", "divergence"))
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)
    assert {tuple(p["widths"]) for p in result["front"]} <= {tuple(p["widths"]) for p in result["points"]}
    same = {tuple(p["widths"]): (p["bytes"], p["divergence"]) for p in result["points"]}
    assert all(same[tuple(p["widths"])] == (p["bytes"], p["divergence"]) for p in result["front"])
    for point in result["points"]:
        beaten = (p["bytes"] <= point["bytes"] and p["divergence"] <= point["divergence"] for p in result["front"])
        assert any(beaten)


def test_a_killed_search_goes_on_and_ends_with_the_same_plan(folder: Path, whole: Path) -> None:
    out, seen = folder / "killed", 0

    class Killed(Exception):
        pass

    def kill(stage: str, done: int, total: int | None) -> None:
        nonlocal seen
        seen += stage.startswith("plans by layers") and done > 2
        if seen:
            raise Killed

    with pytest.raises(Killed):
        found(folder, out, workers=2, progress=kill)
    known = (out / "journal.jsonl").read_text("utf-8")
    (out / "journal.jsonl").write_text(known + '[["score", {"w1": "in', "utf-8")  # killed while it wrote
    asked: list[int] = []
    found(folder, out, workers=1, progress=lambda stage, done, total: asked.append(done) if "alone" in stage else None)
    assert asked == [16], "what was measured is not measured again"
    assert body(out) == body(whole)


def test_a_dask_cluster_gives_the_same_plan(folder: Path, whole: Path) -> None:
    distributed = pytest.importorskip("dask.distributed")
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**settings, silence_logs=50) as cluster:
        found(folder, folder / "dask", scheduler=cluster.scheduler_address)
    assert body(folder / "dask") == body(whole)


def test_the_command_writes_a_recipe_that_exports(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--widths", ",".join(WIDTHS), "--average", "3", "--workers", "1"]
    assert main(["search", str(folder / "recipe.toml"), "--out", str(folder / "whole"), *words]) == 0
    out = capfd.readouterr().out
    assert "found" in out
    assert "all int3" in out
    assert (folder / "whole" / "search.html").read_text("utf-8").count('role="img"') == 2
    assert main(["export", str(folder / "whole" / "recipe.toml"), "--out", str(folder / "bundle"), "--json"]) == 0
    plan = json.loads((folder / "bundle" / "plan.json").read_text("utf-8"))
    bits = {t["name"]: f"int{t['bits']}" for t in plan["tensors"] if t["role"] == "weight"}
    assert bits == dict(zip(["w1", "w2", "w3", "w4"], body(folder / "whole")["best"]["widths"], strict=True))


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no budget": (lambda f: Budget(), "needs one budget"),
    "two budgets": (lambda f: Budget(1, 2.0), "needs one budget"),
    "latency of nothing": (lambda f: Budget(latency=0.5), "give --max-latency SHARE and --on TARGET both"),
    "latency below 0": (lambda f: Budget(latency=-1, target="host"), "expected a number > 0"),
    "runtime": (lambda f: Budget(latency=1, target="host", runtimes=("torch",)), "unknown torch"),
    "too fast": (
        lambda f: search(*opened(f), Budget(latency=0.1, target="host"), out=f / "x"),
        "the fastest plan takes 0.",
    ),
    "not measured": (
        lambda f: search(*opened(f), Budget(latency=0.5, target="browser"), out=f / "x"),
        "nothing was measured",
    ),
    "too small": (lambda f: search(*opened(f), Budget(100), out=f / "x", widths=("int4",)), "the narrowest width"),
    "outside": (lambda f: found(f, f / "whole", 9), "lies outside the widths"),
    "no width": (lambda f: search(*opened(f), Budget(9), out=f / "x", widths=("int9",)), "no width of weights"),
    "other data": (lambda f: search(*opened(f), Budget(9), out=f / "whole", samples=8), "of another recipe"),
    "below a file": (lambda f: search(*opened(f), Budget(9), out=f / "net.onnx" / "x"), "cannot write"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(folder: Path, whole: Path, mistake: str) -> None:
    act, words = MISTAKES[mistake]
    with pytest.raises(KbitError, match=words):
        act(folder)


def test_without_calibration_samples(folder: Path, tmp_path: Path) -> None:
    recipe = from_dict({"model": {"source": str(folder / "net.onnx")}})
    with pytest.raises(KbitError, match=r"needs data\.calibration"):
        search(recipe, open_subject(recipe, tmp_path, Source(recipe.model)), Budget(average=3), out=tmp_path)


SIZES = st.lists(st.lists(st.integers(1, 40), min_size=3, max_size=3), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 2**32 - 1), st.integers(1, 160))
def test_allocation_is_exact(sizes: list[list[int]], seed: int, budget: int) -> None:
    costs = np.random.default_rng(seed).random((len(sizes), 3)).tolist()
    plans = [
        p for p in product(range(3), repeat=len(sizes)) if sum(s[i] for s, i in zip(sizes, p, strict=True)) <= budget
    ]
    got = allocate(costs, sizes, budget)
    if not plans:
        assert got is None
        return
    price = {p: sum(c[i] for c, i in zip(costs, p, strict=True)) for p in plans}
    assert got is not None
    assert price[tuple(got)] == pytest.approx(min(price.values()))
