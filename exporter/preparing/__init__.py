"""Graph passes, in order. Each file says what its pass promises; the graph is verified after every one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from exporter import graph
from exporter.errors import DataError, RecipeError
from exporter.preparing.arithmetic import arithmetic
from exporter.preparing.averages import averages
from exporter.preparing.batch_norm import batch_norm
from exporter.preparing.blocks import blocks
from exporter.preparing.clean import clean
from exporter.preparing.equalize import equalize
from exporter.preparing.fold import fold
from exporter.preparing.fusible import fusible
from exporter.preparing.gemm import gemm
from exporter.preparing.int8_forms import int8_forms
from exporter.preparing.linear import linear
from exporter.preparing.lone_norms import lone_norms
from exporter.preparing.movement import movement
from exporter.preparing.overhang import overhang
from exporter.preparing.pooling import pooling
from exporter.preparing.rotate import rotate
from exporter.preparing.shuffles import shuffles
from exporter.preparing.smooth import smooth, smoothed_values
from exporter.preparing.transformer import transformer
from exporter.preparing.transposed import transposed
from exporter.preparing.unshare import unshare
from exporter.threads import one_blas_thread
from exporter.types import TensorStats

__all__ = ["INT8_PASSES", "PASSES", "WEIGHT_PASSES", "Conditioned", "condition", "prepare"]

PASSES: Mapping[str, Callable[[ir.Model], None]] = {
    "fold": fold,
    "arithmetic": arithmetic,
    "fusible": fusible,
    "batch_norm": batch_norm,
    "transformer": transformer,
    "overhang": overhang,
    "pooling": pooling,
    "movement": movement,
    "shuffles": shuffles,
    "blocks": blocks,
    "gemm": gemm,
    "linear": linear,
    "int8_forms": int8_forms,
    "averages": averages,
    "lone_norms": lone_norms,
    "transposed": transposed,
    "clean": clean,
    "unshare": unshare,  # after clean, which joins equal constants
}

_INT8 = {"linear", "int8_forms", "averages", "lone_norms", "transposed"}
INT8_PASSES: tuple[str, ...] = tuple(PASSES)
_FLOAT_PASSES: tuple[str, ...] = tuple(name for name in PASSES if name not in _INT8)
_WANTED: Mapping[str, str] = {  # by each weight pass
    "equalize": "pair of Convs or Gemms with nothing but rectifiers, pooling or a flattening between them",
    "smooth": "MatMul or Gemm with a constant weight",
    "rotate": "MatMul or Gemm with a constant weight whose inputs divide by 16",
}
WEIGHT_PASSES: tuple[str, ...] = tuple(_WANTED)


@dataclass(frozen=True, slots=True, eq=False)
class Conditioned:
    """model: computes the same. idle: by pass that found nothing to change, what it had looked for."""

    model: ir.Model
    idle: Mapping[str, str]


@one_blas_thread
def condition(
    model: ir.Model,
    passes: Sequence[str],
    observe: Callable[[ir.Model, Sequence[str]], Mapping[str, TensorStats]] | None = None,
) -> Conditioned:
    """A new graph that computes the same with weights and activations that are easier to quantize.

    passes   names from WEIGHT_PASSES, run in the order given
    observe  statistics of the named activations of a graph; "smooth" asks for them
    Raises RecipeError for an unknown pass, and DataError for "smooth" without samples.
    """
    result = model.clone()
    idle: dict[str, str] = {}
    for name in passes:
        match name:
            case "equalize":
                places = equalize(result)
            case "smooth":
                if observe is None:
                    raise DataError("pass 'smooth' needs calibration samples", "give data.calibration, or leave it out")
                places = smooth(result, observe(result, smoothed_values(result)))
            case "rotate":
                places = rotate(result)
            case _:
                raise RecipeError(f"quantize.passes: unknown pass {name!r}", f"known: {', '.join(WEIGHT_PASSES)}")
        graph.verify(result, f"pass {name}")
        if not places:
            idle[name] = _WANTED[name]
    return Conditioned(result, idle)


@one_blas_thread
def prepare(model: ir.Model, passes: Sequence[str] | None = None) -> ir.Model:
    """A new graph that computes the same, in the forms that planning and both emitters expect.

    passes  names from PASSES, run in the order given; None: all that keep a float graph fast (INT8_PASSES adds the
            forms that have integer kernels)
    Raises RecipeError for an unknown pass, GraphError when a pass breaks the graph.
    """
    result = model.clone()
    for name in _FLOAT_PASSES if passes is None else passes:
        if name not in PASSES:
            raise RecipeError(f"quantize.passes: unknown pass {name!r}", f"known: {', '.join(PASSES)}")
        PASSES[name](result)
        graph.verify(result, f"pass {name}")
    return result
