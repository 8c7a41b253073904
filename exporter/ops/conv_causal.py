"""A causal convolution that carries its last inputs from call to call."""

from __future__ import annotations

from exporter.ops.conv import convolve, filters_tensor, split_bias
from exporter.ops.lowering import NEW, Layout, Lowering
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened
from exporter.ops.windows import Window

__all__ = ["ROWS"]


def causal_conv(ctx: Lowering) -> None:
    """What came before joined to what comes now, and a depthwise convolution over both."""
    batch, channels, length = ctx.shape(0)
    reach = ctx.shape(1)[2]
    layout: Layout = (0, NEW, 2, 1)
    moves, steps = Moves(ctx), Steps(ctx)
    signal = ctx.input(0, layout).tensor
    if ctx.has(3):
        whole = moves.join([ctx.input(3, layout).tensor, signal], 2) if reach > 1 else signal
    else:
        whole = moves.pad(signal, [(0, 0), (0, 0), (reach - 1, 0), (0, 0)])
    bias, late = split_bias(ctx, channels, signal)
    activation = ctx.attr("activation", "none")
    if activation not in {"none", "silu", "swish"}:
        raise ctx.refuse("activation", repr(activation), "none, silu and swish are known")
    win = Window((1, reach), (1, 1), (1, 1), ((0, 0), (0, 0)))
    result = ctx.output(layout)
    made = ctx.temp(result, tag="product") if late is not None or activation != "none" else result
    convolve(ctx, whole, filters_tensor(ctx, depthwise=True, rank=3), bias, win, made, depthwise=True)
    if late is not None:
        made = steps.add(made, late, None if activation != "none" else result)
    if activation != "none":
        steps.mul(made, steps.unary("LOGISTIC", made), result)
    if len(ctx.node.outputs) > 1 and ctx.node.outputs[1].name:
        moves.cut(whole, [0, 0, length, 0], [batch, 1, reach - 1, channels], into=ctx.output(layout, 1))


ROWS = (
    Op(
        "CausalConvWithState",
        Float("no integer kernel in ONNX Runtime"),
        ("activation", "weight", "bias", "activation"),
        lower=widened(causal_conv, REAL),
        types=REALS,
    ),
)
