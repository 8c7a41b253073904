"""What one pass sees, and the ranges that observers read off it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter.calibration import OBSERVERS, calibrate
from exporter.calibration.histogram import Histogram
from exporter.errors import DataError
from exporter.types import Scheme, TensorStats
from tests.numbers import noise
from tests.quantize.graphs import model_of, run

INT8 = Scheme(8, symmetric=False)


def test_ranges_are_exact_and_batches_do_not_matter() -> None:
    model = model_of("main (float[N,6] x) => (float[N,4] y) { m = MatMul(x, w)  y = Relu(m) }", w=noise(6, 4))
    data = noise(64, 6)
    whole = calibrate(model, [{"x": data}])
    parts = calibrate(model, [{"x": data[i : i + 8]} for i in range(0, 64, 8)])
    y = run(model, {"x": data})["y"]
    assert set(whole) == {"x", "m", "y"}
    for stats in (whole, parts):
        assert (stats["x"].low, stats["x"].high) == (data.min(), data.max())
        assert stats["y"].high == pytest.approx(y.max(), rel=1e-6)
        assert stats["y"].low == 0.0
        assert stats["m"].count == 256


def test_nothing_to_watch() -> None:
    model = model_of("main (float[N,6] x) => (float[N,6] y) { y = Exp(x) }")
    assert calibrate(model, [{"x": noise(4, 6)}], values=[]) == {}


@settings(max_examples=50, deadline=None)
@example([np.zeros(40, np.float32), np.ones(40, np.float32)])
@example([np.full(40, -1e-38, np.float32), np.full(40, 3e38, np.float32), np.full(40, -3e38, np.float32)])
@given(
    st.lists(
        arrays(np.float32, 40, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
        min_size=1,
        max_size=6,
    )
)
def test_the_histogram_covers_and_counts_everything(batches: list) -> None:
    histogram = Histogram()
    for batch in batches:
        assert histogram.add(batch)
    values = np.concatenate(batches)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    stats = histogram.stats()
    assert stats.edge_low <= float(values.min())
    assert stats.edge_high >= float(values.max())
    assert stats.histogram.sum() == stats.count == values.size


def test_nan_and_empty_sets_are_refused() -> None:
    model = model_of("main (float[N,2] x) => (float[N,2] y) { y = Log(x) }")
    with pytest.raises(DataError, match="'y' turns NaN or infinite at sample 3"):
        calibrate(model, [{"x": np.ones((2, 2), np.float32)}, {"x": np.array([[1, 1], [1, -1]], np.float32)}])
    with pytest.raises(DataError, match="no samples"):
        calibrate(model, [])


def stats_of(values: np.ndarray) -> TensorStats:
    h = Histogram()
    h.add(values.astype(np.float32))
    return h.stats()


def test_a_first_batch_of_nothing_then_numbers() -> None:
    h = Histogram()
    for batch in (np.zeros(3), np.array([-1e38, 2.0, 1e38])):
        assert h.add(batch.astype(np.float32))
    stats = h.stats()
    assert (stats.low, stats.high, stats.histogram.sum()) == (np.float32(-1e38), np.float32(1e38), 6)


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    scale = (max(high, 0) - min(low, 0)) / 255
    grid = np.clip(np.rint((values - min(low, 0)) / scale), 0, 255) * scale + min(low, 0)
    return float(((values - grid) ** 2).mean())


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("kind", ["normal", "rectified", "constant"])
def test_ranges_stay_inside_what_was_seen_and_serve(name: str, kind: str) -> None:
    values = np.random.default_rng(0).standard_normal(20000)
    values = {"normal": values, "rectified": np.maximum(values, 0), "constant": np.full(100, 3.0)}[kind]
    stats = stats_of(values)
    low, high = OBSERVERS[name](stats, INT8)
    assert min(stats.low, 0.0) - 1e-6 <= low <= high <= max(stats.high, 0.0) + 1e-6
    assert squared_error(values, low, high) <= 4 * squared_error(values, values.min(), values.max()) + 1e-9


def test_mse_clips_an_outlier() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(20000), 60.0)
    low, high = OBSERVERS["mse"](stats_of(values), INT8)
    assert squared_error(values[:-1], low, high) < squared_error(values[:-1], values.min(), values.max())
