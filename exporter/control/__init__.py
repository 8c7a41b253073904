"""Control flow and sequences written out as a plain graph, as far as they are known before the run."""

from __future__ import annotations

import onnx_ir as ir

from exporter.control.branches import BRANCHES
from exporter.control.evaluation import compute
from exporter.control.loops import LOOPS
from exporter.control.sequences import SEQUENCES
from exporter.control.writer import CHOICE, Writer

__all__ = ["CHOICE", "CONTROL", "compute", "straighten"]

# operator -> what writes it out: (node, its inputs, writer) -> what its outputs are, or None while that is not known
CONTROL = {**BRANCHES, **LOOPS, **SEQUENCES}


def straighten(model: ir.Model) -> bool:
    """Write out every If, Loop, Scan, sequence and optional that constants decide; True if there was any.

    An If on a computed condition becomes both branches and a choice. What cannot be decided stays as it is: folding and
    shape inference may know more the next time. Shapes of the new values are left for shape inference.
    Raises UnsupportedError for a loop that is too long to be written out.
    """
    writer = Writer(model, CONTROL)
    changed = False
    for node in list(model.graph):
        if node.domain in {"", "ai.onnx"} and node.op_type in CONTROL:
            changed |= _straighten(node, writer)
    return changed


def _straighten(node: ir.Node, writer: Writer) -> bool:
    """Tensors take the place of the node's outputs; what a sequence or optional holds is noted for its readers."""
    writer.before(node)
    results = writer.control(node, [None if v is None else writer.lists.get(v, v) for v in node.inputs])
    if results is None:
        return False
    plain = [(old, new) for old, new in zip(node.outputs, results, strict=True) if isinstance(new, ir.Value)]
    writer.lists.update((o, n) for o, n in zip(node.outputs, results, strict=True) if not isinstance(n, ir.Value))
    changed = False
    for old, new in plain:
        if old.uses() or old.is_graph_output():
            _replace(old, new, writer)
            changed = True
    if len(plain) == len(node.outputs):
        writer.graph.remove(node, safe=True)
    return changed


def _replace(old: ir.Value, new: ir.Value, writer: Writer) -> None:
    if not old.is_graph_output():
        old.replace_all_uses_with(new)
        return
    kept = writer.op("Identity", new)
    kept.type, name, old.name = old.type, old.name, None
    old.replace_all_uses_with(kept, replace_graph_outputs=True)
    kept.name = name
