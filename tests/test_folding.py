"""Constant folding never changes what a graph computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import torch

from exporter.folding import fold_constants
from exporter.loading import load
from exporter.reference import run

# one batch axis becomes rows, and the other has its size: no broadcast says the same
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[2,2,3,5] a, float[2,5,4] b) => (float[2,2,3,4] y) <int64[3] s = {2,6,5}, int64[4] t = {2,2,3,4}> {
    rows = Reshape(a, s)
    product = MatMul(rows, b)
    y = Reshape(product, t)
}"""


def test_equal_sizes_of_two_batch_axes_are_not_confused() -> None:
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("a", (2, 2, 3, 5)), ("b", (2, 5, 4)))}
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    fold_constants(model, 3)
    expected = np.matmul(feeds["a"].reshape(2, 6, 5), feeds["b"]).reshape(2, 2, 3, 4)
    np.testing.assert_allclose(run(model, feeds)["y"], expected, rtol=1e-5)


class Confusing(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a.reshape(2, 6, 5), b).reshape(2, 2, 3, 4)


def test_nor_while_torch_exports(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("a", (2, 2, 3, 5)), ("b", (2, 5, 4)))}
    args = tuple(torch.from_numpy(a) for a in feeds.values())
    torch.export.save(torch.export.export(Confusing(), args), tmp_path / "net.pt2")
    model = load(tmp_path / "net.pt2")
    np.testing.assert_allclose(next(iter(run(model, feeds).values())), Confusing()(*args).numpy(), rtol=1e-5)


def test_rules_apply_where_their_pattern_ends() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[2,6,4] x) => (float[2,6,4] y) {
        a = Transpose<perm=[0,2,1]>(x)  b = Transpose<perm=[0,2,1]>(a)  c = Relu(b)  d = Relu(c)  y = Sigmoid(d)
    }"""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    fold_constants(model, 2)
    assert [node.op_type for node in model.graph] == ["Relu", "Sigmoid"]
