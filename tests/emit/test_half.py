"""Weights of float16: half the bytes in the TFLite file, the numbers of ONNX Runtime."""

from __future__ import annotations

import pytest

from exporter.emit.tflite import read_tflite
from tests.ops.text import agree

WIDE = "k = Cast<to = 1>(w)"
# name: signature of weight and graph, operator that reads the widened weight
CASES = {
    "linear": ("float[N,64] x, float16[64,32] w) => (float[N,32] y", "y = MatMul(x, k)", "FULLY_CONNECTED"),
    "gemm": ("float[N,64] x, float16[32,64] w) => (float[N,32] y", "y = Gemm<transB = 1>(x, k)", "FULLY_CONNECTED"),
    "conv": ("float[N,8,6,6] x, float16[16,8,3,3] w) => (float[N,16,4,4] y", "y = Conv(x, k)", "CONV_2D"),
    "depthwise": (
        "float[N,32,6,6] x, float16[32,1,3,3] w) => (float[N,32,4,4] y",
        "y = Conv<group = 32>(x, k)",
        "DEPTHWISE_CONV_2D",
    ),
    "transposed": (
        "float[N,8,6,6] x, float16[8,16,2,2] w) => (float[N,16,12,12] y",
        "y = ConvTranspose<strides = [2, 2]>(x, k)",
        None,
    ),
    "table": ("int64[N,5] x, float16[50,8] w) => (float[N,5,8] y", "y = Gather(k, x)", "GATHER"),
    "read twice": ("float[N,64] x, float16[64,64] w) => (float[N,64] y", "h = MatMul(x, k) y = MatMul(h, k)", None),
    "beyond what is folded": ("float[N,2049] x, float16[2049,2048] w) => (float[N,2048] y", "y = MatMul(x, k)", None),
}


@pytest.mark.parametrize("case", CASES)
def test_stored_as_float16(case: str) -> None:
    signature, body, code = CASES[case]
    file = read_tflite(agree(f"({signature}) {{ {WIDE} {body} }}", constants=["w"], tolerance=2e-5))
    widened = [o for o in file.operators if o.code == "DEQUANTIZE"]
    assert len(widened) == 1
    assert file.tensors[widened[0].inputs[0]].dtype == "float16"
    readers = [o.code for o in file.operators if widened[0].outputs[0] in o.inputs]
    assert code is None or readers == [code]


def test_what_float16_does_not_hold_stays_wide() -> None:
    signature = "(float[N,64] x, float16[64,32] w, float[32,16] v) => (float[N,16] y)"
    text = f"{signature} {{ {WIDE} h = MatMul(x, k) y = MatMul(h, v) }}"
    file = read_tflite(agree(text, constants=["w", "v"]))
    assert [o.code for o in file.operators] == ["DEQUANTIZE", "FULLY_CONNECTED", "FULLY_CONNECTED"]
