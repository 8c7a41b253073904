"""What a parity certificate says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Certificate", "Numbers", "OperatorParity", "Spread", "to_dict"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Numbers:
    """The plan's numbers as they lie in both files.

    activations, weights, biases  tensors compared
    integers    values compared, all weights and biases together
    different   "tensor: what", for every number that is not the same
    missing     tensors of the plan that a file keeps in a form without these numbers (why)
    """

    activations: int
    weights: int
    biases: int
    integers: int
    different: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Is every number that both files hold the same?"""
        return not self.different


@dataclass(frozen=True, slots=True)
class Spread:
    """How two runs of the same samples compare.

    top1    share of samples with the same largest output; None for an output of one value
    equal   share of equal output values
    steps   share of values 0, 1, 2, 3 and more steps of the output scale apart; empty for a float output
    max_relative  largest difference over the largest magnitude
    """

    samples: int
    top1: float | None
    equal: float
    max_relative: float
    steps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class OperatorParity:
    """One TFLite operator, given exactly the integers that ONNX Runtime computed before it.

    equal      share of output values that are the integer which ONNX Runtime computed
    max_steps  largest distance, steps of the output scale
    delegated  does a delegate (XNNPACK) run it?
    """

    index: int
    code: str
    tensor: str
    values: int
    equal: float
    max_steps: int
    delegated: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """The whole.

    parts_at   the first tensor, in graph order, on which whole runs of both differ, and the share that is equal
    noise      ONNX Runtime against itself with its graph optimisations off: differences no larger say nothing
    others     further runtimes on the TFLite file, against ONNX Runtime
    skipped    operators without a tensor to compare, by reason
    """

    versions: dict[str, str]
    numbers: Numbers
    operators: tuple[OperatorParity, ...]
    whole: Spread
    noise: Spread
    parts_at: tuple[str, float] | None
    others: dict[str, Spread]
    skipped: dict[str, int]

    @property
    def identical(self) -> bool:
        """Are the two artifacts made of the same numbers?"""
        return self.numbers.identical


def to_dict(certificate: Certificate) -> dict[str, Any]:
    """Plain data for JSON."""
    return {"format": FORMAT, "identical": certificate.identical, **asdict(certificate)}
