"""What workers need, in a folder: the float graph, samples ready for it, and the layers as each width leaves them.

A worker opens the kit once. Nothing in it is a path to anywhere else, so any machine that sees the folder can help.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.data import Dataset
from exporter.errors import DataError
from exporter.files import replacing, writing
from exporter.quantization import quantize
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize, Recipe, from_dict, to_dict, with_overrides
from exporter.reference import divergence, session
from exporter.rounding import LAYER_ROUNDERS, WEIGHT_ROUNDERS
from exporter.rounding.frontier import Frontier
from exporter.rounding.layers import Layer, layers_of
from exporter.rounding.moments import Moments, sums
from exporter.threads import one_blas_thread
from exporter.types import QParams, TensorPlan
from targets.agent import metrics

__all__ = ["layer_names", "round_layer", "score", "score_shipped", "write_kit"]

_ROWS = 32
_POSITIONS = 1 << 13  # output positions of a layer that its moments are taken over
_MOST = 1 << 28  # bytes of samples of one kind
_LABELS = "labels!"
_KINDS = ("calibration", "held_out", "evaluation")

Array = npt.NDArray[Any]


def write_kit(
    folder: Path, recipe: Recipe, model: ir.Model, calibration: Dataset, evaluation: Dataset | None, samples: int
) -> str:
    """Fill the folder; returns a digest of all that decides what workers measure.

    samples  of calibration that layers are rounded with. As many more, or half as many at least, are held out: rounding
             has not seen them, so they tell plans apart as new data would.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()

    def put(name: str, body: bytes) -> None:
        digest.update(hashlib.sha256(body).digest())
        with replacing(folder / name) as partial:
            partial.write_bytes(body)

    put("model.onnx", ir.to_proto(model).SerializeToString(deterministic=True))
    put("recipe.json", json.dumps(_settings(recipe)).encode())

    def put_samples(name: str, arrays: Mapping[str, Array]) -> int:
        for key, array in arrays.items():
            digest.update(hashlib.sha256(key.encode() + np.ascontiguousarray(array).tobytes()).digest())
        with replacing(folder / f"{name}.npz") as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return len(next(iter(arrays.values())))

    for name in _KINDS:
        (folder / f"{name}.npz").unlink(missing_ok=True)  # of a search before
    count = put_samples("calibration", _some(calibration, 0, samples))
    others = min(calibration.count - count, samples)
    if others >= max(count / 2, graph.fixed_batch(model) or 1):
        put_samples("held_out", _some(calibration, count, others))
    if evaluation is not None:
        put_samples("evaluation", _some(evaluation, 0, evaluation.count))
    return digest.hexdigest()


