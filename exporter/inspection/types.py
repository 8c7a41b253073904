"""What inspect finds in a file: frozen data, printed by the command line and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["FloatNode", "Inspection", "Kernels", "Kind", "Port", "TensorScheme", "WeightUse", "by_use"]

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
    """A node that runs in float, and why."""

    name: str
    op: str
    why: str


@dataclass(frozen=True, slots=True)
class WeightUse:
    """One weight of a file. stored: bits of a value in the file; runs: bits that the kernel computes with, 32 in float.

    op     operator that reads it in the loaded graph
    count  values
    """

    name: str
    stored: int
    runs: int
    op: str
    count: int

    @property
    def label(self) -> str:
        """ "runs in low bits", "storage only", or plainly how it runs."""
        how = "in float" if self.runs >= 16 else f"in {self.runs} bits"
        if self.runs < 8:
            return f"runs in low bits ({self.runs})"
        return f"storage only, runs {how}" if self.stored < min(self.runs, 32) else f"runs {how}"


def by_use(weights: Iterable[WeightUse]) -> list[list[WeightUse]]:
    """Those that lie and run alike, together, in order of appearance."""
    groups: dict[tuple[int, int, str], list[WeightUse]] = {}
    for use in weights:
        groups.setdefault((use.stored, use.runs, use.op), []).append(use)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the runtime runs after its own optimisation.

    ops           count by operator, domain included where it is not ONNX's
    integer       nodes that compute on integers        in_float   nodes that compute in float
    boundary      QuantizeLinear and DequantizeLinear that are left, DynamicQuantizeLinear included
    reorder       nodes that only change the memory layout
    float_nodes   those in float although what they read was quantized
    weights       in how many bits each weight lies and runs
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
    weights: tuple[WeightUse, ...] = ()


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
