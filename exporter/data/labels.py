"""Labels against what a metric compares them with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.errors import DataError

__all__ = ["check_labels"]

_CLASSES = frozenset({"top1", "top5"})


def check_labels(labels: npt.NDArray[Any], metric: str, shape: Sequence[int | None], where: str) -> None:
    """Raise DataError for labels that numpy would compare with the outputs all the same, to no sense.

    labels  [N] or [N, ...]      metric  as in data.metric
    shape   of the model's first output, None for a size that is open; () where nothing is known
    """
    inner = list(shape[1:])
    size = math.prod(d for d in inner if d is not None) if shape and None not in inner else None
    found = f"{where}: labels have shape {list(labels.shape)}"
    if metric in _CLASSES:
        _check_classes(labels, size, found, where)
        return
    if labels.dtype.kind not in "fiu":
        raise DataError(f"{where}: labels are {labels.dtype}", f"{metric} compares numbers")
    each = labels.size // max(len(labels), 1)
    if metric == "spearman":
        if labels.ndim != 1:
            raise DataError(found, "spearman ranks one number for each sample")
        odd = len(labels) % 2 == 1
        if size is not None and size > 1 and (odd or not np.array_equal(labels[0::2], labels[1::2])):
            what = f"{where}: spearman of {size} outputs a sample compares rows 0 and 1, 2 and 3 …"
            raise DataError(what, "give each pair's label twice, and data.evaluation_samples for all rows")
    elif size is not None and each != size:
        hint = f"{metric} compares them with the first output, which has {size} for each sample"
        raise DataError(found, hint)


def _check_classes(labels: npt.NDArray[Any], classes: int | None, found: str, where: str) -> None:
    if labels.ndim != 1:
        one_hot = labels.ndim == 2 and labels.shape[1] == classes
        raise DataError(found, "class labels are one integer a sample" + (": labels.argmax(1)" if one_hot else ""))
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: labels are {labels.dtype}", "class labels must be integers")
    outside = np.flatnonzero((labels < 0) | (classes is not None and labels >= classes))
    if outside.size:
        first = int(outside[0])
        what = f"{where}: label {labels[first]} of sample {first} is out of range"
        last = "" if classes is None else f" to {classes - 1}"
        raise DataError(what, f"the model has {classes or 'some'} outputs, so labels are 0{last}")
