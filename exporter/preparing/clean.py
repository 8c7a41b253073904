"""Promise: no dead node, unused or duplicated initializer; constants are initializers; every node has its own name."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes

__all__ = ["clean"]


def clean(model: ir.Model) -> None:
    """Tidy up after other passes; numbers do not change."""
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.IdentityEliminationPass()(model)
    passes.DeduplicateInitializersPass(size_limit=1 << 12)(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
    unused = [v for v in model.graph.initializers.values() if not v.uses() and not v.is_graph_output()]
    for value in unused:
        assert value.name is not None
        del model.graph.initializers[value.name]
