"""Which keys a query sees: the masks of Attention, as one bias on the scores and one factor for rows that see nothing.

Masked scores get -1e30 where the standard says minus infinity: next to it every score vanishes, so the softmax is the
same, and no later step can turn it into NaN. Rows in which every key is masked are zero by definition; the factor makes
them so. Layers that share a mask share both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.ops.expansion import Expansion, Operand

__all__ = ["Mask", "mask_of"]

_FAR = np.float32(-1e30)
_LOWEST = np.finfo(np.float32).min
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Mask:
    """bias: added to the scores. exact: the same with infinities. alive: 0 for rows without keys. None: no need."""

    bias: Operand = None
    exact: Operand = None
    alive: Operand = None

    def zero_rows(self, e: Expansion, x: ir.Value) -> ir.Value:
        """x [B, heads, T, any] with rows that see no key set to zero."""
        return x if self.alive is None else e.op("Mul", x, self.alive)


@dataclass(frozen=True, slots=True)
class _Window:
    """Query i stands at offset + i and sees keys from ``left`` before to ``right`` after it (None: no bound)."""

    queries: int
    keys: int
    past: int
    left: int | None
    right: int | None

    @property
    def bounded(self) -> bool:
        return self.left is not None or self.right is not None

    def allowed(self) -> Array:
        """Bool [T,S] for an offset of ``past``."""
        place = self.past + np.arange(self.queries)[:, None]
        key = np.arange(self.keys)[None, :]
        result = np.ones((self.queries, self.keys), np.bool_)
        if self.left is not None:
            result &= key >= place - self.left
        if self.right is not None:
            result &= key <= place + self.right
        return result


def mask_of(e: Expansion, queries: int | None, keys: int | None, past: int | None) -> Mask:
    """Everything that limits what is seen: attn_mask, is_causal, windows, and the lengths of an outer cache.

    queries, keys, past  T, S (with the past) and the past's length; None where dynamic
    """
    left, right = e.attr("left_window_size", -1), e.attr("right_window_size", -1)
    if e.attr("is_causal", 0):
        right = 0
    limits = (left if left >= 0 else None, right if right >= 0 else None)
    if limits == (None, None) and not e.has(3) and not e.has(6):
        return Mask()
    if queries is None or keys is None or past is None:
        raise e.refuse("shape", "a dynamic sequence length with a mask", "fix the length")
    window = _Window(queries, keys, past, *limits)
    sources = tuple(id(e.node.inputs[i]) if e.has(i) else None for i in (3, 6))
    return e.shared(("attention mask", window, sources), lambda: _build(e, window))


def _build(e: Expansion, window: _Window) -> Mask:
    mask = e.const(3)
    if e.has(6):
        keep: Operand = _within_lengths(e, window)
    else:
        keep = window.allowed().astype(np.float32) if window.bounded else None
    if e.has(3) and mask is None:
        given = e.input(3)
        if given.dtype == ir.DataType.BOOL:
            return _from_keep(e, _times(e, _padded(e, e.op("Cast", given, to=ir.DataType.FLOAT), window, 0.0), keep))
        return _from_bias(e, _padded(e, given, window, -np.inf), keep)
    if mask is not None:
        width = [(0, 0)] * (mask.ndim - 1) + [(0, window.keys - mask.shape[-1])]
        if mask.dtype == np.bool_:
            keep = _times(e, np.pad(mask, width).astype(np.float32), keep)
        else:
            bias = np.pad(mask.astype(np.float32), width, constant_values=-np.inf)
            return _from_bias(e, bias, keep)
    return _from_keep(e, keep)


def _within_lengths(e: Expansion, window: _Window) -> ir.Value:
    """1 where key j is not padding and in the window, whose offset each sample's length tells: [B,1,T or 1,S]."""
    axes = np.asarray([1, 2, 3])
    lengths = e.op("Unsqueeze", e.op("Cast", e.input(6), to=ir.DataType.INT32), axes)
    key = np.arange(window.keys, dtype=np.int32)
    keep = e.op("Less", key, lengths)
    query = np.arange(window.queries, dtype=np.int32)[:, None]
    start = query + np.int32(window.past if e.has(4) else -window.queries)
    place = start if e.has(4) else e.op("Add", lengths, start)
    bounds: tuple[tuple[int | None, int, str], ...] = (
        (window.left, -1, "GreaterOrEqual"),
        (window.right, 1, "LessOrEqual"),
    )
    for bound, sign, comparison in bounds:
        if bound is not None:
            limit = e.op("Add", place, np.asarray(sign * bound, np.int32)) if bound else place
            keep = e.op("And", keep, e.op(comparison, key, limit))
    return e.op("Cast", keep, to=ir.DataType.FLOAT)


def _padded(e: Expansion, x: ir.Value, window: _Window, filler: float) -> ir.Value:
    """A mask may be shorter than the keys: what it leaves out is masked."""
    shape = e.shape(3)
    missing = window.keys - (shape[-1] or window.keys)
    if missing == 0 or shape[-1] == 1:
        return x
    return e.op("Pad", x, np.asarray([0, missing]), np.asarray(filler, np.float32), np.asarray([-1]))


def _times(e: Expansion, a: Operand, b: Operand) -> Operand:
    if a is None or b is None:
        return b if a is None else a
    return a * b if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else e.op("Mul", a, b)


def _plus(e: Expansion, a: Operand, b: Operand) -> Operand:
    return np.asarray(a + b) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else e.op("Add", a, b)


def _wall(e: Expansion, keep: Operand) -> Operand:
    """0 for 1, -inf for 0."""
    if isinstance(keep, np.ndarray):
        wall: Array = np.where(keep > 0, np.float32(0), np.float32(-np.inf))
        return wall
    return e.op("Log", keep)


def _from_keep(e: Expansion, keep: Operand) -> Mask:
    """From 1 for what is seen and 0 for what is not."""
    if isinstance(keep, np.ndarray):
        return _from_bias(e, _wall(e, keep), None)
    bias = e.op("Mul", e.op("Sub", keep, np.asarray(1, np.float32)), np.asarray(-_FAR))
    alive = e.op("ReduceMax", keep, np.asarray([-1]), keepdims=1)
    return Mask(bias, _wall(e, keep), alive)


def _from_bias(e: Expansion, bias: Operand, keep: Operand) -> Mask:
    """From numbers to add to the scores, among them perhaps -inf, and 0 for what is not seen besides."""
    total = bias if keep is None else _plus(e, bias, _wall(e, keep))
    if isinstance(total, np.ndarray):
        rows = np.asarray((total >= _LOWEST).any(axis=-1, keepdims=True))
        factor = None if rows.all() else rows.astype(np.float32)
        return Mask(np.maximum(total, _FAR) if total.any() else None, total, factor)
    top = e.op("ReduceMax", total, np.asarray([-1]), keepdims=1)
    alive = e.op("Cast", e.op("GreaterOrEqual", top, np.asarray(_LOWEST)), to=ir.DataType.FLOAT)
    return Mask(e.op("Max", total, np.asarray(_FAR)), total, alive)
