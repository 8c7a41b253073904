"""Channels that do nothing: what pruning may take without a trace."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.pruning.dependencies import channels_of

__all__ = ["deadened"]


def deadened(model: ir.Model, every: int) -> ir.Model:
    """A new model; of the channels that may go, one of so many has nothing but zeros."""
    model = model.clone()
    channels = channels_of(model)
    for slot in channels.slots:
        value = model.graph.initializers[slot.name]
        array = np.moveaxis(np.array(graph.constant(value)), slot.axis, 0)
        leaders = channels.leaders(slot.ids)
        array[(leaders > 0) & (leaders % every == 0)] = 0
        value.const_value = ir.tensor(np.moveaxis(array, 0, slot.axis).copy(), name=slot.name)
    return model
