"""One network, run over the samples piece by piece.

Sequential rounding needs what each layer reads once all layers before it are rounded. Running from the start for every
layer would take time quadratic in the depth; keeping every activation would take all the memory. The frontier keeps
what nodes that have not run yet will read, and nothing else: of a quantized tensor its int8 integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from exporter import graph
from exporter.errors import LoadError, first_line
from exporter.threads import in_order

__all__ = ["Frontier", "samples_within", "sizes_of"]

ort.disable_telemetry_events()

Array = npt.NDArray[np.generic]
Batch = Mapping[str, Array]
_FEWEST = 64  # samples, whatever memory they take


class Frontier:
    """The graph may be edited between calls, in initializers that no earlier call has used."""

    def __init__(self, model: ir.Model, batches: Sequence[Batch]) -> None:
        self._model = model
        self._values = {v.name: v for v in [*model.graph.inputs, *(v for n in model.graph for v in n.outputs)]}
        self._position = {id(node): i for i, node in enumerate(model.graph)}
        names = [v.name for v in model.graph.inputs if not v.is_initializer()]
        self._kept: dict[str, list[Array]] = {n: [np.asarray(b[n]) for b in batches] for n in names if n is not None}
        self.count = len(batches)
        self._done: set[int] = set()

    def reach(self, *names: str) -> Iterator[tuple[Array, ...]]:
        """These values, batch by batch; exhaust it before the next call."""
        missing = [name for name in names if name not in self._kept]
        nodes = self._needed(missing)
        inside = {id(node) for node in nodes}
        self._done |= {id(node) for node in nodes if not _is_view(node)}
        made = {v.name: v for node in nodes if not _is_view(node) for v in node.outputs if v.name}
        later = [name for name, value in made.items() if self._is_pending(value)]
        session, sources, results = self._session(nodes, inside, list(dict.fromkeys([*missing, *later])))
        fresh: dict[str, list[Array]] = {name: [] for name in later}

        def run(i: int) -> dict[str, Array]:
            feeds = {name: self._kept[name][i] for name in sources}
            return dict(zip(results, session.run(results, feeds), strict=True)) if session is not None else {}

        for i, found in enumerate(in_order(run, range(self.count))):
            for name in later:
                fresh[name].append(found[name])
            yield tuple(found[n] if n in found else self._kept[n][i] for n in names)
        self._kept |= fresh
        for name in [n for n in self._kept if not self._is_pending(self._values[n])]:
            del self._kept[name]

    def _needed(self, names: Sequence[str]) -> list[ir.Node]:
        """Nodes between what is kept and these values, in graph order."""
        found: dict[int, ir.Node] = {}
        open_ = [self._values[name] for name in names]
        while open_:
            node = open_.pop().producer()
            if node is None or id(node) in found:
                continue
            found[id(node)] = node
            open_ += [v for v in node.inputs if v is not None and v.name not in self._kept]
        return sorted(found.values(), key=lambda n: self._position[id(n)])

    def _is_pending(self, value: ir.Value) -> bool:
        """Will a node that has not run read it, itself or through a node that is run again each time?"""
        return any(
            any(map(self._is_pending, node.outputs)) if _is_view(node) else id(node) not in self._done
            for node in graph.consumers(value)
        )

    def _session(
        self, nodes: Sequence[ir.Node], inside: set[int], names: list[str]
    ) -> tuple[ort.InferenceSession | None, list[str], list[str]]:
        if not names:
            return None, [], []
        read = dict.fromkeys(v.name for node in nodes for v in node.inputs if v is not None)
        sources = [name for name in read if name is not None and name in self._kept]
        piece = ir.convenience.extract(self._model.graph, sources, names)
        body = ir.to_proto(ir.Model(piece, ir_version=self._model.ir_version, functions=[])).SerializeToString()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        options.intra_op_num_threads = 1
        try:
            return ort.InferenceSession(body, options, providers=["CPUExecutionProvider"]), sources, names
        except Exception as error:  # onnxruntime raises its own C++ types
            raise LoadError(f"ONNX Runtime does not load a piece of the graph: {first_line(error)}") from error


def _is_view(node: ir.Node) -> bool:
    """Cheap, and its input smaller than its output: run again wherever it is read."""
    return node.op_type == "DequantizeLinear"


def samples_within(model: ir.Model, batch: Batch, limit: int) -> int:
    """How many samples a frontier of float activations may hold in ``limit`` bytes: never fewer than 64."""
    sizes = sizes_of(model, batch)
    last = {}
    for i, node in enumerate(model.graph):
        for value in node.inputs:
            if value is not None and value.name and graph.constant(value) is None:
                last[value.name] = i
    live, most = 0.0, 1.0
    ends: dict[int, list[str]] = {}
    for name, i in last.items():
        ends.setdefault(i, []).append(name)
    for i, node in enumerate(model.graph):
        live += sum(sizes(v) for v in node.outputs if v.name in last)
        most = max(most, live)
        live -= sum(sizes(v) for v in node.inputs if v is not None and v.name in ends.get(i, ()))
    return max(_FEWEST, int(limit / most))


def sizes_of(model: ir.Model, batch: Batch):  # type: ignore[no-untyped-def]
    """A function: bytes of a value for one sample, with the dynamic dimensions as this batch has them."""
    known: dict[str, int] = {}
    for value in model.graph.inputs:
        if value.name is not None and value.name in batch and value.shape is not None:
            sizes = batch[value.name].shape
            known |= {str(d): n for d, n in zip(value.shape, sizes, strict=False) if not isinstance(d, int)}
    count = max(len(next(iter(batch.values()))), 1)

    def size(value: ir.Value) -> float:
        if value.shape is None:
            return 0.0
        return 4.0 * float(np.prod([d if isinstance(d, int) else known.get(str(d), 1) for d in value.shape])) / count

    return size
