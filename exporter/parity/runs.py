"""Runs of both artifacts: whole, tapped at every planned tensor, and operator by operator on the same integers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from exporter import reference
from exporter.emit._slice import Parts
from exporter.emit.tflite import read_tflite
from exporter.parity.numbers import flattened_maps, names_of, orders
from exporter.parity.types import OperatorParity
from exporter.types import Plan

__all__ = ["Trace", "closest", "compare_operators", "onnx_trace", "tapped_tflite"]

Array = npt.NDArray[Any]
Trace = Mapping[str, Array]  # int8 or int16 integers by name of the plan, samples along axis 0
_FLOAT_ONLY = "between float operators"
_CONSTANT = "reads constants only"


def onnx_trace(model: ir.Model, plan: Plan, samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The integers of every planned activation as ONNX Runtime computes them, one sample after the other."""
    wide = model.clone()
    made = {v.name: v for node in wide.graph for v in node.outputs}
    planned = [*plan.tensors.values(), *(border.tensor for border in plan.borders)]
    names = [t.name for t in planned if t.role == "activation" and f"{t.name}_quantized" in made]
    names = [n for n in names if made[f"{n}_quantized"].producer().op_type == "QuantizeLinear"]  # type: ignore[union-attr]
    for name in names:
        if not made[f"{name}_quantized"].is_graph_output():
            wide.graph.outputs.append(made[f"{name}_quantized"])
    session = reference.session(wide, threads=1)
    rows: dict[str, list[Array]] = {name: [] for name in names}
    for feeds in samples:
        for name, array in zip(names, session.run([f"{n}_quantized" for n in names], dict(feeds)), strict=True):
            rows[name].append((array.astype(np.int16) - 128).astype(np.int8) if array.dtype == np.uint8 else array)
    return {name: np.stack(parts) for name, parts in rows.items()}


def compare_operators(
    parts: Parts, data: bytes, trace: Trace, inputs: Sequence[Mapping[str, Array]]
) -> tuple[list[OperatorParity], dict[str, str], Counter[str]]:
    """Each operator of the TFLite file on the integers that ONNX Runtime had before it.

    inputs  what the file's own inputs hold, by signature name, for every sample
    Returns the comparisons, the tensor names in TFLite by name of the plan, and what was skipped. A tensor that the
    ONNX graph does not have (between two operators that TFLite needs for one) carries what TFLite computed.
    """
    file = read_tflite(data)
    count = len(inputs)
    values: dict[int, list[Array]] = {i: [feeds[name] for feeds in inputs] for name, i in file.inputs}
    plan_name = {tflite: name for name in trace for tflite in names_of(name)}
    found: list[OperatorParity] = []
    matched: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    for place, operator in enumerate(file.operators):
        single, fed, made = parts.single(place)
        if not fed:
            skipped[_CONSTANT] += 1
        results, delegated = _run(single, [[values[i][s] for i in fed] for s in range(count)])
        for which, tensor in enumerate(made):
            values[tensor] = [row[which] for row in results]
            name = plan_name.get(file.tensors[tensor].name)
            if name is None or file.tensors[tensor].dtype not in {"int8", "int16"}:
                if file.tensors[tensor].dtype == "float32":
                    skipped[_FLOAT_ONLY] += 1
                continue
            actual = np.stack(values[tensor])
            expected = closest(trace[name], actual)
            if expected is None:
                continue
            apart = np.abs(actual.astype(np.int32) - expected)
            matched[name] = file.tensors[tensor].name
            found.append(
                OperatorParity(
                    place, operator.code, name, apart.size, float((apart == 0).mean()), int(apart.max()), delegated
                )
            )
            values[tensor] = list(expected)
    return found, matched, skipped


def closest(expected: Array, actual: Array) -> Array | None:
    """The expected integers with their axes in the order in which they are closest to the actual ones.

    Rows may also hold a feature map flattened channels last instead of channels first.
    """
    best: tuple[float, Array] | None = None
    rows = expected.shape == actual.shape and expected.ndim <= 3
    for turned in itertools.chain(_turned(expected, actual.shape), flattened_maps(expected) if rows else ()):
        equal = float((turned == actual).mean())
        if best is None or equal > best[0]:
            best = equal, turned
        if equal == 1:
            break
    return None if best is None else best[1]


def _turned(array: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    for order in orders(array.shape[1:], shape[1:]):
        yield array.transpose(0, *(a + 1 for a in order)).reshape(shape)


def _run(data: bytes, feeds: Sequence[Sequence[Array]]) -> tuple[list[list[Array]], bool]:
    # XNNPACK runs no graph without inputs
    resolver = OpResolverType.AUTO if feeds[0] else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    lite = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=resolver)
    lite.allocate_tensors()
    sources, results = lite.get_input_details(), lite.get_output_details()
    rows = []
    for arrays in feeds:
        for detail, array in zip(sources, arrays, strict=True):
            lite.set_tensor(detail["index"], array)
        lite.invoke()
        rows.append([lite.get_tensor(d["index"]) for d in results])
    return rows, any(d["op_name"] == "DELEGATE" for d in lite._get_ops_details())


def tapped_tflite(
    parts: Parts, data: bytes, names: Mapping[str, str], inputs: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """Integers of every matched tensor in whole runs, by name of the plan; samples along axis 0."""
    file = read_tflite(data)
    index = {t.name: i for i, t in enumerate(file.tensors)}
    lite = Interpreter(model_content=parts.tapped([index[t] for t in names.values()]), num_threads=1)
    lite.allocate_tensors()
    by_index = {i: name for name, i in file.inputs}
    rows: dict[str, list[Array]] = {name: [] for name in names}
    for feeds in inputs:
        for detail in lite.get_input_details():
            lite.set_tensor(detail["index"], feeds[by_index[detail["index"]]])
        lite.invoke()
        for name, detail in zip(names, lite.get_output_details(), strict=True):
            rows[name].append(lite.get_tensor(detail["index"]))
    return {name: np.stack(parts_) for name, parts_ in rows.items()}
