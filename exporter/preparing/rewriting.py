"""Apply onnxscript rewrite rules in place."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript.rewriter import RewritePass, RewriteRuleSet
from onnxscript.rewriter.pattern import RewriteRule

__all__ = ["rewrite"]


def rewrite(model: ir.Model, rules: Sequence[RewriteRule]) -> None:
    """Until none of the rules applies."""
    RewritePass(RewriteRuleSet(list(rules)))(model)
