"""Promise: what can be computed now is an initializer; no Shape, Identity or Dropout is left that constants explain."""

from __future__ import annotations

import logging
import warnings

import onnx_ir as ir
import onnxscript.optimizer

from exporter.preparing.clean import clean

__all__ = ["fold"]


def fold(model: ir.Model) -> None:
    """Constant folding with shape inference, dead code and no-op elimination (onnxscript's optimizer)."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnxscript.optimizer.optimize(model, num_iterations=3, output_size_limit=1 << 22)
    finally:
        logging.disable(level)
    clean(model)
