"""Image operators in float16: computed in float32 and rounded once, near what ONNX Runtime gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.numbers import noise
from tests.ops import test_norms, test_resize, test_windows
from tests.ops.compare import Case, agree, both

CASES = {
    **test_windows.CASES,
    **test_norms.CASES,
    **{f"resize, {name}": case for name, (case, _) in test_resize.CASES.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_half(name: str) -> None:
    case = CASES[name]
    agree(both(*_half(case).graph()), 6e-3)


def _half(case: Case) -> Case:
    def narrow(array: np.ndarray | None) -> np.ndarray | None:
        return array.astype(np.float16) if array is not None and array.dtype == np.float32 else array

    rest = case.rest if case.op == "Resize" else tuple(narrow(a) for a in case.rest)  # its scales stay float32
    return replace(case, rest=rest, outputs=(np.float16,), x=noise(*case.shape).astype(np.float16))
