"""Tensors that should follow the batch and do not: constants, and what was computed from constants alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from exporter.ops.lowering import Program, Tensor

__all__ = ["spread"]


def spread(program: Program, tensor: Tensor, places: Collection[int], source: Tensor) -> Tensor:
    """``tensor`` repeated along ``places``, where its size is 1, as often as the batch of ``source`` says.

    SELECT_V2 with a true condition takes every element from the tensor and its shape from both: unlike BROADCAST_TO
    with a computed shape it leaves all shapes known before the run, so that delegates take what follows.
    """
    missing = [p for p in places if p not in tensor.dynamic]
    if not missing:
        return tensor
    batch = min(source.dynamic)
    ones = [1] * len(source.shape)
    masked = 1 << batch
    cut = program.temp(source, ones, frozenset({batch}), f"{tensor.name}/batch")
    numbers = [program.constant(np.asarray(n, np.int32), stem="ints") for n in ([0] * len(ones), ones, ones)]
    program.emit("STRIDED_SLICE", [source, *numbers], [cut], "StridedSliceOptions", beginMask=masked, endMask=masked)
    if cut.dtype != tensor.dtype:
        cast = Tensor(program.name(f"{tensor.name}/batch"), cut.shape, tensor.dtype, cut.dynamic, tensor.quant)
        program.emit("CAST", [cut], [cast], "CastOptions")
        cut = cast
    rank = len(tensor.shape)
    for place in missing:
        column = program.reshape(cut, [1] * rank, frozenset({place}))
        whole = program.temp(tensor, tensor.shape, tensor.dynamic | {place}, f"{tensor.name}/spread")
        true = program.constant(np.asarray(True), stem="true")
        program.emit("SELECT_V2", [true, tensor, column], [whole], "SelectV2Options")
        tensor = whole
    return tensor
