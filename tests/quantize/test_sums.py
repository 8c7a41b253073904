"""All 65,536 sums of two int8 values, in the arithmetic of both runtimes, at scales before and after alignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.quantize.sums import align_sums

A, B = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")


def onnxruntime_sum(sa: float, sb: float, so: float) -> np.ndarray:
    """MlasQLinearAdd: float32, ties to even."""
    ra, rb = np.float32(sa) / np.float32(so), np.float32(sb) / np.float32(so)
    return np.rint(A.astype(np.float32) * ra + B.astype(np.float32) * rb).astype(np.int64)


def xnnpack_sum(sa: float, sb: float, so: float) -> np.ndarray:
    """qs8-vadd-minmax: multipliers of 21 bits, ties up."""
    ra, rb = np.float32(sa) / np.float32(so), np.float32(sb) / np.float32(so)
    shift = 20 - int(np.floor(np.log2(max(ra, rb))))
    ma, mb = np.rint(float(ra) * 2.0**shift).astype(np.int64), np.rint(float(rb) * 2.0**shift).astype(np.int64)
    return (A * ma + B * mb + (1 << (shift - 1))) >> shift


scales = st.floats(0.002, 0.02)


@settings(max_examples=60, deadline=None)
@given(scales, scales, st.floats(0.6, 2.0))
def test_aligned_sums_are_equal_in_both_runtimes(sa: float, sb: float, factor: float) -> None:
    so = max(sa, sb) * factor
    new = {"a": sa, "b": sb, "out": so} | align_sums([("a", "b", "out")], {"a": sa, "b": sb, "out": so}, [])
    if max(new["out"] / sa, new["out"] / sb) > 7:
        return  # one operand hardly moves the sum; left as it was
    assert all(1 - 1e-12 <= new[k] / v <= 1.032 for k, v in (("a", sa), ("b", sb), ("out", so)))
    np.testing.assert_array_equal(onnxruntime_sum(*new.values()), xnnpack_sum(*new.values()))


def test_the_fault_that_alignment_removes_is_real() -> None:
    """Half the output scale: one sum in four lies on a tie."""
    assert (onnxruntime_sum(0.01, 0.01, 0.02) != xnnpack_sum(0.01, 0.01, 0.02)).mean() > 0.2


@pytest.mark.parametrize("fixed", [["a"], ["b"], ["out"], ["a", "b", "out"]])
def test_fixed_scales_stay(fixed: list[str]) -> None:
    old = {"a": 0.011, "b": 0.007, "out": 0.013}
    assert not set(align_sums([("a", "b", "out")], old, fixed)) & set(fixed)


def test_a_chain_of_residual_blocks_keeps_what_was_settled_before() -> None:
    old = {"x": 0.02, "c1": 0.015, "y": 0.021, "c2": 0.013, "z": 0.024}
    new = old | align_sums([("c1", "x", "y"), ("c2", "y", "z")], old, [])
    for a, b, out in (("c1", "x", "y"), ("c2", "y", "z")):
        args = new[a], new[b], new[out]
        np.testing.assert_array_equal(onnxruntime_sum(*args), xnnpack_sum(*args))


@pytest.mark.parametrize("zeros", ["a", "b", "out"])
def test_a_tensor_of_zeros_is_left_alone(zeros: str) -> None:
    """A mask that calibration saw only as zero has the smallest scale there is."""
    old = {"a": 0.01, "b": 0.02, "out": 0.03} | {zeros: 2.0**-100}
    new = align_sums([("a", "b", "out")], old, [])
    assert all(np.isfinite(v) and v > 0 for v in new.values())
