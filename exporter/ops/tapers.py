"""Window functions of signal processing: constants, once their size is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exporter.ops.lowering import Lowering, View, identity
from exporter.ops.op import Float, Op

__all__ = ["ROWS"]


def cosines(*factors: float) -> Callable[[Lowering], None]:
    """Sum of factors[k] * (-1)^k * cos(2 pi k n / N), N = size, or size - 1 unless periodic."""

    def lower(ctx: Lowering) -> None:
        size = ctx.static(0, "size")
        kind = ctx.node.outputs[0].dtype
        assert kind is not None
        count = int(np.asarray(size).item())
        angle = 2 * np.pi * np.arange(count) / (count if ctx.attr("periodic", 1) else max(count - 1, 1))
        window = sum((-1) ** k * factor * np.cos(k * angle) for k, factor in enumerate(factors))
        constant = ctx.program.constant(np.asarray(window).astype(kind.numpy()), stem="window")
        ctx.alias(View(constant, identity(1)))

    return lower


_CONSTANT = Float("a constant")


def _row(op: str, *factors: float) -> Op:
    return Op(op, _CONSTANT, ("static",), lower=cosines(*factors), ignores=("output_datatype",))


ROWS = (
    _row("HannWindow", 0.5, 0.5),
    _row("HammingWindow", 25 / 46, 21 / 46),
    _row("BlackmanWindow", 0.42, 0.5, 0.08),
)
