"""Preprocessing, metrics and gates, against what they should be."""

from __future__ import annotations

import numpy as np
import pytest

from targets.agent import metrics, preprocess
from targets.agent.judge import judge

RAW = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("NHWC", ["n", 3, 8, 6]), ("NHWC", ["n", 8, 6, 3]), ("NCHW", ["n", 3, 8, 6]), ("NCHW", ["n", 8, 6, 3])],
)
def test_channels_keep_their_mean_and_std_whatever_the_layouts(layout: str, shape: list) -> None:
    mean, std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.5, 0.6, 0.7], np.float32)
    expected = (RAW.astype(np.float32) * np.float32(1 / 255) - mean) / std
    raw = RAW if layout == "NHWC" else RAW.transpose(0, 3, 1, 2)
    spec = {"source_layout": layout, "scale": 1 / 255, "mean": mean.tolist(), "std": std.tolist()}
    ready = preprocess.apply(raw, spec, shape)
    assert list(ready.shape[1:]) == shape[1:]
    np.testing.assert_allclose(ready if shape[-1] == 3 else ready.transpose(0, 2, 3, 1), expected, rtol=1e-6)


def test_log_mel_of_a_tone_peaks_in_its_band() -> None:
    spec = {"sample_rate": 8000, "n_fft": 256, "hop": 128, "mels": 40}
    time = np.arange(8000) / 8000
    low, high = (
        preprocess.apply(np.sin(2 * np.pi * f * time)[None], {"log_mel": spec}, [1, 1, 40, 61]) for f in (300, 3000)
    )
    assert low.shape == (1, 1, 40, 61)
    assert low[0, 0].mean(1).argmax() < high[0, 0].mean(1).argmax()


def test_resize_keeps_a_constant_and_halves_a_ramp() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[None, :, None, None], (1, 8, 8, 1))
    half = preprocess.apply(ramp, {"source_layout": "NHWC", "resize": [4, 4]}, [1, 1, 4, 4])
    np.testing.assert_allclose(half[0, 0, :, 0], [0.5, 2.5, 4.5, 6.5])


def test_spearman_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    assert metrics.score("spearman", a[:, None], b) == pytest.approx(100 * stats.spearmanr(a, b).statistic)


@pytest.mark.parametrize(
    ("name", "value"), [("top1", 50.0), ("top5", 100.0)],
)  # fmt: skip
def test_top_metrics(name: str, value: float) -> None:
    outputs = np.array([[0, 1, 0, 0, 0, 0], [0, 1, 0.5, 0.4, 0.3, 0.2]])
    assert metrics.score(name, outputs, [1, 2]) == value


def test_agreement_in_steps() -> None:
    a, b = np.array([[0.0, 1.0], [2.0, 0.5]]), np.array([[0.0, 1.5], [2.0, 0.5]])
    assert metrics.agreement(a, b, 0.5) == {"top1": 1.0, "equal": 0.75, "max_lsb": 1}


GOOD = {"drop": 0.1, "latency_ms": {"p50": 2.0}, "bytes": 10, "peak_bytes": 100, "errors": []}


@pytest.mark.parametrize(
    ("gates", "change", "reasons"),
    [
        ({}, {}, 0),
        ({"max_drop": 0.5, "max_latency_ms": 3, "max_bytes": 10, "max_peak_bytes": 100, "min_agreement": 0.9}, {}, 0),
        ({"max_drop": 0.05}, {}, 2),
        ({"max_drop": 0.5}, {"drop": None}, 2),
        ({"max_drop": 0.5}, {"drop": float("nan")}, 2),
        ({"max_latency_ms": 1}, {}, 2),
        ({"max_latency_ms": 1}, {"latency_ms": None}, 2),
        ({"max_bytes": 9}, {}, 2),
        ({"min_agreement": 0.99}, {}, 1),
        ({}, {"errors": ["no such runtime"]}, 2),
    ],
)
def test_gates(gates: dict, change: dict, reasons: int) -> None:
    figures = {"onnxruntime": GOOD | change, "tflite": GOOD | change}
    assert len(judge(gates, figures, {"top1": 0.95})) == reasons
    assert len(judge({"min_agreement": 0.5}, figures, None)) >= 1, "a gate that was not measured fails"
