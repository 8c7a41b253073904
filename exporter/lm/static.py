"""A blueprint as ONNX graphs of fixed sizes for TFLite: prefill (several tokens), head, decode (one token).

inputs   tokens i32 [1, length]; input_pos i32 [length], consecutive
         kv_cache_k_LAYER and kv_cache_v_LAYER f32 [1, kv_heads, capacity, head_size]: only the places before
         input_pos[0] count; the others may hold any finite number
outputs  logits f32 [1, length, vocabulary]; of prefill states f32 [1, length, hidden] instead, which the head's graph
         turns into logits: who writes text needs them after the last token alone, and lets decode take that one
         kv_slice_k_LAYER and kv_slice_v_LAYER f32 [1, kv_heads, length, head_size], for the caller to write into the
         cache at input_pos

Names as litert-torch has them, except that only what is new leaves the graph: a cache that goes in and out would be
copied at every token. Scores against the cache and against the new tokens are computed apart for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from exporter.lm.blueprint import Attention, Blueprint
from exporter.lm.matrices import Matrices
from exporter.lm.net import Net, sizes

__all__ = ["build_head", "build_static"]

_FAR = 1e9  # a score that softmax makes zero, and that stays finite when two meet


def build_static(plan: Blueprint, matrices: Matrices, length: int, capacity: int, *, head: bool = True) -> ir.Model:
    """length: tokens of one call; capacity: places of the cache; head: logits, or states."""
    net = Net(plan, matrices)
    tokens = net.input("tokens", ir.DataType.INT32, (1, length))
    places = net.input("input_pos", ir.DataType.INT32, (length,))
    attention = _Attention(net, plan, places, length, capacity)
    states = net.reshape(net.embed(tokens, None), (length, plan.hidden), "embed/rows", (length, plan.hidden))
    if plan.family.positions:
        table = net.constant("positions.weight", matrices.positions())
        added = net.op("Gather", [table, places], "positions", (length, plan.hidden), axis=0)
        states = net.op("Add", [states, added], "embed/placed", (length, plan.hidden))
    for index, layer in enumerate(plan.layers):
        states = net.block(index, states, partial(attention, index, layer))
    if head:
        _logits(net, states, length)
    else:
        shape = (1, length, plan.hidden)
        net.output("states", net.reshape(states, shape, "states", shape), shape)
    for name, value in attention.slices:
        net.output(name, value, (1, plan.kv_heads, length, plan.heads.padded))
    return net.model("decode" if length == 1 else f"prefill_{length}")


def build_head(plan: Blueprint, matrices: Matrices, length: int) -> ir.Model:
    """From the states of ``length`` tokens to their logits."""
    net = Net(plan, matrices)
    states = net.input("states", ir.DataType.FLOAT, (1, length, plan.hidden))
    _logits(net, net.reshape(states, (length, plan.hidden), "states/rows", (length, plan.hidden)), length)
    return net.model(f"head_{length}")


def _logits(net: Net, states: ir.Value, length: int) -> None:
    shape = (1, length, net.plan.vocabulary)
    net.output("logits", net.reshape(net.logits(states), shape, "logits", shape), shape)


class _Attention:
    """Attention written out; the masks and the rotary rows of this call are made once for all layers."""

    def __init__(self, net: Net, plan: Blueprint, places: ir.Value, length: int, capacity: int) -> None:
        self._net, self._plan, self._length, self._capacity = net, plan, length, capacity
        self.slices: list[tuple[str, ir.Value]] = []
        self._places = net.cast(places, ir.DataType.FLOAT, "positions/real")
        self._group = plan.query_heads // plan.kv_heads
        self._start = self._places
        if length > 1:
            self._start = net.op("Slice", [self._places, *(net.ints([n]) for n in (0, 1))], "positions/first", (1,))
        self._masks = {window: self._mask(window) for window in dict.fromkeys(self._window(a) for a in plan.layers)}
        self._rows = {kind: self._rotary(kind, places) for kind in plan.rotary}

    def __call__(self, layer: int, kind: Attention, states: ir.Value) -> ir.Value:
        net, plan, length, size = self._net, self._plan, self._length, self._plan.heads.padded
        queries, pairs, rows = plan.query_heads, plan.kv_heads, self._group * self._length
        stem = f"layers.{layer}.attention"
        packed = net.linear(states, *net.matrices.qkv(layer), f"{stem}.qkv")
        heads = net.reshape(
            packed, (length, queries + 2 * pairs, size), f"{stem}/heads", (length, queries + 2 * pairs, size)
        )
        turning, value = self._cut(heads, 1, [queries + pairs, pairs], [f"{stem}/qk", f"{stem}/v"])
        if plan.head_norms:
            query, key = self._cut(turning, 1, [queries, pairs], [f"{stem}/q_plain", f"{stem}/k_plain"])
            query = net.head_norm(query, f"{stem}.query_norm", plan.family.query_norm.format(layer))
            key = net.head_norm(key, f"{stem}.key_norm", plan.family.key_norm.format(layer))
            turning = net.op("Concat", [query, key], f"{stem}/normal", (length, queries + pairs, size), axis=1)
        if kind.rotary is not None:
            turning = self._turn(turning, self._rows[kind.rotary], stem)
        query, key = self._cut(turning, 1, [queries, pairs], [f"{stem}/q", f"{stem}/k"])
        scale = net.constant("attention.scale", np.array(plan.scale, np.float32))
        query = net.op("Mul", [query, scale], f"{stem}/q_scaled", (length, queries, size))
        query = self._grouped(query, stem)
        key, value = (self._by_head(x, f"{stem}/{n}_new") for x, n in ((key, "k"), (value, "v")))
        past = []
        for letter, new in (("k", key), ("v", value)):
            cache = net.input(f"kv_cache_{letter}_{layer}", ir.DataType.FLOAT, (1, pairs, self._capacity, size))
            past.append(
                net.reshape(
                    cache, (pairs, self._capacity, size), f"{stem}/{letter}_cache", (pairs, self._capacity, size)
                )
            )
            name = f"kv_slice_{letter}_{layer}"
            self.slices.append((name, net.reshape(new, (1, pairs, length, size), name, (1, pairs, length, size))))
        total = self._capacity + length
        scores = [self._scores(query, old, f"{stem}/scores_{n}") for old, n in ((past[0], "cache"), (key, "new"))]
        both = net.op("Concat", scores, f"{stem}/scores", (pairs, rows, total), axis=-1)
        if plan.softcap:
            cap = net.constant("attention.softcap", np.array(plan.softcap, np.float32))
            both = net.op("Div", [both, cap], f"{stem}/small", (pairs, rows, total))
            both = net.op("Tanh", [both], f"{stem}/tanh", (pairs, rows, total))
            both = net.op("Mul", [both, cap], f"{stem}/capped", (pairs, rows, total))
        masked = net.op("Add", [both, self._masks[self._window(kind)]], f"{stem}/masked", (pairs, rows, total))
        shares = net.op("Softmax", [masked], f"{stem}/shares", (pairs, rows, total), axis=-1)
        parts = self._cut(shares, 2, [self._capacity, length], [f"{stem}/shares_cache", f"{stem}/shares_new"])
        seen = [
            net.op("MatMul", [share, values], f"{stem}/seen_{n}", (pairs, rows, size))
            for share, values, n in ((parts[0], past[1], "cache"), (parts[1], value, "new"))
        ]
        result = net.op("Add", seen, f"{stem}/seen", (pairs, rows, size))
        return net.linear(self._ungrouped(result, stem), *net.matrices.output(layer), f"{stem}.output")

    # -- shapes

    def _cut(self, x: ir.Value, axis: int, widths: Sequence[int], names: Sequence[str]) -> list[ir.Value]:
        """Slices along an axis."""
        net, found, start = self._net, [], 0
        whole = sizes(x.shape or ())
        for width, name in zip(widths, names, strict=True):
            shape = [*whole[:axis], width, *whole[axis + 1 :]]
            bounds = [net.ints([n]) for n in (start, start + width, axis)]
            found.append(net.op("Slice", [x, *bounds], name, shape))
            start += width
        return found

    def _grouped(self, query: ir.Value, stem: str) -> ir.Value:
        """[length, heads, size] -> [kv_heads, group * length, size]: the queries that share a key together."""
        net, length, pairs, group, size = (
            self._net,
            self._length,
            self._plan.kv_heads,
            self._group,
            self._plan.heads.padded,
        )
        wanted = (pairs, group * length, size)
        if length > 1:
            query = net.reshape(query, (length, pairs, group, size), f"{stem}/q_apart", (length, pairs, group, size))
            query = net.op("Transpose", [query], f"{stem}/q_turned", (pairs, group, length, size), perm=[1, 2, 0, 3])
        return net.reshape(query, wanted, f"{stem}/q_grouped", wanted)

    def _ungrouped(self, x: ir.Value, stem: str) -> ir.Value:
        """Back to [length, heads * size]."""
        net, length, pairs, group, size = (
            self._net,
            self._length,
            self._plan.kv_heads,
            self._group,
            self._plan.heads.padded,
        )
        if length > 1:
            x = net.reshape(x, (pairs, group, length, size), f"{stem}/apart", (pairs, group, length, size))
            x = net.op("Transpose", [x], f"{stem}/turned", (length, pairs, group, size), perm=[2, 0, 1, 3])
        wanted = (length, pairs * group * size)
        return net.reshape(x, wanted, f"{stem}/joined", wanted)

    def _by_head(self, x: ir.Value, name: str) -> ir.Value:
        """[length, kv_heads, size] -> [kv_heads, length, size]"""
        net, length, pairs, size = self._net, self._length, self._plan.kv_heads, self._plan.heads.padded
        if length == 1 or pairs == 1:
            return net.reshape(x, (pairs, length, size), name, (pairs, length, size))
        return net.op("Transpose", [x], name, (pairs, length, size), perm=[1, 0, 2])

    # -- arithmetic

    def _scores(self, query: ir.Value, key: ir.Value, name: str) -> ir.Value:
        (pairs, rows, size), count = sizes(query.shape or ()), sizes(key.shape or ())[1]
        turned = self._net.op("Transpose", [key], f"{name}/key", (pairs, size, count), perm=[0, 2, 1])
        return self._net.op("MatMul", [query, turned], name, (pairs, rows, count))

    def _turn(self, x: ir.Value, rows: tuple[ir.Value, ir.Value], stem: str) -> ir.Value:
        """x * cos + (second half, first half) * sin, the first half of sin negated (Su et al. 2021, eq. 34)."""
        net, shape = self._net, sizes(x.shape or ())
        half = shape[-1] // 2
        first, second = self._cut(x, 2, [half, half], [f"{stem}/first", f"{stem}/second"])
        swapped = net.op("Concat", [second, first], f"{stem}/swapped", shape, axis=-1)
        parts = [
            net.op("Mul", pair, f"{stem}/{n}", shape)
            for pair, n in (((x, rows[0]), "cos"), ((swapped, rows[1]), "sin"))
        ]
        return net.op("Add", parts, f"{stem}/turned_qk", shape)

    def _rotary(self, kind: str, places: ir.Value) -> tuple[ir.Value, ir.Value]:
        """cos and signed sin at the positions of this call, [length, 1, size]."""
        net, length, size = self._net, self._length, self._plan.heads.padded
        cos, sin = self._plan.rotary[kind]
        tables = {"cos": np.concatenate([cos, cos], axis=1), "sin": np.concatenate([-sin, sin], axis=1)}
        stem, found = f"rotary{kind and '.' + kind}", []
        for name, table in tables.items():
            row = net.op(
                "Gather", [net.constant(f"{stem}.{name}", table), places], f"{stem}/{name}_rows", (length, size), axis=0
            )
            found.append(net.reshape(row, (length, 1, size), f"{stem}/{name}", (length, 1, size)))
        return found[0], found[1]

    def _window(self, kind: Attention) -> int | None:
        return kind.window if kind.window is not None and kind.window < self._plan.context else None

    def _mask(self, window: int | None) -> ir.Value:
        """[group * length, capacity + length] (or one row): 0 where a query may look, far below zero elsewhere.

        In arithmetic, not in booleans: min(0, (start - 1/2 - place) * FAR) needs no kernel beyond Add, Mul and Min.
        """
        net, length, capacity = self._net, self._length, self._capacity
        stem = f"mask{window or ''}"
        held = net.constant("mask.places", -np.arange(capacity, dtype=np.float32)[None] - 0.5)
        behind = net.op("Add", [held, self._start], f"{stem}/behind", (1, capacity))
        cache = self._below(behind, f"{stem}/cache", (1, capacity))
        offsets = np.arange(length)[:, None] - np.arange(length)[None]
        allowed = (offsets >= 0) & (offsets < (window or math.inf))
        new = net.constant(f"{stem}.new", np.where(allowed, 0, -_FAR).astype(np.float32))
        if window is not None:
            rows = net.reshape(self._places, (length, 1), f"{stem}/rows", (length, 1))
            limit = net.constant(f"{stem}.limit", np.arange(capacity, dtype=np.float32)[None] + (window - 0.5))
            near = net.op("Sub", [limit, rows], f"{stem}/near", (length, capacity))
            near = self._below(near, f"{stem}/window", (length, capacity))
            cache = net.op("Add", [cache, near], f"{stem}/both", (length, capacity))
        elif length > 1:
            zeros = net.constant("mask.rows", np.zeros((length, 1), np.float32))
            cache = net.op("Add", [cache, zeros], f"{stem}/every_row", (length, capacity))
        mask = net.op("Concat", [cache, new], stem, (length, capacity + length), axis=-1)
        if length == 1 or self._group == 1:
            return mask
        shape = (self._group * length, capacity + length)
        return net.op("Concat", [mask] * self._group, f"{stem}/grouped", shape, axis=0)

    def _below(self, distance: ir.Value, name: str, shape: Sequence[int]) -> ir.Value:
        """0 where the distance is positive, else -FAR or less."""
        net = self._net
        far = net.op("Mul", [distance, net.constant("mask.far", np.array(_FAR, np.float32))], f"{name}_far", shape)
        return net.op("Min", [far, net.constant("mask.zero", np.array(0, np.float32))], name, shape)
