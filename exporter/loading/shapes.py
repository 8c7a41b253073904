"""Dimensions that the user fixes or names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from exporter import inference
from exporter.errors import LoadError

__all__ = ["set_input_shapes"]


def set_input_shapes(model: ir.Model, wanted: Mapping[str, Sequence[int | str]], where: str = "model.inputs") -> None:
    """Give inputs these dimensions, in place: a number fixes one, a name keeps it dynamic.

    A number for a named dimension holds wherever the name occurs. Raises LoadError for an input that the model does
    not have, another rank, or a number that contradicts the model's own.
    """
    inputs = {v.name: v for v in model.graph.inputs if not v.is_initializer()}
    numbers: dict[str, int] = {}
    for name, shape in wanted.items():
        value = inputs.get(name)
        if value is None:
            raise LoadError(f"{where}.{name}: the model has no such input", f"it has {', '.join(map(str, inputs))}")
        own = [d if isinstance(d, int) else str(d) for d in value.shape or ()]
        if value.shape is None:
            value.shape = ir.Shape(list(shape))
            continue
        clash = len(own) != len(shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(own, shape, strict=False)
        )
        if clash:
            raise LoadError(f"{where}.{name}: shape {list(shape)} does not fit the model's {own}", "change the shape")
        for old, new in zip(own, shape, strict=True):
            if isinstance(old, str) and isinstance(new, int) and numbers.setdefault(old, new) != new:
                raise LoadError(f"{where}.{name}: dimension {old!r} is {numbers[old]} in another input", "make it one")
    if not numbers:
        return
    for value in inputs.values():
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else numbers.get(str(d), str(d)) for d in value.shape])
    for node in model.graph:
        for output in node.outputs:
            output.shape = None  # found anew from the inputs
    inference.infer_shapes(model)
