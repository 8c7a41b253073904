"""A mutated or truncated ONNX file is converted or refused with one line: no crash, no hang, no memory without end."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest

from exporter.conversion import convert
from exporter.errors import KbitError
from tests.fuzz.mutations import BASES, mutated
from tests.fuzz.trial import Outcome, apart
from tests.ops.text import graph

_MEMORY = 12 << 30  # bytes of address space; what the runtimes map counts too


def conversion_trial(data: bytes) -> Outcome:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        source.write_bytes(data)
        try:
            convert(source, "tflite", Path(folder, "model.tflite"))
        except KbitError as error:
            lines = str(error).strip().splitlines()
            left = sorted(p.name for p in Path(folder).iterdir())
            return Outcome("refused" if len(lines) == 1 and left == ["model.onnx"] else "crashed", f"{lines} {left}")
    return Outcome("equal")


def check(base: str, seed: int) -> str:
    outcome = apart(conversion_trial, mutated(BASES[base], seed))
    assert outcome.status in {"equal", "refused"}, f"{base}, seed {seed}: {outcome.seen}"
    return outcome.status


@pytest.mark.parametrize("base", BASES)
def test_some_mutations(base: str) -> None:
    found = {check(base, seed) for seed in range(40)}
    assert found == {"equal", "refused"}


# a constant reshaped to another size; a negative size before a Slice; numbers beyond float32 in the comparison
@pytest.mark.parametrize(("base", "seed"), [("attention", 868), ("sizes", 1024), ("convolution", 319)])
def test_mutations_that_were_not_refused(base: str, seed: int) -> None:
    assert check(base, seed) in {"equal", "refused"}


@pytest.mark.parametrize("opset", [20, 21])  # onnx's version converter, and its inference alone
def test_a_negative_size_between_two_slices(opset: int) -> None:
    text = (
        "(float[1,1,4,4] x, float[1,1,9,9] w) => (float[1,1,A,B] y) { a = Constant<value_ints = [-3]>()"
        " b = Constant<value_ints = [9]>() n = Constant<value_ints = [2]>() s = Slice(x, a, b, n)"
        " c = Conv(s, w) y = Slice(c, a, b, n) }"
    )
    outcome = apart(conversion_trial, graph(text, opset=opset, constants=["w"]).SerializeToString())
    assert outcome.status == "refused", outcome.seen


@pytest.mark.nightly
@pytest.mark.parametrize("base", BASES)
def test_many_mutations(base: str) -> None:
    for seed in range(40, 1500):
        check(base, seed)
