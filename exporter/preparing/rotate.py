"""Promise: linear layers read activations and hold weights without outlying channels; the network computes the same.

A Hadamard rotation spreads each value over a block of channels: x W = (x H)(H^T W) with H H^T = I (Ashkboos et al.
2024, QuaRot, section 3, without folding it into other layers, which a graph of any shape does not allow). It costs one
small product in float for each activation that is rotated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.preparing.smooth import linear_readers, rows_of, set_rows

__all__ = ["rotate"]

_LEAST, _MOST = 16, 128  # channels of a block


def rotate(model: ir.Model) -> int:
    """In place: every linear layer with a constant weight whose inputs divide into blocks of 16 or more.

    Returns how many activations were rotated.
    """
    rotated = 0
    blocks: dict[int, ir.Value] = {}
    for name, nodes in linear_readers(model).items():
        depth = rows_of(nodes[0]).shape[1]
        size = min(depth & -depth, _MOST)
        if size < _LEAST:
            continue
        rotated += 1
        matrix = hadamard(size)
        if size not in blocks:
            blocks[size] = graph.add_initializer(
                model.graph, graph.fresh_name(model.graph, f"hadamard_{size}"), matrix.astype(np.float32)
            )
        for node in nodes:
            rows = rows_of(node)
            turned = rows.reshape(len(rows), -1, size) @ matrix
            set_rows(model.graph, node, turned.reshape(rows.shape))
        _turn(model.graph, name, nodes, blocks[size], depth, size)
    return rotated


def hadamard(size: int) -> npt.NDArray[np.float64]:
    """Sylvester's matrix of a power of two, orthonormal and symmetric."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix / np.sqrt(size))


def _turn(g: ir.Graph, stem: str, nodes: list[ir.Node], matrix: ir.Value, depth: int, size: int) -> None:
    """x as [.., blocks, size] times the matrix, and back."""
    source = nodes[0].inputs[0]
    assert source is not None
    rank = 0 if source.shape is None else len(source.shape)
    name = graph.fresh_name(g, f"{stem}_rotated")
    keep = [0] * max(rank - 1, 0)
    split = graph.add_initializer(g, f"{name}_split", np.array([*keep, depth // size, size]))
    join = graph.add_initializer(g, f"{name}_join", np.array([*keep, depth]))
    dims = list(source.shape)[:-1] if source.shape is not None else []
    apart = ir.Value(name=f"{name}_apart", shape=ir.Shape([*dims, depth // size, size]), type=source.type)
    turned = ir.Value(name=f"{name}_blocks", shape=ir.Shape([*dims, depth // size, size]), type=source.type)
    whole = ir.Value(name=name, shape=source.shape, type=source.type)
    made = [
        ir.Node("", "Reshape", [source, split], outputs=[apart], name=f"{name}/split"),
        ir.Node("", "MatMul", [apart, matrix], outputs=[turned], name=f"{name}/rotate"),
        ir.Node("", "Reshape", [turned, join], outputs=[whole], name=f"{name}/join"),
    ]
    made[1].metadata_props[graph.KEEP_FLOAT] = "a rotation: exact, or it spreads nothing"
    g.insert_before(min(nodes, key=list(g).index), made)
    for node in nodes:
        node.replace_input_with(0, whole)
