"""Operator versions that TFLite asks for."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Operator, Tensor

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


_INT16 = {
    "CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 7, "ADD": 3, "SUB": 5, "MUL": 4, "AVERAGE_POOL_2D": 3,
    "MAX_POOL_2D": 3, "CONCATENATION": 3, "SOFTMAX": 3, "LOGISTIC": 3, "TANH": 3, "MEAN": 3, "PAD": 3, "PADV2": 3,
    "SLICE": 4, "TRANSPOSE": 5, "SPLIT": 4, "RESIZE_BILINEAR": 4, "RESIZE_NEAREST_NEIGHBOR": 4, "RELU": 3, "RELU6": 3,
    "GATHER": 4, "BATCH_MATMUL": 3, "DEQUANTIZE": 3, "REDUCE_MAX": 3, "REDUCE_MIN": 3, "MINIMUM": 4, "MAXIMUM": 4,
    "GATHER_ND": 3,
}  # fmt: skip


def version_of(operator: Operator) -> int:
    """The version that a runtime must know to run it right: an older one then refuses the file."""
    tensors = [t for t in [*operator.inputs, *operator.outputs] if t is not None]
    version = _VERSIONS.get(operator.code, (1, 1))[1 if any(t.quant is not None for t in tensors) else 0]
    if any(t.quant is not None and t.quant.bits == 16 for t in tensors):
        return _INT16.get(operator.code, version)
    if operator.code in {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"}:
        source, weight = operator.inputs[:2]
        assert source is not None
        assert weight is not None
        return _weighted(operator.code, weight, version, hybrid=weight.quant is not None and source.quant is None)
    if operator.code == "DEQUANTIZE":
        quant = tensors[0].quant
        if tensors[0].dtype == np.float16:
            return 3
        return 5 if quant is not None and quant.axis is not None else version
    if operator.code == "EMBEDDING_LOOKUP":
        return _LOOKUPS.get(tensors[1].dtype.name, 1)
    return version


_LOOKUPS = {"float32": 1, "int8": 3, "int4": 4, "int2": 5}


def _weighted(code: str, weight: Tensor, version: int, *, hybrid: bool) -> int:
    if weight.dtype.name == "int2":
        return 14
    if code == "FULLY_CONNECTED" and hybrid and weight.quant is not None:
        return 13 if weight.quant.block else 12 if weight.quant.axis is not None else 9
    return _INT4.get(code, version) if weight.dtype.name == "int4" else version


_INT4 = {"FULLY_CONNECTED": 10, "CONV_2D": 7, "DEPTHWISE_CONV_2D": 7}
