"""What a row's ``lower`` function may ask of the TFLite emitter."""

from __future__ import annotations

from typing import Protocol

import onnx_ir as ir

__all__ = ["Lowering"]


class Lowering(Protocol):
    """One node on its way to TFLite."""

    node: ir.Node
