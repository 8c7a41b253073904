"""Scaled dot-product attention (Vaswani et al. 2017), written with two matrix products and a softmax.

Grouped queries (Ainslie et al. 2023) need no copies of keys and values: the query heads that share a key head lie side
by side, so that they are more rows of one matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter.ops.expansion import Expansion, Operand
from exporter.ops.mask import Mask, mask_of
from exporter.ops.op import Float, Op

__all__ = ["ROWS"]


def attention(e: Expansion) -> None:
    """softmax(scale Q K^T + bias) V for 4-d inputs [B, heads, T, size] and 3-d ones [B, T, heads x size]."""
    sizes = _sizes(e)
    query, key, value = (_by_heads(e, i, sizes) for i in range(3))
    if e.has(4):
        key, value = e.op("Concat", e.input(4), key, axis=2), e.op("Concat", e.input(5), value, axis=2)
    mask = mask_of(e, sizes.queries, sizes.keys, sizes.past)
    shown, probabilities = _probabilities(e, query, key, sizes, mask)
    result = e.op("MatMul", probabilities, value)
    if sizes.group > 1:
        result = e.reshape(result, [0, sizes.heads, -1, sizes.value])
    result = mask.zero_rows(e, result)
    if sizes.flat:
        result = e.reshape(e.transpose(result, (0, 2, 1, 3)), [0, 0, sizes.heads * sizes.value])
    e.finish(result, *(v if e.wants(i) else None for i, v in ((1, key), (2, value), (3, shown))))


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Heads of queries and of keys, head sizes of keys and of values; T, S and past (None: dynamic); 3-d inputs?"""

    heads: int
    key_heads: int
    key: int
    value: int
    queries: int | None
    keys: int | None
    past: int | None
    flat: bool

    @property
    def group(self) -> int:
        return self.heads // self.key_heads


def _sizes(e: Expansion) -> _Sizes:
    query, key, value = e.shape(0), e.shape(1), e.shape(2)
    flat = len(query) == 3
    told = e.attr("q_num_heads"), e.attr("kv_num_heads")  # 4-d inputs tell themselves
    heads, key_heads = told if flat else (query[1], key[1])
    if not heads or not key_heads or heads % key_heads:
        raise e.refuse("q_num_heads", f"{heads} query heads for {key_heads} key heads", "give a multiple")
    if query[-1] is None or value[-1] is None:
        raise e.refuse("shape", "a dynamic head size", "fix the last dimensions")
    past = e.shape(4)[2] if e.has(4) else 0
    keys = None if key[-2] is None or past is None else key[-2] + past
    size, value_size = (query[-1] // heads, value[-1] // key_heads) if flat else (query[-1], value[-1])
    return _Sizes(heads, key_heads, size, value_size, query[-2], keys, past, flat)


def _by_heads(e: Expansion, index: int, sizes: _Sizes) -> ir.Value:
    """[B, T, heads x size] as [B, heads, T, size]."""
    if not sizes.flat:
        return e.input(index)
    heads, size = ((sizes.heads, sizes.key), (sizes.key_heads, sizes.key), (sizes.key_heads, sizes.value))[index]
    return e.op("Transpose", e.reshape(e.input(index), [0, 0, heads, size]), perm=(0, 2, 1, 3))


def _probabilities(e: Expansion, query: Operand, key: Operand, sizes: _Sizes, mask: Mask) -> tuple[Operand, ir.Value]:
    """What output 3 shows, and softmax(scores) as [B, key heads, group x T, S]."""
    precision, mode, cap = e.attr("softmax_precision", 1), e.attr("qk_matmul_output_mode", 0), e.attr("softcap", 0.0)
    if precision not in {1, 10, 11, 16} or mode not in range(4):
        name, found = ("softmax_precision", precision) if mode in range(4) else ("qk_matmul_output_mode", mode)
        raise e.refuse(name, str(found), "float types, and modes 0 to 3")
    scale = e.attr("scale") or 1 / math.sqrt(sizes.key)
    grouped, apart = sizes.group > 1, e.wants(3) or mask.bias is not None
    query = e.scaled(query, scale)
    if grouped:
        query = e.reshape(query, [0, sizes.key_heads, -1, sizes.key])
    scores = e.op("MatMul", query, e.op("Transpose", key, perm=(0, 1, 3, 2)))
    if grouped and apart:
        scores = e.reshape(scores, [0, sizes.heads, -1, sizes.keys or -1])
    shown = [scores]
    if cap:
        scores = e.op("Mul", e.op("Tanh", e.scaled(scores, 1 / cap)), np.asarray(cap, np.float32))
    shown.append(scores)
    shown.append(e.op("Add", scores, mask.exact) if mode == 2 and mask.exact is not None else scores)
    if mask.bias is not None:
        scores = e.op("Add", scores, mask.bias)
    result = e.op("Softmax", scores, axis=-1)
    shown.append(mask.zero_rows(e, result) if mode == 3 and e.wants(3) else result)
    if grouped and apart:
        result = e.reshape(result, [0, sizes.key_heads, -1, sizes.keys or -1])
    return shown[mode], result


def flex_attention(e: Expansion) -> None:
    """Attention whose scores and probabilities pass through graphs of the user's."""
    query, key, value = e.shape(0), e.shape(1), e.shape(2)
    if None in {query[1], key[1], query[3], key[2], value[3]} or query[1] % key[1]:  # type: ignore[operator]
        raise e.refuse("shape", f"{query[1]} query heads for {key[1]} key heads", "fix shapes, and give a multiple")
    e.attr("softmax_precision")  # float32 throughout
    scaled = e.scaled(e.input(0), e.attr("scale") or 1 / math.sqrt(query[3] or 1))
    grouped = query[1] != key[1]
    if grouped:
        scaled = e.reshape(scaled, [0, key[1] or 0, -1, query[3] or 0])
    scores = e.op("MatMul", scaled, e.op("Transpose", e.input(1), perm=(0, 1, 3, 2)))
    if grouped:
        scores = e.reshape(scores, [0, query[1] or 0, -1, key[2] or 0])
    probabilities = e.through("prob_mod", e.op("Softmax", e.through("score_mod", scores), axis=-1))
    if grouped:
        probabilities = e.reshape(probabilities, [0, key[1] or 0, -1, key[2] or 0])
    result = e.op("MatMul", probabilities, e.input(2))
    e.finish(e.reshape(result, [0, query[1] or 0, -1, value[3] or 0]) if grouped else result)


def swiglu(e: Expansion) -> None:
    """a sigmoid(alpha a) b."""
    gate = e.input(0)
    swish = e.op("Mul", gate, e.op("Sigmoid", e.scaled(gate, float(e.attr("alpha", 1.0)))))
    e.finish(e.op("Mul", swish, e.input(1)))


_WRITTEN = Float("written with simpler operators")

ROWS = (
    Op(
        "Attention",
        _WRITTEN,
        ("activation", "activation", "activation", "static", "activation", "activation", "static"),
        expand=attention,
    ),
    Op("FlexAttention", _WRITTEN, expand=flex_attention, domain="ai.onnx.preview"),
    Op("SwiGLU", _WRITTEN, expand=swiglu),
)
