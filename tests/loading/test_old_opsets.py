"""Files of old opsets: operators whose attributes and inputs have changed since, against ONNX Runtime."""

from __future__ import annotations

import pytest

from tests.ops.text import agree

CASES: dict[str, tuple[int, str, str]] = {  # opset, inputs that are constants, graph
    "Upsample 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,12,16] y) { s = Constant<value=float[4]{1.0,1.0,2.0,2.0}>() y ="
        ' Upsample<mode="nearest">(x, s) }'),
    "Upsample 9, linear": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,12,16] y) { s = Constant<value=float[4]{1.0,1.0,2.0,2.0}>() y ="
        ' Upsample<mode="linear">(x, s) }'),
    "Upsample 7": (7, "",
        '(float[N,4,6,8] x) => (float[N,4,12,16] y) { y = Upsample<mode="nearest",'
        " scales=[1.0,1.0,2.0,2.0]>(x) }"),
    "Upsample 7, linear": (7, "",
        '(float[N,4,6,8] x) => (float[N,4,12,16] y) { y = Upsample<mode="linear",'
        " scales=[1.0,1.0,2.0,2.0]>(x) }"),
    "Resize 10": (10, "",
        "(float[N,4,6,8] x) => (float[N,4,12,16] y) { s = Constant<value=float[4]{1.0,1.0,2.0,2.0}>() y ="
        ' Resize<mode="nearest">(x, s) }'),
    "Resize 10, linear": (10, "",
        "(float[N,4,6,8] x) => (float[N,4,12,16] y) { s = Constant<value=float[4]{1.0,1.0,2.0,2.0}>() y ="
        ' Resize<mode="linear">(x, s) }'),
    "Slice 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,4,6] y) { y = Slice<starts=[1,2], ends=[5,100], axes=[2,3]>(x)"
        " }"),
    "Pad 7": (7, "",
        '(float[N,4,6,8] x) => (float[N,4,8,10] y) { y = Pad<mode="reflect", pads=[0,0,1,1,0,0,1,1]>(x) }'),
    "Pad 10": (10, "",
        "(float[N,4,6,8] x) => (float[N,4,8,10] y) { y = Pad<pads=[0,0,1,1,0,0,1,1], value=2.0>(x) }"),
    "Clip 6": (7, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = Clip<min=-0.5, max=0.5>(x) }"),
    "Softmax 7": (7, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = Softmax<axis=1>(x) }"),
    "Softmax 9, default axis": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = Softmax(x) }"),
    "Squeeze 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { u = Unsqueeze<axes=[1]>(x) y = Squeeze<axes=[1]>(u) }"),
    "Split 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { a, b = Split<axis=1, split=[1,3]>(x) y ="
        " Concat<axis=1>(b, a) }"),
    "TopK 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,3] y) { y, i = TopK<k=3, axis=3>(x) }"),
    "TopK 10": (10, "",
        "(float[N,4,6,8] x) => (float[N,4,6,3] y) { k = Constant<value=int64[1]{3}>() y, i = TopK(x, k) }"),
    "BatchNormalization 7": (7, "sbmv",
        "(float[N,4,6,8] x, float[4] s, float[4] b, float[4] m, float[4] v) => (float[N,4,6,8] y) { v2 ="
        " Abs(v) y = BatchNormalization(x, s, b, m, v2) }"),
    "BatchNormalization 9": (9, "sbmv",
        "(float[N,4,6,8] x, float[4] s, float[4] b, float[4] m, float[4] v) => (float[N,4,6,8] y) { v2 ="
        " Abs(v) y = BatchNormalization<momentum=0.8>(x, s, b, m, v2) }"),
    "Dropout 7": (7, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = Dropout<ratio=0.3>(x) }"),
    "Dropout 12": (12, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = Dropout(x) }"),
    "ReduceMean 7": (7, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { a = ReduceMean<axes=[2,3], keepdims=1>(x) y = Add(x,"
        " a) }"),
    "ReduceSum 11": (11, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { a = ReduceSum<axes=[2,3], keepdims=1>(x) y = Add(x,"
        " a) }"),
    "Gemm 7": (7, "wb",
        "(float[N,4] x, float[4,5] w, float[5] b) => (float[N,5] y) { y = Gemm(x, w, b) }"),
    "Gemm behind a chain of shapes": (9, "wb",
        "(float[N,4,1,1] x, float[5,4] w, float[5] b) => (float[N,5] y) { s = Shape(x) i ="
        " Constant<value=int64 {0}>() n = Gather(s, i) u = Unsqueeze<axes=[0]>(n) m ="
        " Constant<value=int64[1]{-1}>() c = Concat<axis=0>(u, m) f = Reshape(x, c) y = Gemm<transB=1>(f,"
        " w, b) }"),
    "ArgMax 7": (7, "",
        "(float[N,4,6] x) => (int64[N,1,6] y) { y = ArgMax<axis=1>(x) }"),
    "LSTM 7": (7, "wrb",
        "(float[5,N,3] x, float[1,16,3] w, float[1,16,4] r, float[1,32] b) => (float[5,1,N,4] y) { y ="
        " LSTM<hidden_size=4>(x, w, r, b) }"),
    "GRU 7": (7, "wrb",
        "(float[5,N,3] x, float[1,12,3] w, float[1,12,4] r, float[1,24] b) => (float[5,1,N,4] y) { y ="
        " GRU<hidden_size=4>(x, w, r, b) }"),
    "MaxPool 7": (7, "",
        "(float[N,4,6,8] x) => (float[N,4,3,4] y) { y = MaxPool<kernel_shape=[3,3], strides=[2,2],"
        " pads=[1,1,1,1]>(x) }"),
    "AveragePool 7": (7, "",
        "(float[N,4,6,8] x) => (float[N,4,3,4] y) { y = AveragePool<kernel_shape=[3,3], strides=[2,2],"
        " pads=[1,1,1,1]>(x) }"),
    "Conv 7": (7, "w",
        "(float[N,4,6,8] x, float[4,1,3,3] w) => (float[N,4,6,8] y) { y = Conv<group=4, pads=[1,1,1,1],"
        " kernel_shape=[3,3]>(x, w) }"),
    "PRelu 7": (7, "w",
        "(float[N,4,6,8] x, float[4,1,1] w) => (float[N,4,6,8] y) { y = PRelu(x, w) }"),
    "InstanceNormalization 7": (7, "wb",
        "(float[N,4,6,8] x, float[4] w, float[4] b) => (float[N,4,6,8] y) { y = InstanceNormalization(x,"
        " w, b) }"),
    "Hardmax 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = Hardmax<axis=3>(x) }"),
    "LogSoftmax 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = LogSoftmax<axis=3>(x) }"),
    "Cast 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { a = Cast<to=6>(x) y = Cast<to=1>(a) }"),
    "Flatten 7": (7, "",
        "(float[N,4,6] x) => (float[N,24] y) { y = Flatten(x) }"),
    "Tile 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,12,8] y) { r = Constant<value=int64[4]{1,1,2,1}>() y = Tile(x,"
        " r) }"),
    "Expand 8": (8, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { r = Constant<value=int64[4]{1,4,6,8}>() y = Expand(x,"
        " r) }"),
    "Scatter 9": (9, "",
        "(float[4,3] x, float[2,3] u) => (float[4,3] y) { i = Constant<value=int64[2,3]{0,1,2,2,0,1}>() y"
        " = Scatter(x, i, u) }"),
    "Where 9": (9, "",
        "(bool[N,4] c, float[N,4] a, float[N,4] b) => (float[N,4] y) { y = Where(c, a, b) }"),
    "OneHot 9": (9, "",
        "(int64[N] x) => (float[N,5] y) { d = Constant<value=int64 {5}>() v ="
        " Constant<value=float[2]{0.0,1.0}>() y = OneHot(x, d, v) }"),
    "EyeLike 9": (9, "",
        "(float[3,3] x) => (float[3,3] y) { a = EyeLike(x) y = Add(a, x) }"),
    "NonMaxSuppression 10": (10, "",
        "(float[1,6,4] b, float[1,1,6] s) => (int64[M,3] y) { k = Constant<value=int64[1]{3}>() t ="
        " Constant<value=float[1]{0.5}>() y = NonMaxSuppression(b, s, k, t) }"),
    "Loop 8": (8, "",
        "(float[2] x) => (float[2] y) { n = Constant<value=int64 {3}>() c = Constant<value=bool {1}>() y"
        " = Loop(n, c, x) <body = b (int64 i, bool go, float[2] s) => (bool on, float[2] r) { on ="
        " Identity(go) r = Add(s, x) }> }"),
    "MeanVarianceNormalization 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = MeanVarianceNormalization<axes=[0,2,3]>(x) }"),
    "Mod 10": (10, "",
        "(int32[N,4] x) => (int32[N,4] y) { m = Constant<value=int32 {3}>() y = Mod(x, m) }"),
    "CumSum 11": (11, "",
        "(float[N,4] x) => (float[N,4] y) { m = Constant<value=int64 {1}>() y = CumSum(x, m) }"),
    "Erf 9": (9, "",
        "(float[N,4,6,8] x) => (float[N,4,6,8] y) { y = Erf(x) }"),
    "ConvTranspose 7": (7, "w",
        "(float[N,4,5,6] x, float[4,6,3,3] w) => (float[N,6,11,13] y) { y ="
        " ConvTranspose<strides=[2,2]>(x, w) }"),
    "Scan 9": (9, "",
        "(float[2] i, float[3,2] x) => (float[2] y, float[3,2] z) { y, z = Scan<num_scan_inputs=1, body ="
        " b (float[2] s, float[2] e) => (float[2] r, float[2] o) { r = Add(s, e) o = Identity(r) }>(i, x)"
        " }"),
    "Resize 10, uneven": (10, "",
        "(float[N,4,6,8] x) => (float[N,4,15,18] y) { s = Constant<value = float[4] {1.0, 1.0, 2.5,"
        ' 2.25}>() y = Resize<mode = "nearest">(x, s) }'),
    "Resize 10, smaller": (10, "",
        "(float[N,4,6,8] x) => (float[N,4,3,5] y) { s = Constant<value = float[4] {1.0, 1.0, 0.5, 0.7}>()"
        ' y = Resize<mode = "nearest">(x, s) }'),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_equal(case: str) -> None:
    opset, constants, text = CASES[case]
    agree(text, constants=constants, opset=opset)
