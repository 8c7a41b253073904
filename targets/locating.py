"""Which layer of a model is the first whose result on the device is another than here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from targets.types import Job, Progress, TargetError, Transport

__all__ = ["Difference", "first_difference"]

_AT_ONCE = 24  # layers tapped in one run: their results are all in memory together


@dataclass(frozen=True, slots=True)
class Difference:
    """value: its name in the graph; node, op: the layer that made it."""

    value: str
    node: str
    op: str


def first_difference(
    there: Transport, here: Transport, artifact: str, place: Mapping[str, Any], batch: int, progress: Progress
) -> Difference | None:
    """Tap some layers in both places, keep the stretch in which the first difference lies, and tap that more closely.

    there, here  open, with the same bundle pushed
    place        {"kind", "sample"}: the sample that showed the difference
    None: with layers tapped nothing differs, or the layers cannot be tapped.
    """
    try:
        rows = here.run(Job("taps", {"name": artifact}), progress)["layers"]
        low, high = 0, len(rows)
        while high - low > 1:
            step = max(1, -(-(high - low) // _AT_ONCE))
            chosen = [*range(low + step - 1, high - 1, step), high - 1]
            found = _apart(
                there, here, artifact, [rows[i]["value"] for i in chosen], {**place, "batch": batch}, progress
            )
            if found is None:
                return None
            low, high = (chosen[found - 1] + 1 if found else low), chosen[found] + 1
            progress(f"find the layer of {artifact} that differs", len(rows) - (high - low), len(rows))
        row = rows[low]
        if _apart(there, here, artifact, [row["value"]], {**place, "batch": batch}, progress) is None:
            return None
    except TargetError:
        return None  # a runtime that refuses the tapped copy: the difference itself is reported all the same
    return Difference(row["value"], row["node"], row["op"])


def _apart(
    there: Transport,
    here: Transport,
    artifact: str,
    values: Sequence[str],
    place: Mapping[str, Any],
    progress: Progress,
) -> int | None:
    from targets.agent import comparing  # numpy: not before it is needed

    job = Job("taps", {"name": artifact, "values": list(values), **place})
    found = []
    for machine in (there, here):
        machine.run(job, progress)
        found.append(comparing.from_bytes(machine.pull("taps.npz")))
    index: int | None = comparing.first_apart(*found)
    return index
