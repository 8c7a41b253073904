"""Samples as the model wants them, with one clear line for whatever does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter import graph
from exporter.data.sources import Raw, read
from exporter.errors import DataError
from exporter.recipe import InputSpec, Preprocess, to_dict
from targets.agent import preprocess as agent

__all__ = ["Dataset", "fixed_batch", "open_dataset"]

_HASHED = 64  # samples at a time


@dataclass(frozen=True, slots=True)
class Dataset:
    """``count`` samples. Batches are preprocessed as they are asked for; nothing grows with the count.

    labels     [count], [count, ...] or None
    index      which samples of the source were drawn
    """

    where: str
    count: int
    labels: npt.NDArray[Any] | None
    _raw: Raw
    _index: npt.NDArray[np.int64]
    _inputs: Mapping[str, InputSpec]
    _preprocess: Mapping[str, dict[str, Any] | None]

    def batches(self, size: int, limit: int | None = None) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Model-ready arrays by input name, ``size`` samples at a time, or as many as a model of a fixed batch takes.

        ``limit``: of the first so many samples. Shape, dtype and finiteness are checked.
        """
        size = fixed_batch(self._inputs) or size
        for start in range(0, self.count if limit is None else min(limit, self.count), size):
            index = self._index[start : start + size]
            yield {name: self._ready(name, index, start) for name in self._inputs}

    def take(self, which: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The same for samples by their numbers, 0 to count - 1."""
        return {name: self._ready(name, self._index[which], int(which[0])) for name in self._inputs}

    def raw(self, count: int | None = None) -> dict[str, npt.NDArray[Any]]:
        """The drawn samples, or the first ``count`` of them, before preprocessing, by input name."""
        return {name: self._raw.take(name, self._index[:count]) for name in self._inputs}

    def print_into(self, digest: Any) -> None:
        """Give every sample, as the model gets it, and the labels to a hash of hashlib."""
        for batch in self.batches(_HASHED):
            for name, array in batch.items():
                digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        if self.labels is not None:
            digest.update(str(self.labels.tolist()).encode())

    def _ready(self, name: str, index: npt.NDArray[np.int64], start: int) -> npt.NDArray[Any]:
        spec, raw = self._inputs[name], self._raw.take(name, index)
        if spec.dtype == "float32":
            try:
                array = agent.apply(raw, self._preprocess[name], spec.shape)
            except ValueError as error:
                raise DataError(f"{self.where}: preprocessing of {name!r} failed: {error}") from error
            _check_finite(array, f"{self.where}: input {name!r}", index)
        else:
            array = raw.astype(spec.dtype)
            if not np.array_equal(array, raw):
                raise DataError(f"{self.where}: input {name!r} is {raw.dtype}", f"the model takes {spec.dtype}")
        _check_shape(array, spec, f"{self.where}: input {name!r}")
        ready: npt.NDArray[Any] = array
        return ready


def open_dataset(
    source: Any,
    inputs: Mapping[str, InputSpec],
    preprocess: Mapping[str, Preprocess] | None = None,
    *,
    base: Path | str = ".",
    limit: int | None = None,
    labelled: bool = False,
    seed: int = 0,
) -> Dataset:
    """Samples from an .npz, a folder of images or wavs, "module:callable", or arrays in memory.

    inputs    the model's inputs (dimension 0 is the batch); float32 ones are preprocessed by the spec of that name
    limit     at most this many samples: all where there are no more, else a seeded subset in the source's order
    labelled  labels must be there, one for each sample
    A model of a fixed batch takes whole batches: the samples that fill none are left out.
    Raises DataError: nothing there, wrong shape or dtype, no labels. NaN and infinity are found while streaming.
    """
    raw = read(source, list(inputs), dict(preprocess or {}), Path(base))
    if raw.count == 0:
        raise DataError(f"{raw.where} holds no samples", "give at least one")
    if labelled and raw.labels is None:
        raise DataError(f"{raw.where} has no labels", 'evaluation needs an array "labels" (or class folders)')
    if raw.labels is not None and (raw.labels.ndim == 0 or len(raw.labels) != raw.count):
        many = len(np.atleast_1d(raw.labels))
        raise DataError(f"{raw.where}: {many} labels for {raw.count} samples", "they must be as many")
    index = np.arange(raw.count)
    if limit is not None and limit < raw.count:
        index = np.sort(np.random.default_rng(seed).permutation(raw.count)[:limit])
    fixed = fixed_batch(inputs) or 1
    if len(index) < fixed:
        found = f"{raw.where} holds {len(index)} samples, the model takes {fixed} at a time"
        raise DataError(found, "give at least as many, or make its first dimension dynamic")
    index = index[: len(index) // fixed * fixed]
    specs = {name: to_dict(value) for name, value in (preprocess or {}).items()}
    for name in specs:
        if name not in inputs:
            raise DataError(f"data.preprocess.{name}: the model has no such input", f"it has {', '.join(inputs)}")
    labels = None if raw.labels is None else raw.labels[index]
    if labels is not None and labels.size == len(labels):
        labels = labels.reshape(-1)  # [N, 1] would be compared with each of N outputs
    chosen = {name: specs.get(name) for name in inputs}
    dataset = Dataset(raw.where, len(index), labels, raw, index, dict(inputs), chosen)
    next(dataset.batches(1))  # a wrong shape should be said now, not after the model has loaded
    return dataset


def fixed_batch(inputs: Mapping[str, InputSpec]) -> int | None:
    """The first dimension of all inputs, where it is one number; None: as many samples as one likes."""
    return graph.same_first(spec.shape for spec in inputs.values())


def _check_finite(array: npt.NDArray[np.float32], where: str, index: npt.NDArray[np.int64]) -> None:
    if not np.isfinite(array.sum(dtype=np.float64)):
        bad = [int(i) for i, sample in zip(index, array, strict=True) if not np.isfinite(sample).all()]
        if bad:
            raise DataError(f"{where}: NaN or infinity in sample {bad[0]}", "clean the data, or check preprocess")


def _check_shape(array: npt.NDArray[Any], spec: InputSpec, where: str) -> None:
    wanted = spec.shape
    fits = array.ndim == len(wanted) and all(
        isinstance(w, str) or w == a for w, a in zip(wanted[1:], array.shape[1:], strict=True)
    )
    if not fits:
        hint = "check data.preprocess (source_layout, resize, length) or model.inputs"
        found = f"{where}: samples have shape {list(array.shape[1:])} after preprocessing"
        raise DataError(f"{found}, the model takes {list(wanted[1:])}", hint)
