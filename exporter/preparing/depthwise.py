"""A depthwise Conv in the place of a node that does the same to every channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

__all__ = ["replace_by_depthwise"]


def replace_by_depthwise(
    g: ir.Graph, node: ir.Node, constants: dict[str, npt.NDArray[np.float32]], attributes: Sequence[ir.Attr]
) -> None:
    """The node's first output keeps its name, shape and readers.

    constants   the weight [channels,1,...] and, where there is one, the bias [channels], by name
    attributes  of the Conv but for its group
    """
    channels = len(next(iter(constants.values())))
    made = ir.Node(
        "",
        "Conv",
        [node.inputs[0], *(graph.add_initializer(g, name, array) for name, array in constants.items())],
        [*attributes, ir.AttrInt64("group", channels)],
        name=node.name,
    )
    graph.replace(g, [node], [made])
