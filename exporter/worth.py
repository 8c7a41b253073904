"""Which widths of a plan buy no speed on the devices it is for, by what was measured there (targets.capabilities)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from exporter import graph
from exporter.types import Plan
from targets import Target
from targets.capabilities import Capability, buys_nothing

__all__ = ["NoGain", "kind", "no_gains", "to_dict"]

_WITHOUT = {
    "onnxruntime": "ONNX Runtime computes 16-bit activations in float",
    "tflite": "16-bit activations run in TFLite's reference kernels",
}


@dataclass(frozen=True, slots=True)
class NoGain:
    """Nodes whose width makes them no faster in one runtime on one target; ``measured`` is the row that says so.

    None: nobody measured int16 activations there, but no CPU has kernels for them.
    """

    target: str
    runtime: str
    op: str
    weight_bits: int
    activation_bits: int
    dynamic: bool
    nodes: tuple[str, ...]
    measured: Capability | None

    @property
    def width(self) -> str:
        """As in "4-bit weights, dynamic activations"."""
        if self.dynamic:
            read = "dynamic"
        else:
            read = f"{self.activation_bits}-bit" if self.activation_bits else "float"
        return f"{self.weight_bits}-bit weights, {read} activations"

    @property
    def verdict(self) -> str:
        """What it is no faster than, and how fast it is."""
        if self.measured is None:
            return f"slower than float: on a CPU {_WITHOUT[self.runtime]}"
        wider, speed = "float" if self.weight_bits >= 8 else "8 bits", f"{self.measured.speed:.2f}x"
        return f"no faster than {wider} ({speed if wider == 'float' else f'{speed} float'})"

    @property
    def source(self) -> str:
        """How that was measured, and on what; empty where nobody did."""
        if self.measured is None:
            return ""
        return "instructions, in emulation" if self.measured.source == "instructions" else self.measured.source

    @property
    def reason(self) -> str:
        """Both."""
        return f"{self.verdict}; {self.source}" if self.source else self.verdict


def no_gains(model: ir.Model, plan: Plan, targets: Iterable[Target], runtimes: Sequence[str]) -> list[NoGain]:
    """What was measured to be in vain, for each target, runtime and kind of operator; unknown is not in vain.

    model  the float graph that the plan is for
    """
    widths: dict[tuple[str, tuple[int, int, bool]], list[str]] = {}
    for node in model.graph:
        op, width = kind(node), _width(node, plan)
        if op is not None and width is not None:
            widths.setdefault((op, width), []).append(graph.node_name(node))
    found: list[NoGain] = []
    unmeasured: dict[tuple[str, str, tuple[int, int, bool]], list[str]] = {}
    for target, runtime in itertools.product(targets, runtimes):
        for (op, width), names in widths.items():
            row = buys_nothing(target, runtime, op, *width)
            if row is not None:
                found.append(NoGain(target.name, runtime, op, *width, tuple(names), row))
            elif width[1] == 16:
                unmeasured.setdefault((target.name, runtime, width), []).extend(names)
    for (name, runtime, width), nodes in unmeasured.items():
        found.append(NoGain(name, runtime, "all such", *width, tuple(nodes), None))
    return found


def to_dict(found: NoGain) -> dict[str, Any]:
    """Plain data, with the words."""
    return dataclasses.asdict(found) | {"width": found.width, "reason": found.reason}


def kind(node: ir.Node) -> str | None:
    """What the tables call this operator (exporter.probing); None: nothing like it is measured."""
    weight = _input(node, 1)
    shape = None if weight is None or graph.constant(weight) is None else graph.shape_of(weight)
    if shape is None:
        return None
    if node.op_type in {"MatMul", "Gemm"}:
        return "MatMul 512"
    if node.op_type != "Conv":
        return None
    if shape[1] == 1 and graph.attribute(node, "group", 1) != 1:
        return "Conv depthwise 3x3"
    return "Conv 1x1" if all(size == 1 for size in shape[2:]) else "Conv 3x3"


def _width(node: ir.Node, plan: Plan) -> tuple[int, int, bool] | None:
    """Bits of weights and activations, and whether these are dynamic; None for weights that stay in float32."""
    source, weight = (value.name or "" if value is not None else "" for value in (_input(node, 0), _input(node, 1)))
    planned, read = plan.tensors.get(weight), plan.read(source, graph.node_name(node))
    if planned is None or planned.role != "weight":
        return None
    if planned.qparams is None:
        return (16, 0, False) if planned.kept == "float16" else None
    bits = planned.qparams.scheme.bits
    if graph.node_name(node) in plan.dynamic_nodes:
        return bits, 8, True
    if graph.node_name(node) in plan.float_nodes or read is None or read.qparams is None:
        return bits, 0, False
    return bits, read.qparams.scheme.bits, False


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None
