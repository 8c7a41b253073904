"""What the recipe asks for at each node: its [quantize] keys with the overrides that match."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import onnx_ir as ir

from exporter import graph
from exporter.errors import PlanError
from exporter.recipe import SEEING_SAMPLES, Granularity, Quantize

__all__ = ["FLOAT_WEIGHTS", "Wish", "wishes"]

FLOAT_WEIGHTS = frozenset({"float", "float16"})
_KEYS = ("weights", "activations", "granularity", "symmetric", "rounder")
_FEW_BITS = frozenset({"int4", "int3", "int2", "ternary", "binary", "nf4", "nf3", "kmeans4", "kmeans3", "kmeans2"})


@dataclass(frozen=True, slots=True)
class Wish:
    """The keys of [quantize] for one node; ``source`` is the override that changed something, for messages."""

    weights: str
    activations: str
    granularity: Granularity
    symmetric: bool | None
    rounder: str
    source: str = ""

    @property
    def bits(self) -> int:
        """Of activations that become integers."""
        return 16 if self.activations == "int16" else 8


def wishes(model: ir.Model, quantize: Quantize) -> dict[str, Wish]:
    """By node name, for every node. Raises PlanError for a pattern that matches nothing."""
    nodes = list(model.graph)
    _check_patterns(nodes, quantize)
    general = Wish(*(getattr(quantize, key) for key in _KEYS))
    table = replace(general, weights=_embeddings(quantize), rounder=_table_rounder(quantize))
    return {graph.node_name(n): _wish(n, table if n.op_type == "Gather" else general, quantize) for n in nodes}


def _table_rounder(quantize: Quantize) -> str:
    """Of look-up tables: by what is read where the layers' rounder looks at that too, else by their own numbers."""
    if quantize.rounder in {"auto", *SEEING_SAMPLES}:
        return "auto"
    return "mse" if _embeddings(quantize) in _FEW_BITS else "nearest"


def _embeddings(quantize: Quantize) -> str:
    if quantize.embeddings != "auto" or quantize.weights in FLOAT_WEIGHTS:
        return quantize.weights if quantize.embeddings == "auto" else quantize.embeddings
    return "int4" if quantize.weights in _FEW_BITS else "int8"


def _wish(node: ir.Node, wish: Wish, quantize: Quantize) -> Wish:
    kept = node.metadata_props.get(graph.KEEP_FLOAT)
    if kept is not None:
        return replace(wish, weights="float", activations="float", source=kept)
    for pattern in quantize.keep_float:
        if fnmatchcase(graph.node_name(node), pattern):
            return replace(wish, weights="float", activations="float", source=f"quantize.keep_float {pattern!r}")
    for override in quantize.override:
        if _matches(node, override.match):
            given: dict[str, Any] = {key: v for key in _KEYS if (v := getattr(override, key)) is not None}
            wish = replace(wish, **given, source=f"quantize.override {override.match!r}")
    return wish


def _matches(node: ir.Node, pattern: str) -> bool:
    names = [graph.node_name(node), node.op_type]
    names += [v.name for v in node.inputs if v is not None and v.name and graph.constant(v) is not None]
    return any(fnmatchcase(name, pattern) for name in names)


def _check_patterns(nodes: list[ir.Node], quantize: Quantize) -> None:
    some = ", ".join(graph.node_name(n) for n in nodes[:3])
    for pattern in quantize.keep_float:
        if not any(fnmatchcase(graph.node_name(n), pattern) for n in nodes):
            raise PlanError(f"quantize.keep_float: no node matches {pattern!r}", f"names look like: {some}")
    for override in quantize.override:
        if not any(_matches(n, override.match) for n in nodes):
            found = f"quantize.override: no node, weight or operator matches {override.match!r}"
            raise PlanError(found, f"nodes look like: {some}")
