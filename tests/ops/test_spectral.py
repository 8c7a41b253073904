"""DFT and STFT against ONNX Runtime, and the matrix against NumPy's transforms."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.ops.spectral import fourier
from tests.ops.text import agree, counts

DFTS = {
    "real": ("float[N,10,1]", "float[N,10,2]", "", ""),
    "complex": ("float[N,10,2]", "float[N,10,2]", "", ""),
    "half a spectrum": ("float[N,11,1]", "float[N,6,2]", "onesided = 1", ""),
    "inverse": ("float[N,10,2]", "float[N,10,2]", "inverse = 1", ""),
    "another axis": ("float[N,6,5,2]", "float[N,6,5,2]", "", "axis = Constant<value_int = 1>() "),
    "padded": ("float[N,10,1]", "float[N,16,2]", "", "length = Constant<value_int = 16>() "),
    "cut": ("float[N,10,2]", "float[N,7,2]", "", "length = Constant<value_int = 7>() "),
}


@pytest.mark.parametrize("name", DFTS)
def test_dft(name: str) -> None:
    given, made, attributes, lines = DFTS[name]
    length = "length" if "length" in lines else ""
    axis = ", axis" if "axis" in lines else ""
    call = f"DFT{f'<{attributes}>' if attributes else ''}(x, {length}{axis})"
    agree(f"({given} x) => ({made} y) {{ {lines}y = {call} }}", tolerance=1e-5)


@pytest.mark.parametrize("points", [2, 7, 8, 15])
def test_matrix_is_the_transform(points: int) -> None:
    rng = np.random.default_rng(points)
    x = rng.standard_normal(points)
    half = points // 2 + 1
    matrix = fourier(points, points, columns=half, inverse=False, real_in=True, real_out=False)
    spectrum = (x @ matrix).reshape(half, 2)
    np.testing.assert_allclose(spectrum, np.stack([np.fft.rfft(x).real, np.fft.rfft(x).imag], -1), atol=1e-12)
    back = fourier(points, half, columns=points, inverse=True, real_in=False, real_out=True)
    np.testing.assert_allclose(spectrum.reshape(-1) @ back, x, atol=1e-12)


STFTS = {
    "steps that divide the frame": (64, 8, 16, True, ""),
    "steps that do not": (70, 10, 16, True, ""),
    "frames apart": (64, 20, 16, True, ""),
    "both halves": (64, 8, 16, True, "onesided = 0"),
    "no window": (64, 8, 16, False, ""),
}


@pytest.mark.parametrize("name", STFTS)
def test_stft(name: str) -> None:
    length, step, size, windowed, attributes = STFTS[name]
    frames, columns = (length - size) // step + 1, size if attributes else size // 2 + 1
    window, declared = ("w", f", float[{size}] w") if windowed else ("", "")
    lines = f"step = Constant<value_int = {step}>() size = Constant<value_int = {size}>()"
    call = f"STFT{f'<{attributes}>' if attributes else ''}(x, step, {window}, size)"
    data = agree(
        f"(float[N,{length},1] x{declared}) => (float[N,{frames},{columns},2] y) {{ {lines} y = {call} }}",
        constants=window,
    )
    found = counts(data)
    assert found["CONV_2D"] == 1
    assert "TRANSPOSE" not in found
