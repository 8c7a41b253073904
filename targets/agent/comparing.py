"""Outputs of the same files on two machines: how far apart, and where that is worst."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from . import metrics

__all__ = ["differences", "first_apart", "from_bytes"]

_LSB = 1  # a static int8 kernel may round the other way; more is another result
_RELATIVE = 1e-4  # of the largest value: float kernels sum in another order


def from_bytes(data: Any) -> Any:
    """The arrays of an .npz by name; never unpickles."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def differences(manifest: Any, there: Any, here: Any) -> Any:
    """By artifact: top1, equal, max_lsb (metrics.agreement), samples, and beyond: {"kind", "sample"} or None.

    there, here  "ARTIFACT/KIND.OUTPUT" -> array, of the device and of this machine; kind: evaluation or golden
    beyond       the sample that is furthest off, where that is more than the scheme's tolerance: one step of the
                 output's scale for integer models, 1e-4 of the largest value for float ones and where steps are finer
    """
    found: Any = {}
    for artifact in manifest["artifacts"]:
        worst: Any = None
        for output in manifest["outputs"]:
            for kind in ("evaluation", "golden"):
                key = "%s/%s.%s" % (artifact["name"], kind, output["name"])
                if key not in there or key not in here or len(there[key]) != len(here[key]):
                    continue
                scale = output.get("scale") if artifact["role"] == "candidate" else None
                off = _distance(there[key], here[key], scale)
                facts = dict(metrics.agreement(here[key], there[key], scale), samples=len(off))
                place = int(off.argmax())
                facts["beyond"] = {"kind": kind, "sample": place} if off[place] > 1 else None
                if worst is None or (facts["beyond"] and not worst["beyond"]):
                    worst = facts
        if worst is not None:
            found[artifact["name"]] = worst
    return found


def first_apart(there: Any, here: Any) -> Any:
    """Index of the first pair of arrays ("0", "1" …) that differ: integers at all, floats beyond the tolerance."""
    for index in range(len(here)):
        a, b = there.get(str(index)), here[str(index)]
        if a is None or a.shape != b.shape or a.dtype != b.dtype:
            return index
        if np.issubdtype(b.dtype, np.floating):
            if _distance(a[None], b[None], None)[0] > 1:
                return index
        elif not np.array_equal(a, b):
            return index
    return None


def _distance(a: Any, b: Any, scale: Any) -> Any:
    """Of each sample the largest difference, in tolerances."""
    rows, others = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    largest = max(float(np.abs(others).max(initial=0)), 1e-12)
    if scale:
        tolerance = max(_LSB, _RELATIVE * largest / scale)
        return np.abs(np.rint(rows / scale) - np.rint(others / scale)).max(1, initial=0) / tolerance
    apart = np.where(rows == others, 0.0, np.abs(rows - others))  # equal infinities are equal
    return np.nan_to_num(apart, nan=np.inf).max(1, initial=0) / (_RELATIVE * largest)
