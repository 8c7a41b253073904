"""What is measured where: the frozen data of a law."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["WIDTHS", "Member", "Point", "Result"]

# bits as people write them -> quantize.weights
WIDTHS: Mapping[str, str] = {
    "1": "binary",
    "1.58": "ternary",
    "2": "int2",
    "3": "int3",
    "4": "int4",
    "5": "int5",
    "6": "int6",
    "7": "int7",
    "8": "int8",
    "16": "float16",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One size of the family; paths are relative to the recipe."""

    name: str
    source: str
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to measure. bits: a key of WIDTHS; group: weights that share a scale, 0 for an output channel."""

    member: Member
    bits: str
    group: int
    rounder: str

    @property
    def key(self) -> str:
        """The same for the same measurement."""
        return json.dumps([self.member.source, self.member.checkpoint, self.bits, self.group, self.rounder])


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured.

    parameters   numbers in the model
    weight_bits  bits for them in all: integers, scales, zero points, and what stays in float
    file_bytes   of the ONNX file that would ship
    loss         lower is better: nats a token of a language model; else the share of wrong answers or the metric
    metric       as people read it: bits a byte of a language model, else the recipe's metric
    """

    key: str
    member: str
    bits: str
    group: int
    rounder: str
    parameters: int
    weight_bits: int
    file_bytes: int
    loss: float
    metric: float

    def row(self) -> dict[str, Any]:
        """Plain data for tables."""
        return {key: value for key, value in asdict(self).items() if key != "key"}
