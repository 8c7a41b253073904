"""Element types: by value (Cast, CastLike), by bits (BitCast)."""

from __future__ import annotations

import onnx_ir as ir

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.op import STORED, Float, Op
from exporter.ops.steps import Steps

__all__ = ["ROWS"]

_TYPES = tuple(name for name in STORED if name != "complex64")
_HALF = float(1 << 63)


def cast(ctx: Lowering) -> None:
    """CAST, by way of int64 bits for uint64. Floats out of an integer's range saturate; ONNX leaves them undefined."""
    view, wanted, steps = ctx.input(), _wanted(ctx), Steps(ctx)
    given = view.tensor.dtype.name
    if given == wanted:
        ctx.alias(view)
        return
    if "uint64" not in {given, wanted}:
        steps.cast(view.tensor, wanted, ctx.output(view.layout))
    elif wanted == "uint64":
        steps.bitcast(_to_int64(steps, view.tensor), wanted, ctx.output(view.layout))
    elif _is_real(wanted):
        _from_uint64(ctx, steps, view.tensor, wanted, ctx.output(view.layout))
    else:
        steps.cast(steps.bitcast(view.tensor, "int64"), wanted, ctx.output(view.layout))


def _is_real(name: str) -> bool:
    return "float" in name


def _to_int64(steps: Steps, x: Tensor) -> Tensor:
    """Integers as they are; floats from 2^63 on are those less 2^64, whose bits are the same."""
    if not _is_real(x.dtype.name):
        return steps.cast(x, "int64")
    if x.dtype.name == "float64":
        raise steps.ctx.refuse("to", "uint64 from float64", "cast to float32 or int64 first")
    real = steps.cast(x, "float32")
    low = steps.cast(real, "int64")
    high = steps.cast(steps.sub(real, 2 * _HALF), "int64")
    return steps.select(steps.binary("LESS", real, _HALF), low, high)


def _from_uint64(ctx: Lowering, steps: Steps, x: Tensor, wanted: str, into: Tensor) -> None:
    if wanted == "float64":
        raise ctx.refuse("to", "float64 from uint64", "cast to float32 or int64 first")
    bits = steps.bitcast(x, "int64")
    real = steps.cast(bits, "float32")
    negative = steps.binary("LESS", bits, 0)
    target = into if wanted == "float32" else None
    whole = steps.select(negative, steps.add(real, 2 * _HALF), real, target)
    if target is None:
        steps.cast(whole, wanted, into)


def bit_cast(ctx: Lowering) -> None:
    """BITCAST."""
    view, wanted = ctx.input(), _wanted(ctx)
    given = view.tensor.dtype
    if given.name == wanted:
        ctx.alias(view)
    elif "bool" in {given.name, wanted}:
        if given.name != "bool":
            raise ctx.refuse("to", f"bool from {given.name}", "compare with 0")
        Steps(ctx).cast(view.tensor, wanted, ctx.output(view.layout))
    else:
        Steps(ctx).bitcast(view.tensor, wanted, ctx.output(view.layout))


def _wanted(ctx: Lowering) -> str:
    """Name of the output's type; refused where no TFLite tensor can have it."""
    kind = ctx.node.outputs[0].dtype
    name = "string" if kind is None or kind == ir.DataType.STRING else kind.numpy().name
    if name not in _TYPES:
        raise ctx.refuse("to", str(kind).lower(), f"can be {', '.join(_TYPES)}")
    return name


_CHANGES = Float("changes the element type")

ROWS = (
    Op("Cast", _CHANGES, lower=cast, types=_TYPES, ignores=("to", "saturate", "round_mode")),
    Op("CastLike", _CHANGES, ("activation", "static"), lower=cast, types=_TYPES, ignores=("saturate", "round_mode")),
    Op("BitCast", _CHANGES, lower=bit_cast, types=_TYPES, ignores=("to",)),
)
