"""A blueprint as an ONNX graph for ONNX Runtime: prefill and decode in one, the cache in and out.

inputs   input_ids i64 [batch, sequence]
         attention_mask i64 [batch, total_sequence]: ones; its length is past and new tokens together, and a zero at the
         end of a row pads it
         position_ids i64 [batch, sequence], only with learned positions
         past_key_values.LAYER.key and .value f32 [batch, kv_heads, past_sequence, head_size]
outputs  logits f32 [batch, sequence, vocabulary]; present.LAYER.key and .value, the cache with the new tokens

The names are those of onnxruntime-genai. When past and present are one buffer, GroupQueryAttention writes in place; the
buffer's length is then its capacity, and what counts is the length of the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import onnx_ir as ir

from exporter.lm.blueprint import Attention, Blueprint
from exporter.lm.matrices import Matrices
from exporter.lm.net import Net

__all__ = ["build_decoder"]

_BATCH, _SEQUENCE, _TOTAL, _PAST = "batch", "sequence", "total_sequence", "past_sequence"


def build_decoder(plan: Blueprint, matrices: Matrices) -> ir.Model:
    """The float graph; weights are lazy tensors."""
    net = Net(plan, matrices)
    ids = net.input("input_ids", ir.DataType.INT64, (_BATCH, _SEQUENCE))
    mask = net.input("attention_mask", ir.DataType.INT64, (_BATCH, _TOTAL))
    places = net.input("position_ids", ir.DataType.INT64, (_BATCH, _SEQUENCE)) if plan.family.positions else None
    attention = _Attention(net, plan, mask)
    states = net.embed(ids, places)
    for index, layer in enumerate(plan.layers):
        states = net.block(index, states, partial(attention, index, layer))
    net.output("logits", net.logits(states), (_BATCH, _SEQUENCE, plan.vocabulary))
    for name, value in attention.present:
        net.output(name, value, (_BATCH, plan.kv_heads, _TOTAL, plan.heads.padded))
    return net.model("decoder")


class _Attention:
    """GroupQueryAttention for each layer, and what they share."""

    def __init__(self, net: Net, plan: Blueprint, mask: ir.Value) -> None:
        self._net, self._plan = net, plan
        self.present: list[tuple[str, ir.Value]] = []
        count = net.op("ReduceSum", [mask, net.ints([1])], "mask/count", (_BATCH,), ir.DataType.INT64, keepdims=0)
        last = net.op("Sub", [count, net.ints([1])], "mask/last", (_BATCH,), ir.DataType.INT64)
        self._last = net.cast(last, ir.DataType.INT32, "mask/last_position")
        shape = net.op("Shape", [mask], "mask/shape", (1,), ir.DataType.INT64, start=1, end=2)
        total = net.op("Squeeze", [shape], "mask/total_64", (), ir.DataType.INT64)
        self._total = net.cast(total, ir.DataType.INT32, "mask/total")
        self._tables = {
            kind: [
                net.constant(f"rotary{kind and '.' + kind}.{n}", t) for n, t in zip(("cos", "sin"), tables, strict=True)
            ]
            for kind, tables in plan.rotary.items()
        }

    def __call__(self, layer: int, kind: Attention, states: ir.Value) -> ir.Value:
        net, plan = self._net, self._plan
        stem = f"layers.{layer}.attention"
        qkv = net.linear(states, *net.matrices.qkv(layer), f"{stem}.qkv")
        parts: Sequence[ir.Value | None] = (qkv, None, None)
        if plan.head_norms:
            parts = self._normalised(layer, qkv)
        size = (_BATCH, plan.kv_heads, _PAST, plan.heads.padded)
        past = [net.input(f"past_key_values.{layer}.{part}", ir.DataType.FLOAT, size) for part in ("key", "value")]
        attributes: dict[str, Any] = {"num_heads": plan.query_heads, "kv_num_heads": plan.kv_heads, "scale": plan.scale}
        tables: Sequence[ir.Value] = ()
        if kind.rotary is not None:
            tables = self._tables[kind.rotary]
            attributes["do_rotary"] = 1
        if plan.softcap:
            attributes["softcap"] = plan.softcap
        if kind.window is not None and kind.window < plan.context:
            attributes["local_window_size"] = kind.window
        width = plan.query_heads * plan.heads.padded
        result, key, value = net.ops(
            "GroupQueryAttention",
            [*parts, *past, self._last, self._total, *tables],
            stem,
            [
                (stem, (_BATCH, _SEQUENCE, width)),
                (f"present.{layer}.key", (_BATCH, plan.kv_heads, _TOTAL, plan.heads.padded)),
                (f"present.{layer}.value", (_BATCH, plan.kv_heads, _TOTAL, plan.heads.padded)),
            ],
            domain="com.microsoft",
            **attributes,
        )
        self.present += [(f"present.{layer}.key", key), (f"present.{layer}.value", value)]
        return net.linear(result, *net.matrices.output(layer), f"{stem}.output")

    def _normalised(self, layer: int, qkv: ir.Value) -> Sequence[ir.Value]:
        """Query and key with each head normalised (Qwen 3, Gemma 3), and value."""
        net, plan, family = self._net, self._plan, self._plan.family
        stem, size = f"layers.{layer}.attention", plan.heads.padded
        widths = [plan.query_heads * size, plan.kv_heads * size, plan.kv_heads * size]
        query, key, value = net.split(qkv, widths, (_BATCH, _SEQUENCE), [f"{stem}.{part}" for part in "qkv"])
        found = []
        for states, source, heads in (
            (query, family.query_norm, plan.query_heads),
            (key, family.key_norm, plan.kv_heads),
        ):
            name = f"{stem}.{'query' if states is query else 'key'}_norm"
            apart = net.reshape(states, (0, 0, heads, size), f"{name}/heads", (_BATCH, _SEQUENCE, heads, size))
            normal = net.head_norm(apart, name, source.format(layer))
            found.append(net.reshape(normal, (0, 0, heads * size), name, (_BATCH, _SEQUENCE, heads * size)))
        return *found, value
