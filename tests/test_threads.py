"""The same recipe gives the same bytes, however many threads the libraries below may use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from exporter import threads
from exporter.threads import cores, in_order, one_blas_thread

WIDE = """net (float[N,16,15,15] x) => (float[N,10] y) {
    a = Conv <pads = [1,1,1,1]> (x, w1, b1)
    b = Relu (a)
    c = Conv <pads = [1,1,1,1], strides = [2,2]> (b, w2, b2)
    d = Relu (c)
    p = GlobalAveragePool (d)
    q = Flatten (p)
    y = Gemm <transB = 1> (q, w3, b3)
}"""
CASES = {
    "gptq": {"weights": "int4", "observer": "percentile"},
    "gptq, mixed passes": {"weights": "int3", "observer": "mse", "passes": ["equalize", "smooth"]},
    "adaround": {"weights": "int3", "rounder": "adaround", "observer": "entropy"},
    "brecq": {"weights": "int3", "rounder": "brecq"},
    "hqq": {"weights": "int4", "rounder": "hqq", "observer": "minmax"},
    "trained": {"weights": "int4", "rounder": "nearest", "finetune": "train", "epochs": 1},
}


def digests() -> dict[str, str]:
    """Of plan and artifacts of each case; run in a process of its own."""
    from exporter.data import open_dataset
    from exporter.emit.ort import emit_onnx
    from exporter.emit.tflite import emit_tflite
    from exporter.finetune import finetune
    from exporter.packing import onnx_bytes
    from exporter.preparing import INT8_PASSES, prepare
    from exporter.quantization import quantize
    from exporter.quantize import apply
    from exporter.recipe import Finetune, InputSpec, Quantize
    from exporter.reconstruction import learning
    from tests.quantize.graphs import model_of

    learning.STEPS = 40
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights = {"w1": noise(32, 16, 3, 3), "w2": noise(48, 32, 3, 3), "w3": noise(10, 48)}
    model = prepare(model_of(WIDE, **weights, b1=noise(32, 1)[:, 0], b2=noise(48, 1)[:, 0], b3=noise(10, 1)[:, 0]))
    model = prepare(model, INT8_PASSES)
    images = rng.standard_normal((96, 16, 15, 15)).astype(np.float32)
    batches = lambda: ({"x": images[i : i + 2]} for i in range(0, len(images), 2))  # noqa: E731
    found = {"float": hashlib.sha256(onnx_bytes(emit_onnx(model))).hexdigest()}
    for name, wishes in CASES.items():
        chosen = {key: value for key, value in wishes.items() if key not in {"finetune", "epochs"}}
        made = quantize(model, Quantize(**chosen), batches)
        graph, rounded = made.model, made.rounded
        if "finetune" in wishes:
            data = open_dataset({"x": images}, {"x": InputSpec(["N", 16, 15, 15])})
            result, _ = finetune(graph, rounded, data, Finetune(data="x", epochs=1, batch_size=32), teacher=model)
            graph, rounded = result.model, result.rounded
        quantized, plan = apply(graph, rounded), rounded.plan
        files = [plan.to_json().encode(), onnx_bytes(emit_onnx(quantized, plan)), emit_tflite(quantized, plan)]
        found[name] = hashlib.sha256(b"".join(files)).hexdigest()
    return found


def test_bytes_do_not_depend_on_threads() -> None:
    here = Path(__file__).parents[1]

    def start(count: int) -> subprocess.Popen[bytes]:
        said = {name: str(count) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        code = "import json; from tests.test_threads import digests; print(json.dumps(digests()))"
        paths = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, **said, "PYTHONPATH": paths}
        return subprocess.Popen([sys.executable, "-c", code], cwd=here, env=env, stdout=subprocess.PIPE)

    running = {count: start(count) for count in (1, 2)}
    found = {count: json.loads(process.communicate()[0].splitlines()[-1]) for count, process in running.items()}
    assert set(found[1]) == {"float", *CASES}
    assert found[1] == found[2]


def test_blas_is_held_to_one_thread() -> None:
    def now() -> set[int]:
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    with threadpool_limits(limits=2, user_api="blas"):
        before = now()
        assert one_blas_thread(now)() == {1}
        assert now() == before


def test_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cores() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("most", [1, 2, 8])
def test_results_come_in_order_and_few_are_under_way(count: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: count)
    drawn, under_way, lock, done = 0, [0], threading.Lock(), []

    def items() -> Iterator[int]:
        nonlocal drawn
        for i in range(20):
            drawn += 1
            yield i

    def square(i: int) -> int:
        with lock:
            under_way[0] += 1
            assert under_way[0] <= max(min(count, most), 1)
        with lock:
            under_way[0] -= 1
        return i * i

    for i, result in enumerate(in_order(square, items(), most=most)):
        assert result == i * i
        assert drawn <= i + 2 + min(count, most)
        done.append(i)
    assert done == list(range(20))


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_comes_up_where_its_result_would_have(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: count)
    results = in_order(lambda i: 6 // (3 - i), range(9))
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