def _some(dataset: Dataset, start: int, most: int) -> dict[str, Array]:
    """Samples from ``start`` on, as many as memory allows, with their labels where there are any."""
    taken: list[Mapping[str, Array]] = []
    held, stop = 0, min(start + most, dataset.count)
    for first in range(start, stop, _ROWS):
        taken.append(dataset.take(np.arange(first, min(first + _ROWS, stop))))
        held += sum(array.nbytes for array in taken[-1].values())
        if held > _MOST:
            break
    arrays = {key: np.concatenate([batch[key] for batch in taken]) for key in taken[0]}
    if dataset.labels is not None:
        arrays[_LABELS] = dataset.labels[start : start + len(next(iter(arrays.values())))]
    return arrays


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe changes a measurement."""
    quantize = {key: value for key, value in to_dict(recipe.quantize).items() if key not in {"weights", "io"}}
    return {"model": {"source": "-"}, "data": {"metric": recipe.data.metric}, "quantize": quantize}


@dataclass(frozen=True, slots=True, eq=False)
class _Kit:
    folder: Path
    recipe: Recipe
    model: ir.Model
    layers: Mapping[str, Layer]
    arrays: Mapping[str, Mapping[str, Array]]

    def feeds(self, which: str) -> list[dict[str, Array]]:
        arrays = {name: array for name, array in self.arrays[which].items() if name != _LABELS}
        count = len(next(iter(arrays.values())))
        fixed = graph.fixed_batch(self.model)
        rows = fixed or _ROWS
        whole = count - count % rows if fixed else count
        return [{n: a[i : i + rows] for n, a in arrays.items()} for i in range(0, whole, rows)]


@lru_cache(maxsize=2)
def _open(folder: str) -> _Kit:
    place = Path(folder)
    body = json.loads((place / "recipe.json").read_text("utf-8"))
    model = ir.load(place / "model.onnx")
    arrays = {}
    for name in _KINDS:
        if (place / f"{name}.npz").is_file():
            with np.load(place / f"{name}.npz") as archive:
                arrays[name] = {key: archive[key] for key in archive.files}
    recipe = from_dict(body, "recipe.json")
    layers = {layer.weight: layer for layer in reversed(layers_of(model))}
    return _Kit(place, recipe, model, layers, arrays)


def layer_names(model: ir.Model, quantize: Quantize) -> list[str]:
    """Weights whose width can be chosen: of a Conv, Gemm or MatMul that the recipe quantizes, in graph order."""
    tensors = make_plan(model, {}, _stored(quantize, "int8"), samples=True).tensors
    names = dict.fromkeys(layer.weight for layer in layers_of(model))
    found = [name for name in names if name in tensors and tensors[name].qparams is not None]
    if not found:
        raise DataError("the model has no layer whose width can be chosen", "it needs a Conv, Gemm or MatMul")
    return found


def _stored(quantize: Quantize, width: str) -> Quantize:
    """The wishes with every weight at one width, and float activations: they stay out of a comparison of weights."""
    overrides = [{**to_dict(o), "weights": width} for o in quantize.override if o.weights not in {"float", "float16"}]
    kept = [to_dict(o) for o in quantize.override if o.weights in {"float", "float16"}]
    for each in [*overrides, *kept]:
        each["activations"] = "float"
    body: dict[str, Any] = {"model": {"source": "-"}, "quantize": to_dict(quantize)}
    changes = {"quantize.weights": width, "quantize.activations": "float", "quantize.override": [*overrides, *kept]}
    return with_overrides(from_dict(body), changes).quantize


@one_blas_thread
def round_layer(folder: str, name: str, widths: Sequence[str]) -> dict[str, list[float]]:
    """Write the layer at each width; returns by width its bytes and the error of its output."""
    kit = _open(folder)
    layer = kit.layers[name]
    weight = graph.constant(kit.model.graph.initializers[name])
    assert weight is not None
    exact = layer.matrix(weight.astype(np.float64))
    moments = _moments(kit, layer)
    power = float(np.einsum("gok,gkl,gol->", exact, moments.covariance, exact))
    found = {}
    for width in widths:
        if width == "float":
            found[width] = [4.0 * weight.size, 0.0]
            continue
        tensor = make_plan(kit.model, {}, _stored(kit.recipe.quantize, width), samples=True).tensors[name]
        qparams, integers = _rounded(layer, weight.astype(np.float32), moments, tensor)
        real = grid.dequantize(integers, qparams).astype(np.float32)
        off = exact - layer.matrix(real.astype(np.float64))
        error = float(np.einsum("gok,gkl,gol->", off, moments.covariance, off)) / max(power, 1e-30)
        shift = np.einsum("gok,gk->go", off, moments.mean).reshape(-1).astype(np.float32)
        if tensor.rounder not in LAYER_ROUNDERS and not kit.recipe.quantize.bias_correction:
            shift = np.zeros_like(shift)  # as it will be exported
        with replacing(kit.folder / f"{_file(name)}.{width}.npz") as partial, partial.open("wb") as file:
            np.savez(file, weight=real, shift=shift)
        found[width] = [float(_bytes(integers.size, qparams)), error]
    return found


def _file(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _bytes(values: int, qparams: QParams) -> int:
    zeros = 0 if qparams.scheme.symmetric else qparams.scale.size
    return -(-values * qparams.scheme.bits // 8) + 4 * qparams.scale.size + zeros


def _moments(kit: _Kit, layer: Layer) -> Moments:
    feeds = kit.feeds("calibration")
    moments = Moments()
    step = start = 0
    for (source,) in Frontier(kit.model, feeds).reach(layer.source):
        x = source.astype(np.float32)
        positions = layer.positions(x)
        step = step or max(positions * len(feeds) // _POSITIONS, 1) | 1
        if start < positions:
            columns = layer.columns(x, step, start)
            moments.add(sums(columns, columns))
        start = (start - positions) % step
    return moments


def _rounded(
    layer: Layer, weight: npt.NDArray[np.float32], moments: Moments, tensor: TensorPlan
) -> tuple[QParams, Array]:
    """By the recipe's rounder; one that sees data sees the float network's."""
    assert tensor.qparams is not None
    if tensor.rounder in WEIGHT_ROUNDERS:
        return WEIGHT_ROUNDERS[tensor.rounder](weight, tensor.qparams)
    rounder = LAYER_ROUNDERS[tensor.rounder if tensor.rounder in LAYER_ROUNDERS else "gptq"]
    scheme = tensor.qparams.scheme
    qparams = grid.qparams_of_least_error(weight, scheme)
    scale = layer.spread(qparams.scale.astype(np.float64), scheme.grain)
    zero = layer.spread(qparams.zero_point, scheme.grain)
    target = layer.matrix(weight.astype(np.float64))
    return qparams, layer.tensor(rounder(target, moments.covariance, scale, zero, scheme))


@one_blas_thread
def score(folder: str, widths: Mapping[str, str], which: str) -> list[float | None]:
    """Divergence and metric of the network with these layers at these widths, on "calibration" or "evaluation" samples.

    The divergence is the mean Kullback-Leibler divergence of the class probabilities, nats, for top1 and top5; else
    sum (y - q)^2 / sum y^2 of the first output. The metric is None without labels.
    """
    kit = _open(folder)
    outputs = _run(_with(kit, widths), kit.feeds(which))
    exact = _float_outputs(folder, which)
    return [_divergence(kit, exact, outputs), _metric(kit, outputs, which)]


@one_blas_thread
def score_shipped(folder: str, widths: Mapping[str, str]) -> list[float | None]:
    """As ``score``, of the network as kbit export makes it with these widths: activations quantized, and layers rounded
    one after the other where the rounder does so. Divergence on the samples held out, or on those of calibration where
    there are too few; metric on those of evaluation.
    """
    kit = _open(folder)
    wishes = kit.recipe.quantize
    chosen = [{"match": name.replace("[", "[[]"), "weights": width} for name, width in widths.items()]
    changes = {"quantize.override": [*(to_dict(each) for each in wishes.override), *chosen], "quantize.passes": []}
    feeds = kit.feeds("calibration")
    found = quantize(kit.model, with_overrides(kit.recipe, changes).quantize, lambda: iter(feeds))
    shipped = apply(found.model, found.rounded)
    judged = "held_out" if "held_out" in kit.arrays else "calibration"
    outputs = _run(shipped, kit.feeds(judged), optimize=False)  # integer kernels differ by processor
    metric = None
    if "evaluation" in kit.arrays:
        metric = _metric(kit, _run(shipped, kit.feeds("evaluation"), optimize=False), "evaluation")
    return [_divergence(kit, _float_outputs(folder, judged), outputs), metric]


def _divergence(kit: _Kit, exact: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64]) -> float:
    return divergence(exact, outputs, classes=kit.recipe.data.metric in {"top1", "top5"})


def _metric(kit: _Kit, outputs: npt.NDArray[np.float64], which: str) -> float | None:
    labels = kit.arrays[which].get(_LABELS)
    if labels is None or kit.recipe.data.metric not in metrics.METRICS:
        return None
    return float(metrics.score(kit.recipe.data.metric, outputs, labels[: len(outputs)]))


@lru_cache(maxsize=4)
def _float_outputs(folder: str, which: str) -> npt.NDArray[np.float64]:
    kit = _open(folder)
    return _run(kit.model, kit.feeds(which))


def _run(model: ir.Model, feeds: Sequence[Mapping[str, Array]], *, optimize: bool = True) -> npt.NDArray[np.float64]:
    opened = session(model, threads=1, optimize=optimize)  # one thread: the same sums on every machine
    name = opened.get_outputs()[0].name
    return np.concatenate([opened.run([name], dict(batch))[0] for batch in feeds]).astype(np.float64)


def _with(kit: _Kit, widths: Mapping[str, str]) -> ir.Model:
    model = kit.model.clone()
    for name, width in widths.items():
        if width == "float":
            continue
        place = kit.folder / f"{_file(name)}.{width}.npz"
        if not place.is_file():  # the folder was tidied
            round_layer(str(kit.folder), name, [width])
        with np.load(place) as body:
            weight, shift = body["weight"], body["shift"]
        model.graph.initializers[name].const_value = ir.tensor(weight, name=name)
        bias = kit.layers[name].bias
        if bias is not None:
            old = graph.constant(kit.model.graph.initializers[bias])
            assert old is not None
            model.graph.initializers[bias].const_value = ir.tensor((old + shift).astype(np.float32), name=bias)
    return model
