"""What inspect finds in a file: frozen data, printed by the command line and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["FloatNode", "Inspection", "Kernels", "Kind", "Port", "TensorScheme"]

Kind = Literal["onnx", "tflite", "plan", "bundle"]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output; a dimension is a name or None when it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class TensorScheme:
    """How one tensor is stored: real = (integer - zero_point) * scale.

    bits          0 when it stays float
    per           "tensor", "channel 0" (the axis) or "group 0 of 32" (axis and size)
    scale         smallest and largest; zero_point likewise
    why           from the plan; empty when there is none
    """

    name: str
    role: str
    bits: int
    per: str
    scale: tuple[float, float]
    zero_point: tuple[int, int]
    why: str = ""


@dataclass(frozen=True, slots=True)
class FloatNode:
    name: str
    op: str
    why: str


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the runtime runs after its own optimisation.

    ops           count by operator, domain included where it is not ONNX's
    integer       nodes that compute on integers        in_float   nodes that compute in float
    boundary      QuantizeLinear and DequantizeLinear that are left, DynamicQuantizeLinear included
    reorder       nodes that only change the memory layout
    float_nodes   those in float although what they read was quantized
    problem       why the runtime does not take the file; empty when it does
    """

    runtime: str
    ops: Mapping[str, int] = field(default_factory=dict)
    integer: int = 0
    in_float: int = 0
    boundary: int = 0
    reorder: int = 0
    float_nodes: tuple[FloatNode, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """One file, or a bundle with its artifacts as ``parts``; bytes are of the constants."""

    path: str
    kind: Kind
    size: int
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    ops: Mapping[str, int] = field(default_factory=dict)
    bytes_by_dtype: Mapping[str, int] = field(default_factory=dict)
    schemes: tuple[TensorScheme, ...] = ()
    kernels: Kernels | None = None
    float_nodes: tuple[FloatNode, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Inspection, ...] = ()
