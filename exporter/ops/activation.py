"""Activations and other functions of one tensor."""

from __future__ import annotations

from exporter.ops.op import Fixed, Float, Free, Op

__all__ = ["ROWS"]

_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (
    Op("Relu", Free()),
    Op("Clip", Free(), ("activation", "static", "static")),
    Op("LeakyRelu", Free()),
    Op("Sigmoid", Fixed(1 / 256, -128)),
    Op("Tanh", Fixed(1 / 128, 0)),
    Op("Softmax", Fixed(1 / 256, -128)),
    Op("HardSigmoid", _NO_INT),
    Op("HardSwish", _NO_INT),
    Op("Gelu", _NO_INT),
    Op("Erf", _NO_INT),
    Op("Exp", _NO_INT),
    Op("Log", _NO_INT),
    Op("Sqrt", _NO_INT),
    Op("Reciprocal", _NO_INT),
    Op("Neg", _NO_INT),
    Op("Abs", _NO_INT),
    Op("Cast", Float("changes the element type")),
)
