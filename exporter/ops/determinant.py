"""Det of small matrices."""

from __future__ import annotations

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, widened

__all__ = ["ROWS"]

_LARGEST = 4


def determinant(ctx: Lowering) -> None:
    """Laplace expansion along the rows, minors shared."""
    size = ctx.shape(0)[-1]
    if size > _LARGEST:
        raise ctx.refuse("X", f"matrices of {size} x {size}", f"up to {_LARGEST} x {_LARGEST} work")
    matrix, steps, moves = ctx.plain(), Steps(ctx), Moves(ctx)
    lead = len(matrix.shape) - 2
    minors: dict[tuple[int, ...], Tensor] = {}  # determinant of the last rows in these columns

    def element(row: int, column: int) -> Tensor:
        return moves.cut(matrix, [0] * lead + [row, column], [*matrix.shape[:lead], 1, 1])

    def minor(columns: tuple[int, ...]) -> Tensor:
        if columns not in minors:
            row = size - len(columns)
            total: Tensor | None = None
            for number, column in enumerate(columns):
                rest = tuple(c for c in columns if c != column)
                term = steps.mul(element(row, column), minor(rest)) if rest else element(row, column)
                total = term if total is None else steps.binary("SUB" if number % 2 else "ADD", total, term)
            assert total is not None
            minors[columns] = total
        return minors[columns]

    ctx.program.reshape_into(minor(tuple(range(size))), ctx.output())


ROWS = (
    Op("Det", Float("no integer kernel in ONNX Runtime"), lower=widened(determinant, REAL), types=("float32", *REAL)),
)
