"""Rotary position embedding (Su et al. 2021): x cos + partner(x) sin, where each element's partner is the one that it
is turned with. Signs and elements that are not turned lie in the tables, which all layers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter.ops.expansion import Expansion, Operand
from exporter.ops.op import Float, Op

__all__ = ["ROWS"]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """``turned`` of ``size`` elements are turned, in neighbouring pairs or half a head apart."""

    size: int
    turned: int
    interleaved: bool

    def columns(self) -> list[int]:
        """Which column of the tables each turned element reads."""
        half = list(range(self.turned // 2))
        return [i for i in half for _ in range(2)] if self.interleaved else half * 2

    def signs(self) -> list[float]:
        """Minus for the first of each pair: its partner is subtracted."""
        half = self.turned // 2
        return [-1.0, 1.0] * half if self.interleaved else [-1.0] * half + [1.0] * half


def rotary(e: Expansion) -> None:
    """4-d inputs [B, heads, T, size] and 3-d ones [B, T, heads x size]; tables by position_ids or for each token."""
    shape = e.shape(0)
    flat, last, heads = len(shape) == 3, shape[-1], e.attr("num_heads", 0)
    if last is None or (flat and (not heads or last % heads)):
        raise e.refuse("num_heads", f"{heads} for {last} features", "a divisor, and a fixed last dimension")
    size = last // heads if flat else last
    pairs = _Pairs(size, e.attr("rotary_embedding_dim", 0) or size, bool(e.attr("interleaved", 0)))
    if pairs.turned % 2 or pairs.turned > size:
        raise e.refuse("rotary_embedding_dim", str(pairs.turned), f"an even number up to {size}")
    x = e.reshape(e.input(0), [0, 0, heads, size]) if flat else e.input(0)
    sources = tuple(id(e.node.inputs[i]) if e.has(i) else None for i in (1, 2, 3))
    cos, sin = e.shared(("rotary", pairs, sources, flat), lambda: _tables(e, pairs, 2 if flat else 1))
    whole = e.const(1) is not None and e.const(2) is not None  # tables hold what is not turned, too
    rest = None
    if pairs.turned < size and not whole:
        x, rest = e.ops("Split", 2, x, np.asarray([pairs.turned, size - pairs.turned]), axis=-1)
    result = e.op("Add", e.op("Mul", x, cos), e.op("Mul", _partners(e, x, pairs, whole=whole), sin))
    if rest is not None:
        result = e.op("Concat", result, rest, axis=-1)
    e.finish(e.reshape(result, [0, 0, last]) if flat else result)


def _partners(e: Expansion, x: ir.Value, pairs: _Pairs, *, whole: bool) -> ir.Value:
    half, rest = pairs.turned // 2, pairs.size - pairs.turned if whole else 0
    if pairs.interleaved:
        order = [i ^ 1 for i in range(pairs.turned)] + list(range(pairs.turned, pairs.turned + rest))
        return e.op("Gather", x, np.asarray(order), axis=-1)
    parts = e.ops("Split", 3 if rest else 2, x, np.asarray([half, half, rest][: 3 if rest else 2]), axis=-1)
    return e.op("Concat", parts[1], parts[0], *parts[2:], axis=-1)


def _tables(e: Expansion, pairs: _Pairs, axis: int) -> Sequence[Operand]:
    """cos and sin for each element, with an axis for the heads."""
    found = []
    for index, signs, filler in ((1, [1.0] * pairs.turned, 1.0), (2, pairs.signs(), 0.0)):
        columns, factors = np.asarray(pairs.columns()), np.asarray(signs, np.float32)
        constant = e.const(index)
        if e.shape(index)[-1] != pairs.turned // 2:
            raise e.refuse("shape", f"tables of {e.shape(index)[-1]} columns", f"{pairs.turned // 2} are needed")
        table: Operand
        if constant is not None and e.const(3 - index) is not None:
            wide = constant[..., columns] * factors
            rest = np.full((*wide.shape[:-1], pairs.size - pairs.turned), filler, np.float32)
            table = np.concatenate([wide, rest], axis=-1)
        else:
            table = e.op("Gather", e.input(index), columns, axis=-1)
            table = table if filler else e.op("Mul", table, factors)
        if e.has(3):
            table = e.op("Gather", table, e.input(3), axis=0)
        found.append(e.op("Unsqueeze", table, np.asarray([axis])))
    return found


ROWS = (
    Op(
        "RotaryEmbedding",
        Float("written with simpler operators"),
        ("activation", "activation", "activation", "static"),
        expand=rotary,
    ),
)
