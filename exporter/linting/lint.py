"""All checks of the calibration samples, in the order in which a reader should mend things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter.data import Dataset
from exporter.linting.alternatives import other_preprocessing
from exporter.linting.scan import Scan, scan
from exporter.linting.types import Finding
from exporter.quantize import FLOAT_WEIGHTS, planned_activations
from exporter.recipe import SEEING_SAMPLES, Preprocess, Recipe, to_dict
from exporter.rounding.layers import layers_of
from exporter.subject import Subject

__all__ = ["lint"]

Progress = Callable[[str, int, int | None], None]
# observer -> samples, and values of a tensor, below which its range says little: 20,000 is where the percentile's tail
# (0.005 %) is one value; the histogram has 2,048 bins
_NEEDS: Mapping[str, tuple[int, int]] = {
    "minmax": (32, 0), "percentile": (64, 20_000), "mse": (64, 8_192), "entropy": (128, 8_192),
}  # fmt: skip
_RAW_TOP = 16.0  # networks that take images take them near 1
_SHOWN = 5


def lint(
    recipe: Recipe, subject: Subject, model: ir.Model, progress: Progress = lambda stage, done, total: None
) -> list[Finding]:
    """``model``: the prepared float graph."""
    calibration, evaluation = subject.calibration, subject.evaluation
    other = None if evaluation is None else scan(evaluation)
    if calibration is None:
        return [*_trained_on(subject.training, evaluation, other)]
    looked = scan(calibration, lambda done: progress("lint", done, calibration.count))
    found = [
        *_ranges(calibration, looked, other, recipe.data.preprocess),
        *_better_ways(recipe, subject, model),
        *_layout(calibration, looked),
        *_constant(calibration, looked),
        *_repeated(calibration, looked),
        *_leaked(calibration, looked, evaluation, other),
        *_trained_on(subject.training, evaluation, other),
        *_classes(calibration, evaluation),
        *_few(recipe, calibration, model),
    ]
    return found


def _ranges(data: Dataset, looked: Scan, other: Scan | None, specs: Mapping[str, Preprocess]) -> Iterator[Finding]:
    images = looked.near is not None
    normalised = any((spec.mean, spec.std) != (0.0, 1.0) for spec in specs.values())
    said = f"{data.where}: after preprocessing the values have mean {looked.mean:.3g} and deviation {looked.std:.3g}"
    remedy = "look at scale, mean and std of data.preprocess, and at how the data are stored"
    if images and looked.top > _RAW_TOP and not normalised:
        yield Finding("preprocessing", f"{said}, up to {looked.top:.3g}: raw pixels", remedy)
    elif normalised and (looked.std < 0.2 or looked.std > 10 or abs(looked.mean) > 4):
        yield Finding("preprocessing", f"{said}, where mean 0 and deviation 1 were aimed at: scaled twice?", remedy)
    if other is not None and looked.std > 0 and other.std > 0:
        ratio = looked.std / other.std
        apart = abs(looked.mean - other.mean) / max(looked.std, other.std)
        if not 1 / 3 < ratio < 3 or apart > 1:
            text = f"{said}, those of the evaluation set {other.mean:.3g} and {other.std:.3g}"
            yield Finding("preprocessing", text, "both sets go through one preprocessing: store them alike")


def _better_ways(recipe: Recipe, subject: Subject, model: ir.Model) -> Iterator[Finding]:
    specs: Mapping[str, Any] = {name: to_dict(spec) for name, spec in recipe.data.preprocess.items()}
    for dataset in (subject.calibration, subject.evaluation):
        if dataset is not None and dataset.labels is not None and recipe.data.metric in {"top1", "top5"}:
            found = other_preprocessing(model, dataset, specs, dataset.where)
            if found is not None:
                yield found
            return


def _layout(data: Dataset, looked: Scan) -> Iterator[Finding]:
    if looked.near is not None and looked.far is not None and looked.far > looked.near + 0.02:
        alike = f"neighbours in a row are less alike ({looked.near:.2f}) than values as far apart as there are channels"
        text = f"{data.where}: {alike} ({looked.far:.2f}): the colours lie interleaved"
        yield Finding("layout", text, 'store N,H,W,C data as they are and set source_layout = "NHWC"; do not reshape')


def _constant(data: Dataset, looked: Scan) -> Iterator[Finding]:
    if looked.constant:
        text = f"{data.where}: {_times(len(looked.constant), 'sample')} of one number throughout"
        yield Finding("constant", text, "remove empty samples", looked.constant[:_SHOWN])


def _repeated(data: Dataset, looked: Scan) -> Iterator[Finding]:
    seen: set[bytes] = set()
    again = []
    for place, digest in enumerate(looked.digests):
        if digest in seen and place not in looked.constant:
            again.append(place)
        seen.add(digest)
    if again:
        text = f"{data.where}: {_times(len(again), 'sample')} equal to an earlier one, {data.count} in all"
        yield Finding("duplicates", text, "remove copies: they add nothing, and weigh twice", tuple(again[:_SHOWN]))


def _leaked(data: Dataset, looked: Scan, evaluation: Dataset | None, other: Scan | None) -> Iterator[Finding]:
    if evaluation is None or other is None:
        return
    held = set(other.digests)
    both = [place for place, digest in enumerate(looked.digests) if digest in held and place not in looked.constant]
    if both:
        text = (
            f"{data.where}: {_times(len(both), 'sample')} of the evaluation set {evaluation.where} among {data.count}"
        )
        remedy = "calibrate with others: what was seen is no test"
        yield Finding("leak", text, remedy, tuple(both[:_SHOWN]))


def _trained_on(training: Dataset | None, evaluation: Dataset | None, other: Scan | None) -> Iterator[Finding]:
    """A network that was trained on the evaluation samples is judged by what it knows by heart."""
    if training is not None:
        for each in _leaked(training, scan(training), evaluation, other):
            yield Finding(each.kind, each.found, "train with others: what was seen is no test", each.samples)


def _classes(data: Dataset, evaluation: Dataset | None) -> Iterator[Finding]:
    if data.labels is None or evaluation is None or evaluation.labels is None:
        return
    if data.labels.dtype.kind not in "iu" or evaluation.labels.dtype.kind not in "iu":
        return
    wanted = set(np.unique(evaluation.labels).tolist())
    missing = sorted(wanted - set(np.unique(data.labels).tolist()))
    if missing and 4 * len(wanted) <= data.count:  # 500 samples cannot hold 1,000 classes
        shown = ", ".join(map(str, missing[:_SHOWN])) + (" …" if len(missing) > _SHOWN else "")
        text = f"{data.where}: none of class {shown} ({len(missing)} of {len(wanted)} classes are missing)"
        yield Finding("classes", text, "draw the samples from all classes")


def _few(recipe: Recipe, data: Dataset, model: ir.Model) -> Iterator[Finding]:
    quantize = recipe.quantize
    if quantize.activations in {"int8", "int16"}:
        samples, values = _NEEDS[quantize.observer]
        sizes = _sizes(model, planned_activations(model, quantize))
        short = [size for size in sizes if size * data.count < values]
        said = f"{data.where}: {_times(data.count, 'sample')} for observer {quantize.observer!r}"
        if data.count < samples:
            yield Finding("too few", said, f"give at least {samples}, better a few hundred")
        elif 2 * len(short) > len(sizes):
            text = f"{said}, which needs {values:,} values of a tensor: {len(short)} of {len(sizes)} tensors have fewer"
            yield Finding("too few", text, f'give {-(-values // min(short))} samples, or take observer = "minmax"')
    yield from _few_for_rounding(recipe, data, model)


def _few_for_rounding(recipe: Recipe, data: Dataset, model: ir.Model) -> Iterator[Finding]:
    """A layer's inputs must span its columns, or the rounder fits noise."""
    quantize = recipe.quantize
    coarse = quantize.weights not in {"int8", "int7", *FLOAT_WEIGHTS}
    if quantize.rounder not in SEEING_SAMPLES and not (quantize.rounder == "auto" and coarse):
        return
    worst = Counter[str]()
    for layer in layers_of(model):
        shape = layer.node.outputs[0].shape
        rows, columns = layer.matrix(np.empty(layer.shape, np.int8)).shape[1:]
        if shape is not None and rows:
            inner = shape[2:] if layer.node.op_type == "Conv" else shape[1:-1]
            positions = data.count * int(np.prod([d if isinstance(d, int) else 1 for d in inner]))
            if positions < columns:
                worst[layer.weight] = -(-columns * data.count // positions)
    if worst:
        name, needed = worst.most_common(1)[0]
        text = f"{data.where}: {_times(data.count, 'sample')}: {_times(len(worst), 'layer')} with more inputs than that"
        yield Finding("too few", f"{text} shows them, such as {name}", f'give {needed}, or take rounder = "mse"')


def _sizes(model: ir.Model, names: list[str]) -> list[int]:
    """Values of each tensor in one sample; a dynamic dimension counts once."""
    known = {v.name: v for v in [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]}
    shapes = [known[name].shape for name in names if name in known]
    return [int(np.prod([d if isinstance(d, int) else 1 for d in shape[1:]])) for shape in shapes if shape is not None]


def _times(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")
