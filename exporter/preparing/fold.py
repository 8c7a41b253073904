"""Promise: what can be computed now is an initializer; no Shape, Identity or Dropout is left that constants explain."""

from __future__ import annotations

import onnx_ir as ir

from exporter.folding import fold_constants
from exporter.preparing.clean import clean

__all__ = ["fold"]


def fold(model: ir.Model) -> None:
    """Constant folding with shape inference, dead code and no-op elimination."""
    fold_constants(model, rounds=3)
    clean(model)
