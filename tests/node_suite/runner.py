"""ONNX's own backend node cases through our emitter and LiteRT, in worker processes that may crash.

    python -m tests.node_suite.runner [--only NAME] [--json FILE]

Each case ends as: passed | refused (with the reason) | wrong | crashed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx

__all__ = ["Result", "load_cases", "run_cases"]


@dataclass(frozen=True, slots=True)
class Result:
    """How one case ended. ``how``: "as given" or "constants" (inputs after the first made initializers)."""

    name: str
    status: str
    reason: str = ""
    how: str = "as given"
    ops: tuple[str, ...] = ()


def load_cases(only: str = "") -> list[Any]:
    """The node cases of the installed onnx, in its order."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [c for c in collect_testcases(None) if only in c.name]


def run_cases(cases: Sequence[Any], workers: int = 2) -> list[Result]:
    """All cases, in order; a worker that dies marks its case as crashed and is replaced."""
    chunks = [list(range(w, len(cases), workers)) for w in range(workers)]
    lanes = [_Lane(cases, chunk) for chunk in chunks]
    results: dict[int, Result] = {}
    for lane in lanes:
        lane.start()
    for lane in lanes:
        results.update(lane.finish())
    return [results[i] for i in range(len(cases))]


class _Lane:
    """One worker process at a time, over one list of case numbers."""

    def __init__(self, cases: Sequence[Any], numbers: list[int]) -> None:
        self.cases, self.numbers = cases, numbers
        self.done: dict[int, Result] = {}

    def start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.receiver, sender = context.Pipe(duplex=False)
        left = [n for n in self.numbers if n not in self.done]
        self.process = context.Process(target=_work, args=(sender, self.cases, left))
        self.process.start()
        sender.close()

    def finish(self) -> dict[int, Result]:
        while len(self.done) < len(self.numbers):
            current = next(n for n in self.numbers if n not in self.done)
            if not self.receiver.poll(120):
                self.process.kill()
                self._lost(current, "hung for 120 s")
                continue
            try:
                number, result = self.receiver.recv()
            except EOFError:
                self.process.join()
                self._lost(current, f"the process ended with code {self.process.exitcode}")
                continue
            self.done[number] = result
        self.process.join()
        return self.done

    def _lost(self, number: int, reason: str) -> None:
        case = self.cases[number]
        self.done[number] = Result(case.name, "crashed", reason, ops=_ops(case))
        if len(self.done) < len(self.numbers):
            self.start()


def _work(sender: Connection, cases: Sequence[Any], numbers: Iterable[int]) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    warnings.simplefilter("ignore")
    for number in numbers:
        sender.send((number, run_case(cases[number])))
    sender.close()


def _ops(case: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.op_type for node in case.model.graph.node))


def run_case(case: Any) -> Result:
    """As given; if that is refused, once more with every input but the first as an initializer."""
    first = _attempt(case, constants=False)
    if first.status != "refused" or len(case.model.graph.input) < 2:
        return first
    second = _attempt(case, constants=True)
    return first if second.status == "refused" else second


def _attempt(case: Any, *, constants: bool) -> Result:
    from exporter.errors import KbitError

    how = "constants" if constants else "as given"
    ops = _ops(case)
    inputs, expected = (list(map(_array, part)) for part in case.data_sets[0])
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [v.name for v in model.graph.input]
    if any(a is None for a in [*inputs, *expected]):
        return Result(case.name, "refused", "sequences, optionals and strings are not tensors", how, ops)
    feeds = dict(zip(names, inputs, strict=True))
    if constants:
        for name in names[1:]:
            model.graph.initializer.append(onnx.numpy_helper.from_array(feeds.pop(name), name))
        del model.graph.input[1:]
    try:
        data = _emit(model)
    except KbitError as error:
        return Result(case.name, "refused", str(error), how, ops)
    except Exception as error:
        return Result(case.name, "crashed", f"emit: {type(error).__name__}: {error}", how, ops)
    try:
        actual = _run(data, feeds, [v.name for v in model.graph.output])
    except Exception as error:
        return Result(case.name, "crashed", f"run: {type(error).__name__}: {error}", how, ops)
    reason = "; ".join(_differences(actual, expected, case))
    return Result(case.name, "wrong" if reason else "passed", reason, how, ops)


def _array(value: Any) -> np.ndarray | None:
    """A tensor as an array; None for what is none."""
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind in "OSU":
        return None
    return np.asarray(value)


def _emit(model: onnx.ModelProto) -> bytes:
    from exporter.emit.tflite import emit_tflite
    from exporter.loading import from_proto

    return emit_tflite(from_proto(model))


def _run(data: bytes, feeds: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    runner = interpreter.get_signature_runner()
    wanted = runner.get_input_details()
    found = runner(**{name: array for name, array in feeds.items() if name in wanted})
    return [found[name] for name in outputs]


def _differences(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], case: Any) -> Iterator[str]:
    for index, (a, e) in enumerate(zip(actual, map(np.asarray, expected), strict=True)):
        if a.shape != e.shape:
            yield f"output {index}: shape {a.shape}, expected {e.shape}"
        elif a.dtype != e.dtype:
            yield f"output {index}: dtype {a.dtype}, expected {e.dtype}"
        elif not np.allclose(
            a.astype(np.float64), e.astype(np.float64), case.rtol, max(case.atol, 1e-6), equal_nan=True
        ):
            worst = np.nanmax(np.abs(a.astype(np.float64) - e.astype(np.float64)))
            yield f"output {index}: differs by {worst:g}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", default="wrong,crashed", help="statuses to list")
    arguments = parser.parse_args()
    results = run_cases(load_cases(arguments.only))
    for result in results:
        if result.status in arguments.show.split(","):
            print(f"{result.status:8} {result.name}: {result.reason[:200]}")
    print(dict(Counter(r.status for r in results)))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in results], indent=1))


if __name__ == "__main__":
    sys.exit(main())
