"""What we know of one ONNX operator: one frozen row each, collected in ``exporter.ops.OPS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

if TYPE_CHECKING:
    from exporter.ops.expansion import Expansion
    from exporter.ops.lowering import Lowering

__all__ = [
    "FLOAT",
    "NO_INT16",
    "STORED",
    "Fixed",
    "Float",
    "Free",
    "InputRole",
    "Op",
    "Rule",
    "Same",
    "Within",
]

FLOAT = ("float32",)
# every type of whole bytes that a TFLite tensor can have: what operators take that only move elements
STORED = (
    "float32", "int32", "int64", "bool", "uint8", "int8", "int16", "float16",
    "bfloat16", "uint16", "uint32", "uint64", "float64", "complex64",
)  # fmt: skip

# activation  a tensor computed from the model's inputs (or a constant that stands in for one)
# weight      quantized per channel when it is a constant; otherwise it counts as an activation
# bias        int32 at input scale x weight scale
# static      never quantized: shapes, axes, indices, pads, conditions
InputRole = Literal["activation", "weight", "bias", "static"]


@dataclass(frozen=True, slots=True)
class Free:
    """The output has its own calibrated range: TFLite's integer kernel rescales, and so does ONNX Runtime's.

    Of a function of one number TFLite makes a table of 256; ONNX Runtime computes it in float between the pairs, which
    gives the same integers.
    """


@dataclass(frozen=True, slots=True)
class Same:
    """Integers pass through: all activation inputs and outputs must share scale and zero point."""


@dataclass(frozen=True, slots=True)
class Within(Same):
    """Computed, but on the grid of its input: the kernel goes wrong where the output's steps are finer."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The output's scale and zero point are set by the TFLite kernel (tflite/kernels/activations.cc)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Float:
    """Runs in float between DequantizeLinear and QuantizeLinear; ``why`` is shown to the user."""

    why: str


Rule = Free | Same | Fixed | Float
NO_INT16 = Float("TFLite has no sound int16 kernel")


@dataclass(frozen=True, slots=True)
class Op:
    """One operator.

    type         ONNX op type
    int8         what its output's numbers look like in an int8 graph
    int16        and in one of int16 activations (TFLite's reference kernels: tests/conformance/test_int16_ops.py)
    inputs       role by input index; the last one repeats (Concat)
    weight_axis  channel axis of the weight input for per-channel scales
    lower        writes the TFLite operators for one node; without it and ``expand``: not in TFLite, and refused there
    expand       writes the node with simpler ONNX operators instead, before the translation
    fuses        its TFLite operator can clamp its output (fused_activation_function)
    types        element types that its TFLite operators take, for inputs that are not static
    int8_when    further condition for running on integers in TFLite; where it fails the node runs in float
    int16_when   the same for int16, beside int8_when
    infer        shapes of the outputs, where onnx's inference finds none; called when those of the inputs are known
    ignores      attributes without effect on what is written; any other that is not read is refused
    domain       ONNX operator domain; "" is the default one
    """

    type: str
    int8: Rule
    inputs: tuple[InputRole, ...] = ("activation",)
    weight_axis: Callable[[ir.Node], int] | None = None
    lower: Callable[[Lowering], None] | None = None
    fuses: bool = False
    types: tuple[str, ...] = FLOAT
    int8_when: Callable[[ir.Node], bool] | None = None
    ignores: tuple[str, ...] = ()
    expand: Callable[[Expansion], None] | None = None
    domain: str = ""
    infer: Callable[[ir.Node], Sequence[tuple[int, ...]]] | None = None
    int16: Rule = NO_INT16
    int16_when: Callable[[ir.Node], bool] | None = None

    def rule(self, bits: int) -> Rule:
        """What its output's numbers look like among activations of 8 or 16 bits."""
        return self.int8 if bits == 8 or isinstance(self.int8, Float) else self.int16

    def role(self, index: int) -> InputRole:
        """Role of input ``index``."""
        return self.inputs[min(index, len(self.inputs) - 1)]
