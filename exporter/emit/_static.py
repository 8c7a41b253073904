"""Static shapes with the batch as 1, and which axes follow the batch."""

from __future__ import annotations

import logging
import warnings

import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxscript.optimizer

from exporter.errors import UnsupportedError

__all__ = ["Shapes", "fix_batch"]

Shapes = dict[str, tuple[tuple[int, ...], frozenset[int]]]


def fix_batch(model: ir.Model) -> tuple[ir.Model, Shapes]:
    """A folded copy with batch 1, and for every value its shape and the axes that grow with the batch.

    Raises UnsupportedError for a dynamic dimension other than the first, and for a shape that inference cannot find.
    """
    symbols = _symbols(model)
    one = _fixed(model, 1)
    sizes = _sizes(one)
    moved = _sizes(_fixed(model, 2)) if symbols else sizes
    shapes: Shapes = {}
    for name, shape in sizes.items():
        other = moved.get(name, shape)
        if len(other) != len(shape):
            raise UnsupportedError(name, "tensor", "shape", "its rank follows the batch", "export with a fixed batch")
        shapes[name] = shape, frozenset(i for i, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b)
    return one, shapes


def _symbols(model: ir.Model) -> set[str]:
    found: set[str] = set()
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, int):
                continue
            if axis > 0:
                raise UnsupportedError(
                    value.name or "", "input", "shape", f"dimension {axis} is dynamic ({size})",
                    "only the first may be, as the batch: fix the others",
                )  # fmt: skip
            found.add(str(size))
    return found


def _fixed(model: ir.Model, batch: int) -> ir.Model:
    copy = model.clone()
    for value in copy.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else batch for d in value.shape])
    for node in copy.graph:
        for output in node.outputs:
            output.shape = None  # what the exporter wrote may name dimensions; inference finds them anew
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnxscript.optimizer.optimize(copy, num_iterations=2, output_size_limit=1 << 22)
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
            passes.RemoveUnusedNodesPass()(copy)
            return passes.ShapeInferencePass(data_prop=True)(copy).model
    finally:
        logging.disable(level)


def _sizes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    found = {}
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for value in [*values, *(v for node in model.graph for v in node.outputs)]:
        if value.name and value.shape is not None and all(isinstance(d, int) for d in value.shape):
            found[value.name] = tuple(int(d) for d in value.shape)  # type: ignore[arg-type]
    return found
