"""Matrix products."""

from __future__ import annotations

import onnx_ir as ir

from exporter.ops.op import Free, Op

__all__ = ["ROWS"]


def _gemm_axis(node: ir.Node) -> int:
    return 0 if node.attributes.get_int("transB", 0) else 1


ROWS = (
    Op("Gemm", Free(), ("activation", "weight", "bias"), weight_axis=_gemm_axis),
    Op("MatMul", Free(), ("activation", "weight"), weight_axis=lambda node: -1),
)
