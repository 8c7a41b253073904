"""Look-ups: embeddings and the picking of indices."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Lowering, identity
from exporter.ops.op import ANY, Op, Same
from exporter.ops.reduce import removed

__all__ = ["ROWS"]


def gather(ctx: Lowering) -> None:
    """GATHER; constant indices are brought to their positive form, computed ones must be so already."""
    shape = ctx.shape(0)
    rank = len(shape)
    axis = ctx.attr("axis", 0) % rank
    index = ctx.const(1)
    index_rank = len(ctx.shape(1))
    view = ctx.input()
    if index_rank > 1 and view.layout != identity(rank):
        view = ctx.program.convert(view, identity(rank))
    place = view.layout.index(axis)
    if place in view.tensor.dynamic:
        raise ctx.refuse("axis", "picks from the batch", "export with a fixed batch")
    if index is not None:
        positive = np.where(index < 0, index + shape[axis], index).astype(np.int32)
        indices = ctx.program.constant(np.asarray(positive), stem="indices")
    else:
        indices = ctx.plain(1)
    if index_rank == 0:
        layout = removed(view.layout, {axis})
    elif index_rank == 1:
        layout = view.layout
    else:
        layout = identity(rank + index_rank - 1)
    ctx.emit("GATHER", [view.tensor, indices], [ctx.output(layout)], "GatherOptions", axis=place, batchDims=0)


ROWS = (Op("Gather", Same(), ("activation", "static"), lower=gather, types=ANY),)
