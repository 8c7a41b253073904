"""Promise: chains of Transpose, Reshape, Slice and Unsqueeze are as short as they can be."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter.rules import common

from exporter.preparing.rewriting import rewrite

__all__ = ["movement"]


def movement(model: ir.Model) -> None:
    """Merge neighbours that only move values; drop those that move nothing."""
    rewrite(
        model,
        [
            common.no_op_transpose_rule,
            common.transpose_transpose_rule,
            common.reshape_reshape_rule,
            common.unsqueeze_unsqueeze_rule,
            common.no_op_expand_rule,
            common.collapse_slice_rule,
            common.collapse_slice2_rule,
        ],
    )
