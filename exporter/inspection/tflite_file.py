"""Inspect a TFLite file: its operators, which of them run on integers, and the scheme of every tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter.emit.tflite import read_tflite
from exporter.inspection.types import FloatNode, Inspection, Kernels, Port, TensorScheme
from exporter.inspection.weights import tflite_weights

__all__ = ["inspect_tflite"]

_BOUNDARY = {"QUANTIZE", "DEQUANTIZE"}
_WEIGHTED = {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"}
_REORDER = {"RESHAPE", "TRANSPOSE"}


def inspect_tflite(path: Path) -> Inspection:
    """Raises BundleError for a file that is damaged or no TFLite file."""
    found = read_tflite(path.read_bytes(), str(path))
    constants: Counter[str] = Counter()
    schemes = []
    for tensor in found.tensors:
        if tensor.data is not None:
            constants[tensor.dtype] += tensor.bytes
        if tensor.scale.size:
            role = "activation" if tensor.data is None else "bias" if tensor.dtype == "int32" else "weight"
            per = f"channel {tensor.quantized_axis}" if tensor.scale.size > 1 else "tensor"
            bits = int("".join(c for c in tensor.dtype if c.isdigit()))
            scale = float(tensor.scale.min()), float(tensor.scale.max())
            zeros = tensor.zero_point if tensor.zero_point.size else [0]
            schemes.append(TensorScheme(tensor.name, role, bits, per, scale, (int(min(zeros)), int(max(zeros)))))
    kinds: Counter[str] = Counter()
    floats = []
    for operator in found.operators:
        results = [found.tensors[i] for i in operator.outputs]
        if operator.code in _BOUNDARY:
            kinds["boundary"] += 1
        elif operator.code in _REORDER:
            kinds["reorder"] += 1
        elif all(r.scale.size for r in results) or _is_hybrid(operator, found.tensors):
            kinds["integer"] += 1
        elif any(r.dtype.startswith("float") for r in results):
            kinds["in_float"] += 1
            if schemes:
                floats.append(FloatNode(results[0].name, operator.code, "its output is not quantized"))
    ops = Counter(o.code for o in found.operators)
    ports = [
        tuple(Port(name, found.tensors[i].dtype, tuple(found.tensors[i].shape)) for name, i in side)
        for side in (found.inputs, found.outputs)
    ]
    kernels = Kernels(
        "tflite",
        dict(ops.most_common()),
        kinds["integer"],
        kinds["in_float"],
        kinds["boundary"],
        kinds["reorder"],
        tuple(floats),
        weights=tflite_weights(path),
    )
    return Inspection(
        path=str(path),
        kind="tflite",
        size=path.stat().st_size,
        inputs=ports[0],
        outputs=ports[1],
        ops=dict(ops.most_common()),
        bytes_by_dtype=dict(constants.most_common()),
        schemes=tuple(schemes),
        kernels=kernels,
    )


def _is_hybrid(operator: Any, tensors: Sequence[Any]) -> bool:
    """Does it quantize its float input in each run, to multiply integers?"""
    weight = tensors[operator.inputs[1]] if operator.code in _WEIGHTED else None
    return weight is not None and bool(weight.scale.size) and weight.data is not None
