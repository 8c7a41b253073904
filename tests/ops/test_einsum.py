"""Einsum equations against ONNX Runtime, and what they cost."""

from __future__ import annotations

import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.text import agree, counts, graph

# equation: shapes of the operands, then of the result
EQUATIONS = {
    "ij->ji": ("N,4", "4,N"),
    "ij->": ("3,4", ""),
    "ij->i": ("N,4", "N"),
    "bij->bj": ("N,3,4", "N,4"),
    "i,i->": ("5", "5", ""),
    "i,j->ij": ("3", "4", "3,4"),
    "bi,bj->bij": ("N,3", "N,4", "N,3,4"),
    "ij,ij->ij": ("N,4", "N,4", "N,4"),
    "ij,jk->ik": ("N,4", "4,5", "N,5"),
    "ij,kj->ik": ("N,4", "5,4", "N,5"),
    "ij,jk": ("N,4", "4,5", "N,5"),
    "ba,ca": ("3,4", "5,4", "3,5"),
    "bij,bjk->bik": ("N,3,4", "N,4,5", "N,3,5"),
    "bhqd,bhkd->bhqk": ("N,2,3,4", "N,2,5,4", "N,2,3,5"),
    "bqhd,bkhd->bhqk": ("N,3,2,4", "N,5,2,4", "N,2,3,5"),
    "bhqk,bkhd->bqhd": ("N,2,3,5", "N,5,2,4", "N,3,2,4"),
    "btc,chd->bthd": ("N,3,4", "4,2,5", "N,3,2,5"),
    "bthd,hdc->btc": ("N,3,2,5", "2,5,4", "N,3,4"),
    "bthd,hde->bthe": ("N,3,2,5", "2,5,4", "N,3,2,4"),
    "...ij,...jk->...ik": ("N,2,3,4", "N,1,4,5", "N,2,3,5"),
    "...ij,jk": ("N,2,3,4", "4,5", "N,2,3,5"),
    "...i->...": ("N,2,3", "N,2"),
    "...,...->...": ("N,1,3", "N,2,1", "N,2,3"),
    "ii->i": ("4,4", "4"),
    "ii->": ("4,4", ""),
    "...ii->...i": ("N,3,3", "N,3"),
    "bij,j,bi->b": ("N,3,4", "4", "N,3", "N"),
    "ij,jk,kl->il": ("N,4", "4,5", "5,6", "N,6"),
    "abcde,abcdf->abcdef": ("2,2,2,2,3", "2,2,2,2,4", "2,2,2,2,3,4"),
    "abcdei,abcdif->abcdef": ("2,1,2,2,3,4", "2,1,2,2,4,2", "2,1,2,2,3,2"),
    "ij,kl->ik": ("3,4", "5,6", "3,5"),
    "i j , j k -> i k": ("N,4", "4,5", "N,5"),
}


def text(equation: str, shapes: tuple[str, ...]) -> str:
    *operands, result = shapes
    names = [chr(ord("a") + i) for i in range(len(operands))]
    inputs = ", ".join(f"float[{s}] {n}" for s, n in zip(operands, names, strict=True))
    return f'({inputs}) => (float[{result}] y) {{ y = Einsum<equation = "{equation}">({", ".join(names)}) }}'


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equation(equation: str) -> None:
    agree(text(equation, EQUATIONS[equation]))


@pytest.mark.parametrize("fixed", ["a", "b"])
@pytest.mark.parametrize("equation", ["ij,jk->ik", "btc,chd->bthd", "bthd,hdc->btc", "bij,bjk->bik"])
def test_constant_operands(equation: str, fixed: str) -> None:
    shapes = EQUATIONS[equation]
    if "N" in shapes[fixed == "b"]:
        shapes = tuple(s.replace("N", "3") for s in shapes)
    agree(text(equation, shapes), constants=fixed)


COSTS = {
    "bhqd,bhkd->bhqk": ("", {"BATCH_MATMUL": 1}),
    "bij,bjk->bik": ("", {"BATCH_MATMUL": 1}),
    "ij,jk->ik": ("b", {"FULLY_CONNECTED": 1}),
    "btc,chd->bthd": ("b", {"FULLY_CONNECTED": 1, "RESHAPE": 1}),
    "bqhd,bkhd->bhqk": ("", {"TRANSPOSE": 2, "BATCH_MATMUL": 1}),
}


@pytest.mark.parametrize("equation", COSTS)
def test_no_operator_too_many(equation: str) -> None:
    fixed, expected = COSTS[equation]
    assert counts(agree(text(equation, EQUATIONS[equation]), constants=fixed)) == expected


@pytest.mark.parametrize("equation", ["ij,jk", "ij->k", "i->i"])
def test_nonsense_is_refused(equation: str) -> None:
    graph_text = f'(float[3,4] a) => (float[3] y) {{ y = Einsum<equation = "{equation}">(a) }}'
    with pytest.raises(UnsupportedError, match="equation"):
        emit_tflite(from_proto(graph(graph_text)))
