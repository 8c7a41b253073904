"""Reshapes that let the walk over the nodes move less: edits of a graph that only the emitter sees.

Reshape, Transpose, Reshape becomes the same over the finest axes that either side needs: the first only splits axes,
which any layout allows, and at most the last one moves elements. A matrix product over merged leading axes keeps them.
Between quantized tensors the chain is seen through its QuantizeLinear and DequantizeLinear of one scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.emit import _pairs
from exporter.emit._batch import Sized
from exporter.ops.regroup import BATCH, groups

__all__ = ["refine"]


def refine(model: ir.Model, sizes: dict[str, Sized]) -> None:
    """Rewrites in place; ``sizes`` gets the new values."""
    editor = _Editor(model.graph, sizes)
    for node in list(model.graph):
        if node.op_type == "Reshape" and node.domain == "":
            editor.split_first(node)
    for node in list(model.graph):
        if node.op_type in {"Gemm", "MatMul"} and node.domain == "":
            editor.keep_leading_axes(node)


class _Editor:
    def __init__(self, g: ir.Graph, sizes: dict[str, Sized]) -> None:
        self.graph, self.sizes = g, sizes
        self.count = 0

    def split_first(self, last: ir.Node) -> None:
        """Reshape, Transpose, Reshape over the finest axes."""
        turn = _pairs.maker(last.inputs[0], "Transpose")
        first = _pairs.maker(turn.inputs[0], "Reshape") if turn is not None else None
        if turn is None or first is None:
            return
        source, middle, result = first.inputs[0], first.outputs[0], last.outputs[0]
        sizes = [self._sizes(v) for v in (source, middle, result)]
        if not all(sizes):
            return
        order = [int(a) for a in turn.attributes.get_ints("perm", tuple(reversed(range(len(sizes[1])))))]
        parts = _parts(sizes[0], sizes[1], sizes[2], order)
        if parts is None or source is None:
            return
        flat = [size for axis in parts for size in axis]
        starts = np.cumsum([0, *map(len, parts)])
        places = [int(starts[a]) + i for a in order for i in range(len(parts[a]))]
        split = self._made("Reshape", source, flat, turn)
        moved = self._made("Transpose", self._through(split, first, turn), [flat[p] for p in places], turn, perm=places)
        last.replace_input_with(0, self._through(moved, turn, turn))

    def keep_leading_axes(self, node: ir.Node) -> None:
        """A product of rows that a Reshape before merged and a Reshape after it takes apart again."""
        merge = _pairs.maker(node.inputs[0], "Reshape")
        result, edges = node.outputs[0], _pairs.edges(node.outputs[0])
        readers = graph.consumers(edges[-1].outputs[0] if edges else result)
        if merge is None or merge.inputs[0] is None or node.attributes.get_int("transA", 0) == 1:
            return
        rows, columns = self._sizes(merge.outputs[0]), self._sizes(result)
        whole = self._sizes(readers[0].outputs[0]) if readers else []
        fits = (
            columns and len(rows) == 2 and len(whole) > 2 and whole[-1] == columns[-1] and not result.is_graph_output()
        )
        if not fits or any(r.op_type != "Reshape" or self._sizes(r.outputs[0]) != whole for r in readers):
            return
        kept = self._made("Reshape", merge.inputs[0], [*whole[:-1], rows[1]], node)
        node.replace_input_with(0, self._through(kept, merge, node))
        for value in (result, *(edge.outputs[0] for edge in edges)):
            value.shape = None
            self._told(value, whole)

    def _sizes(self, value: ir.Value | None) -> list[int]:
        """Sizes of a value, those that are multiples of the batch times a large prime; [] where one is no multiple."""
        size = None if value is None else self.sizes.get(value.name or "")
        if size is None or any(growth not in {0, n} for n, growth in zip(size.shape, size.growth, strict=True)):
            return []
        return [n * (BATCH if i in size.dynamic else 1) for i, n in enumerate(size.shape)]

    def _through(self, value: ir.Value, like: ir.Node, before: ir.Node) -> ir.Value:
        """The value behind a QuantizeLinear and DequantizeLinear as ``like`` has them, where they alone read it."""
        for node in _pairs.edges(like.outputs[0]):
            name = f"{value.name}/{node.op_type.removesuffix('Linear').lower()}d"
            made = ir.Value(name=name, type=node.outputs[0].type)
            twin = ir.Node(
                "", node.op_type, [value, *node.inputs[1:]], node.attributes.values(), outputs=[made], name=name
            )
            self.graph.insert_before(before, twin)
            self.sizes[name] = self.sizes[value.name or ""]
            value = made
        return value

    def _told(self, value: ir.Value, sizes: Sequence[int]) -> None:
        moves = frozenset(i for i, s in enumerate(sizes) if s % BATCH == 0 and s)
        shape = tuple(s // BATCH if i in moves else s for i, s in enumerate(sizes))
        self.sizes[value.name or ""] = Sized(shape, moves, tuple(s if i in moves else 0 for i, s in enumerate(shape)))

    def _made(
        self, kind: str, source: ir.Value, sizes: Sequence[int], before: ir.Node, **attributes: object
    ) -> ir.Value:
        self.count += 1
        name = f"{source.name}/fine_{self.count}"
        inputs: list[ir.Value | None] = [source]
        if kind == "Reshape":
            numbers = np.asarray([s // BATCH if s % BATCH == 0 else s for s in sizes], np.int64)
            inputs.append(graph.add_initializer(self.graph, f"{name}/shape", numbers))
        node = ir.node(kind, inputs, attributes, outputs=[ir.Value(name=name, type=source.type)], name=name)  # type: ignore[arg-type]
        self.graph.insert_before(before, node)
        self._told(node.outputs[0], sizes)
        return node.outputs[0]


def _parts(
    source: Sequence[int], middle: Sequence[int], result: Sequence[int], order: Sequence[int]
) -> list[list[int]] | None:
    """Finer sizes for each axis of ``middle``, so that both neighbours' axes are runs of them; None: no finer ones."""
    left = _split(middle, source)
    turned = _split([middle[a] for a in order], result)
    if left is None or turned is None:
        return None
    right: dict[int, list[int]] = dict(zip(order, turned, strict=True))
    parts = [_common(left[a], right[a]) for a in range(len(middle))]
    found = [p for p in parts if p is not None]
    return found if len(found) == len(middle) and any(len(p) > 1 for p in found) else None


def _split(axes: Sequence[int], others: Sequence[int]) -> list[list[int]] | None:
    """Each axis as a product of sizes whose runs are also the other side's axes."""
    found = groups(dict(enumerate(axes)), dict(enumerate(others)))
    if found is None:
        return None
    parts = [[size] for size in axes]
    for own, other in found:
        fine = _common([axes[a] for a in own], [others[a] for a in other])
        if fine is None:
            return None
        for axis in own:
            taken: list[int] = []
            while int(np.prod(taken, dtype=object)) != axes[axis]:
                taken.append(fine.pop(0))
            parts[axis] = taken
    return parts


def _common(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """The coarsest factors of the same product that both lists are runs of; None where they interlock."""
    ends = sorted({int(np.prod(x[: i + 1], dtype=object)) for x in (a, b) for i in range(len(x))})
    factors, before = [], 1
    for end in ends:
        if end % before:
            return None
        if end != before or len(ends) == 1:
            factors.append(end // before)
        before = end
    return factors
