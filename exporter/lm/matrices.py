"""The weights of a blueprint by their names in the graph, each read from the checkpoint when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.errors import LoadError
from exporter.lm.blueprint import Blueprint
from exporter.lm.checkpoint import Weights

__all__ = ["Matrices"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of the checkpoint's matrices [out, in] stacked: index -1 is a row of zeros; None takes all."""

    keys: tuple[str, ...]
    index: Array | None = None


class Matrices:
    """Lazy tensors for the graph: matrices are [in, out] as MatMul reads them."""

    def __init__(self, weights: Weights, plan: Blueprint) -> None:
        """Raises LoadError when a tensor is missing or of another shape than the settings say."""
        self._weights, self._plan = weights, plan

    def embed(self) -> ir.LazyTensor:
        """[vocabulary, hidden]"""
        key = self._key(f"{self._plan.family.embed}.weight")
        self._expect(key, (self._plan.vocabulary, self._plan.hidden))
        return _lazy("embed.weight", (self._plan.vocabulary, self._plan.hidden), lambda: self._weights.array(key))

    def positions(self) -> ir.LazyTensor:
        """[context, hidden]: learned positions."""
        key = self._key(f"{self._plan.family.positions}.weight")
        count, width = self._weights[key]
        if count < self._plan.context or width != self._plan.hidden:
            raise LoadError(f"{key} is {(count, width)}", f"expected {(self._plan.context, self._plan.hidden)}")
        shape = (self._plan.context, self._plan.hidden)
        return _lazy("positions.weight", shape, lambda: self._weights.array(key)[: shape[0]])

    def head(self) -> tuple[ir.LazyTensor, ir.LazyTensor | None]:
        """[hidden, vocabulary] and a bias, where it is not tied to the embeddings."""
        key = self._key(f"{self._plan.family.head}.weight")
        self._expect(key, (self._plan.vocabulary, self._plan.hidden))
        shape = (self._plan.hidden, self._plan.vocabulary)
        return _lazy("head.weight", shape, lambda: self._weights.array(key).T), self.head_bias()

    def head_bias(self) -> ir.LazyTensor | None:
        """[vocabulary], where there is one."""
        key = f"{self._plan.family.head}.bias"
        return self._vector("head.bias", key, self._plan.vocabulary) if key in self._weights else None

    def qkv(self, layer: int) -> tuple[ir.LazyTensor, ir.LazyTensor | None]:
        """[hidden, (heads + 2 kv_heads) * padded] with the heads in the graph's layout."""
        plan = self._plan
        keys = tuple(key.format(layer) for key in plan.family.qkv)
        return self._linear(f"layers.{layer}.attention.qkv", _Rows(keys, self._qkv_rows()), plan.hidden)

    def output(self, layer: int) -> tuple[ir.LazyTensor, ir.LazyTensor | None]:
        """[heads * padded, hidden]"""
        plan, heads = self._plan, self._plan.heads
        columns = _heads(np.arange(plan.query_heads) * heads.size, heads.plain)
        rows = _Rows((plan.family.output.format(layer),))
        index = None if heads.padded == heads.size else columns
        return self._linear(f"layers.{layer}.attention.output", rows, plan.query_heads * heads.size, index)

    def feed_forward(self, layer: int, part: str) -> tuple[ir.LazyTensor, ir.LazyTensor | None]:
        """``part``: "gate" and "up" [hidden, inner], "down" [inner, hidden]"""
        plan, family = self._plan, self._plan.family
        key = {"gate": family.gate, "up": family.up, "down": family.down}[part].format(layer)
        index = None
        if family.gate == family.up and part != "down":
            index = np.arange(plan.inner) + (plan.inner if part == "up" else 0)
        width = plan.inner if part == "down" else plan.hidden
        return self._linear(f"layers.{layer}.mlp.{part}", _Rows((key,), index), width)

    def norm(self, name: str, key: str) -> tuple[ir.LazyTensor, ir.LazyTensor | None]:
        """Weight (with the family's offset) and bias of a norm over the hidden values."""
        offset = np.float32(self._plan.family.norm_offset)
        weight = self._vector(f"{name}.weight", f"{key}.weight", self._plan.hidden, lambda array: array + offset)
        bias = self._key(f"{key}.bias")
        found = self._vector(f"{name}.bias", bias, self._plan.hidden) if bias in self._weights else None
        return weight, found

    def head_norm(self, name: str, key: str) -> ir.LazyTensor:
        """Weight of a norm over one head, in the graph's layout.

        The mean over ``padded`` values, zeros among them, is size / padded of the mean over the real ones; the weight
        makes up for it (and the graph scales epsilon alike).
        """
        heads, offset = self._plan.heads, np.float32(self._plan.family.norm_offset)
        order, factor = np.array(heads.order), np.float32(np.sqrt(heads.size / heads.padded))
        self._expect(self._key(f"{key}.weight"), (heads.size,))

        def make() -> Array:
            weight = self._weights.array(self._key(f"{key}.weight")) + offset
            return np.where(order < 0, np.float32(0), weight[order] * factor)

        return _lazy(f"{name}.weight", (heads.padded,), make)

    def _qkv_rows(self) -> Array | None:
        plan, heads = self._plan, self._plan.heads
        size, queries, pairs = heads.size, plan.query_heads, plan.kv_heads
        if plan.family.packing == "heads":
            starts = [np.arange(queries) * 3 * size + part * size for part in range(3)]
        else:
            starts = [
                np.arange(queries) * size,
                (queries + np.arange(pairs)) * size,
                (queries + pairs + np.arange(pairs)) * size,
            ]
        orders = (heads.order, heads.order, heads.plain)
        rows = np.concatenate([_heads(start, order) for start, order in zip(starts, orders, strict=True)])
        return None if np.array_equal(rows, np.arange(len(rows))) else rows

    def _linear(
        self, name: str, rows: _Rows, width: int, columns: Array | None = None
    ) -> tuple[ir.LazyTensor, ir.LazyTensor | None]:
        keys = [self._key(f"{key}.weight") for key in rows.keys]
        turned = self._plan.family.transposed
        shapes = [self._weights[key][::-1] if turned else self._weights[key] for key in keys]
        for key, shape in zip(keys, shapes, strict=True):
            if len(shape) != 2 or shape[1] != width:
                raise LoadError(f"{key} is {self._weights[key]}", f"config.json says {width} inputs")
        total = sum(shape[0] for shape in shapes)
        index = rows.index
        if index is not None and index.max() >= total:
            raise LoadError(f"{', '.join(keys)}: {total} rows", f"config.json says {int(index.max()) + 1}")

        def make() -> Array:
            parts = [self._weights.array(key) for key in keys]
            matrix = np.concatenate([part.T if turned else part for part in parts]) if len(parts) > 1 else parts[0]
            if turned and len(parts) == 1:
                matrix = matrix.T
            matrix = _taken(matrix, index)
            return matrix.T if columns is None else _taken(matrix.T, columns)

        shape = width if columns is None else len(columns), total if index is None else len(index)
        biases = [self._key(f"{key}.bias") for key in rows.keys]
        bias = None
        if all(key in self._weights for key in biases):
            bias = _lazy(
                f"{name}.bias",
                (shape[1],),
                lambda: _taken(np.concatenate([self._weights.array(key) for key in biases]), index),
            )
        return _lazy(f"{name}.weight", shape, make), bias

    def _vector(
        self, name: str, key: str, size: int, change: Callable[[Array], Array] = lambda array: array
    ) -> ir.LazyTensor:
        found = self._key(key)
        self._expect(found, (size,))
        return _lazy(name, (size,), lambda: change(self._weights.array(found)))

    def _expect(self, key: str, shape: tuple[int, ...]) -> None:
        if self._weights[key] != shape:
            raise LoadError(f"{key} is {self._weights[key]}", f"config.json says {shape}")

    def _key(self, key: str) -> str:
        short = key.removeprefix(self._plan.family.optional)
        return short if key not in self._weights and short in self._weights else key


def _heads(starts: Array, order: Sequence[int]) -> Array:
    """Row indices of heads that begin at ``starts``, each in ``order``; -1 stays -1."""
    inner = np.array(order)
    return np.where(inner < 0, -1, np.asarray(starts)[:, None] + inner).reshape(-1)


def _taken(array: Array, index: Array | None) -> Array:
    if index is None:
        return array
    result = array[index]
    result[index < 0] = 0
    return result


def _lazy(name: str, shape: tuple[int, ...], make: Callable[[], Array]) -> ir.LazyTensor:
    def tensor() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(make(), np.float32), name=name)

    return ir.LazyTensor(tensor, ir.DataType.FLOAT, ir.Shape(shape), name=name)
