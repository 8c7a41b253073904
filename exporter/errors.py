"""Everything that kbit raises on purpose.

KbitError                  one clear line for the user; the command line exits with 2
├── RecipeError            the recipe: unknown key, wrong type, value out of range
├── LoadError              the model: source, checkpoint, export to ONNX
├── DataError              calibration or evaluation data: shape, dtype, NaN, labels, empty
├── UnsupportedError       an operator, attribute or type that has no row (names node, op, attribute)
├── PlanError              the plan does not fit the graph
├── GraphError             a graph that breaks its own rules (after a pass: a bug of ours)
├── BundleError            a bundle that is corrupt, incomplete or unsafe
└── MissingError           a package or program that this step needs is not installed
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "DataError",
    "GraphError",
    "KbitError",
    "LoadError",
    "MissingError",
    "PlanError",
    "RecipeError",
    "UnsupportedError",
    "first_line",
]


def first_line(error: BaseException) -> str:
    """The first line of a foreign error, cut to a readable length; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class KbitError(Exception):
    """Base of all: ``message`` says what was found and where, ``hint`` what to do next (one line together)."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message, hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class RecipeError(KbitError):
    """The recipe: an unknown key, a wrong type, a value out of range, wishes that contradict each other."""


class LoadError(KbitError):
    """The model: its source, its checkpoint, or its export to ONNX."""


class DataError(KbitError):
    """Calibration, evaluation or training data: shape, dtype, NaN, labels, nothing at all."""


class PlanError(KbitError):
    """A plan that does not fit the graph."""


class GraphError(KbitError):
    """A graph that breaks its own rules; after a pass that is a bug of ours."""


class BundleError(KbitError):
    """A bundle that is corrupt, incomplete or unsafe."""


class MissingError(KbitError):
    """A package or program that this step needs is not installed."""


class UnsupportedError(KbitError):
    """No row for this operator, attribute or type: refused rather than guessed.

    ``node``, ``op`` and ``attribute`` are names in the ONNX graph; ``attribute`` is empty when the
    operator as a whole is unknown.
    """

    def __init__(self, node: str, op: str, attribute: str, found: str, hint: str = "") -> None:
        self.node = node
        self.op = op
        self.attribute = attribute
        where = f"{op} node {node!r}" + (f", attribute {attribute!r}" if attribute else "")
        super().__init__(f"unsupported: {where}: {found}", hint)
