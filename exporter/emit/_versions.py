"""Operator versions that TFLite asks for."""

from __future__ import annotations

__all__ = ["version_of"]

# tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc: (float, int8)
_VERSIONS = {
    "CONV_2D": (1, 3), "DEPTHWISE_CONV_2D": (2, 3), "FULLY_CONNECTED": (2, 4), "ADD": (1, 2), "SUB": (1, 2),
    "MUL": (1, 2), "AVERAGE_POOL_2D": (1, 2), "MAX_POOL_2D": (1, 2), "CONCATENATION": (1, 2), "SOFTMAX": (1, 2),
    "LOGISTIC": (1, 2), "TANH": (1, 2), "MEAN": (1, 2), "PAD": (1, 2), "PADV2": (1, 2), "STRIDED_SLICE": (1, 2),
    "SLICE": (1, 2), "TRANSPOSE": (1, 2), "SPLIT": (1, 2), "SPLIT_V": (1, 2), "RESIZE_BILINEAR": (3, 3),
    "RESIZE_NEAREST_NEIGHBOR": (3, 3), "LEAKY_RELU": (1, 2), "RELU": (1, 2), "RELU6": (1, 2), "GATHER": (1, 2),
    "BATCH_MATMUL": (1, 2), "DEPTH_TO_SPACE": (1, 2), "SPACE_TO_DEPTH": (1, 2), "MINIMUM": (1, 2), "MAXIMUM": (1, 2),
    "TILE": (1, 2), "BROADCAST_TO": (2, 2), "DEQUANTIZE": (1, 2), "QUANTIZE": (1, 2), "TRANSPOSE_CONV": (3, 3),
    "REDUCE_MAX": (1, 2), "REDUCE_MIN": (1, 2), "SUM": (1, 2), "ARG_MAX": (1, 2), "PRELU": (1, 1),
}  # fmt: skip


def version_of(code: str, *, integer: bool) -> int:
    """Version of a builtin operator, with or without quantized tensors."""
    return _VERSIONS.get(code, (1, 1))[1 if integer else 0]
