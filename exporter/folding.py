"""Constant folding by onnxscript's optimizer, without the one rule of it that is wrong."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import rewriter
from onnxscript.optimizer import _constant_folding
from onnxscript.rewriter.pattern import RewriteRule
from onnxscript.rewriter.rules.common import one_reshape_matmul_reshape_rule, two_reshapes_matmul_reshape_rule

from exporter import graph

__all__ = ["LARGEST", "fold_constants"]

LARGEST = 1 << 22  # elements; larger constants are neither computed nor computed with
# Reshape, MatMul, Reshape as one MatMul that broadcasts: they compare sizes only, and take one batch axis for another
# of the same size (onnxscript 0.7.2; tests/test_folding.py shows a graph)
_WRONG = {id(one_reshape_matmul_reshape_rule), id(two_reshapes_matmul_reshape_rule)}


def _at_its_root(rule: RewriteRule) -> RewriteRule:
    """A copy that looks only at nodes of the operator that its pattern ends in: a rule of several outputs walks through
    the whole graph for every node."""
    root = next(iter(rule._target_pattern.output_nodes)).op_identifier()
    if root is None:
        return rule
    quick, whole = copy.copy(rule), rule.try_rewrite

    def try_rewrite(model: ir.Model, place: ir.Graph | ir.Function, node: ir.Node, **keys: Any) -> Any:
        return whole(model, place, node, **keys) if node.op_type == root[1] else None

    quick.try_rewrite = try_rewrite
    return quick


_RULES = [_at_its_root(rule) for rule in rewriter._DEFAULT_REWRITE_RULES if id(rule) not in _WRONG]


def fold_constants(model: ir.Model, rounds: int) -> None:
    """What can be computed now is an initializer; functions are inlined, dead code and no-ops are gone."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _passes(rounds)(model)
    finally:
        logging.disable(level)
    graph.adopt_constants(model)


def _fits(node: ir.Node) -> bool | None:
    """False where the result is too large to be kept (it would be computed first); None leaves it to the pass."""
    sizes = [graph.shape_of(v) or () for v in node.outputs]
    return False if any(None not in s and math.prod(n or 0 for n in s) > LARGEST for s in sizes) else None


def _passes(rounds: int) -> ir.passes.Sequential:
    """As in onnxscript.optimizer.optimize_ir."""
    sizes = {"input_size_limit": LARGEST, "output_size_limit": LARGEST}
    loop = ir.passes.PassManager(
        [
            _constant_folding.FoldConstantsPass(shape_inference=True, should_fold=_fits, **sizes),
            rewriter.RewritePass(_RULES),
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            common.RemoveUnusedOpsetsPass(),
        ],
        steps=rounds,
        early_stop=True,
    )
    return ir.passes.Sequential(
        common.InlinePass(),
        loop,
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )
