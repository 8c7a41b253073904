"""The attributes of a node as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from exporter import graph

__all__ = ["Attributes"]


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of one node; ``results`` is how many outputs it has."""

    node: ir.Node

    @property
    def results(self) -> int:
        return len(self.node.outputs)

    def whole(self, name: str, default: int = 0) -> int:
        return self.node.attributes.get_int(name, default)

    def real(self, name: str, default: float) -> float:
        return self.node.attributes.get_float(name, default)

    def text(self, name: str, default: str) -> str:
        return self.node.attributes.get_string(name, default)

    def wholes(self, name: str) -> list[int] | None:
        found = graph.attribute(self.node, name)
        return list(found) if isinstance(found, tuple) else None
