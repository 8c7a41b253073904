"""Large files: mapped instead of read, the same model; broken ones end in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from exporter.errors import LoadError
from exporter.loading import from_file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    text = '<ir_version: 8, opset_import: ["" : 13]> main (float[N,700] x) => (float[N,700] y) '
    proto = onnx.parser.parse_model(text + "{ h = Gemm<transB=1>(x, a, c) y = MatMul(h, b) }")
    arrays = {"a": (700, 700), "b": (700, 700), "c": (700,)}
    for name, shape in arrays.items():
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, path)
    return path


def test_the_same_model(file: Path) -> None:
    read, mapped = from_file(file), from_file(file, mapped=True)
    assert [n.op_type for n in mapped.graph] == [n.op_type for n in read.graph]
    for name, value in read.graph.initializers.items():
        twin = mapped.graph.initializers[name].const_value
        assert value.const_value is not None
        assert twin is not None
        np.testing.assert_array_equal(twin.numpy(), value.const_value.numpy())
    large = [v.const_value for v in mapped.graph.initializers.values() if v.const_value.nbytes > 1 << 20]
    assert len(large) == 2
    assert all(isinstance(t, ir.ExternalTensor) for t in large)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("length", [1, 100, 10_000, 2_000_000, -1])
def test_cut_off(file: Path, tmp_path: Path, length: int, mapped: bool) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(file.read_bytes()[:length])
    with pytest.raises(LoadError):
        from_file(path, mapped=mapped)


@pytest.mark.parametrize("mapped", [False, True])
def test_flipped_bytes_end_in_one_line_or_a_model(file: Path, tmp_path: Path, mapped: bool) -> None:
    rng = np.random.default_rng(0)
    head = bytearray(file.read_bytes()[:400])
    rest = file.read_bytes()[400:]
    for number in range(40):
        changed = bytearray(head)
        for place in rng.integers(0, len(head), 3):
            changed[place] ^= 1 << int(rng.integers(0, 8))
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(bytes(changed) + rest)
        found = None
        try:
            from_file(path, mapped=mapped)
        except LoadError as error:
            found = str(error)
        assert found is None or "\n" not in found
        path.unlink()
