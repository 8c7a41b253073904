"""Would the float model be right more often, were the images prepared another common way?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.data import Dataset
from exporter.linting.types import Finding
from exporter.reference import session
from targets.agent import preprocess

__all__ = ["other_preprocessing"]

_SAMPLES = 128
_POINTS = 10.0  # that another way must be better by, and
_DEVIATIONS = 3.0
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "the raw values": {"scale": 1.0},
    "scale = 1/255": {"scale": 1 / 255},
    "scale = 1/255, mean = 0.5, std = 0.5": {"scale": 1 / 255, "mean": 0.5, "std": 0.5},
    "scale = 1/255 and ImageNet's mean and std": {"scale": 1 / 255, **_IMAGENET},
    "ImageNet's mean and std": {"scale": 1.0, **_IMAGENET},
}


def other_preprocessing(
    model: ir.Model, dataset: Dataset, specs: Mapping[str, Mapping[str, Any]], where: str
) -> Finding | None:
    """For a classifier of colour images with labels; None otherwise, and where the recipe's way is the best.

    model  float; its first output [N,classes]
    specs  the recipe's preprocessing by input name, as plain data
    """
    inputs = [v for v in model.graph.inputs if not v.is_initializer()]
    output = model.graph.outputs[0]
    shape = inputs[0].shape
    if len(inputs) != 1 or shape is None or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        return None
    if (
        dataset.labels is None
        or output.shape is None
        or len(output.shape) != 2
        or dataset.labels.dtype.kind not in "iu"
    ):
        return None
    name, labels = str(inputs[0].name), dataset.labels[:_SAMPLES]
    if inputs[0].dtype != ir.DataType.FLOAT or len(labels) < 32:
        return None
    raw = dataset.raw(_SAMPLES)[name]
    spec = dict(specs.get(name) or {})
    size = [d if isinstance(d, int) else str(d) for d in shape]
    opened = session(model)

    def right(wish: Mapping[str, Any], images: npt.NDArray[Any]) -> float:
        ready = preprocess.apply(images, dict(wish), size)
        rows = shape[0] if isinstance(shape[0], int) else 32
        parts = [ready[i : i + rows] for i in range(0, len(ready) - len(ready) % rows, rows)] or [ready]
        classes = np.concatenate([opened.run(None, {name: part})[0].argmax(1) for part in parts])
        return float((classes == labels[: len(classes)]).mean())

    now = right(spec, raw)
    best, how = now, ""
    for title, wish, images in _ways(spec, raw, size):
        found = right(wish, images)
        if found > best:
            best, how = found, title
    deviation = np.sqrt(max(now * (1 - now), 1 / len(labels)) / len(labels))
    if best - now < max(_POINTS / 100, _DEVIATIONS * deviation):
        return None
    text = f"the float model is right on {100 * now:.0f} % of {len(labels)} labelled samples of {where}"
    return Finding("preprocessing", f"{text}, with {how} on {100 * best:.0f} %", f"set data.preprocess.{name} so")


def _ways(
    spec: Mapping[str, Any], raw: npt.NDArray[Any], size: list[Any]
) -> Iterator[tuple[str, Mapping[str, Any], npt.NDArray[Any]]]:
    kept = {key: value for key, value in spec.items() if key not in {"scale", "mean", "std"}}
    for title, way in _WAYS.items():
        yield title, {**kept, **way}, raw
    layout = spec.get("source_layout")
    last = layout == "NHWC" or (layout is None and size[3] == 3)
    axis = 3 if last else 1
    if raw.ndim == 4 and raw.shape[axis] == 3:
        yield "red and blue exchanged", spec, np.flip(raw, axis)
