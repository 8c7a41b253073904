"""What a law says, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exporter.units import scaled, size

__all__ = ["sentences"]


def sentences(law: Mapping[str, Any]) -> list[str]:
    """What it says, in words: a recommendation for each size, then the law beside the published one."""
    found = [
        f"For {size(row['budget'])} take {row['member']} at {row['bits']} bits: {size(row['file_bytes'])}, "
        f"{row['metric']:.4g}." for row in law["best"]
    ]  # fmt: skip
    if law.get("unmet"):
        least = min(law["results"], key=lambda row: row["file_bytes"])
        sizes = ", ".join(size(budget) for budget in law["unmet"])
        smallest = f"{least['member']} at {least['bits']} bits, {size(least['file_bytes'])}"
        found.append(f"Nothing fits in {sizes}: the smallest is {smallest}.")
    for fit in law["fits"]:
        found.append(_comparison(fit, law["results"]))
    return found


def _comparison(fit: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    amounts = fit["amount"]
    order = sorted(amounts, key=lambda bits: amounts[bits])
    group = f"groups of {fit['group']}" if fit["group"] else "one scale a channel"
    parameters = [row["parameters"] for row in results]
    said = f"At equal total bits ({group}, {fit['rounder']}) {order[0]} bits are best"
    if len(order) > 1:
        said += f", then {order[1]}"
    more = (
        f"Dettmers and Zettlemoyer (2023) found 4 bits almost always best, for models of 19 million to 176 billion "
        f"parameters with nearest rounding; these have {_count(min(parameters))} to {_count(max(parameters))}."
    )
    return f"{said}. {more}"


def _count(number: float) -> str:
    return scaled(number, ("", " thousand", " million", " billion"))
