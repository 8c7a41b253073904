"""Intervals that hold the truth although runs drift, hang together and spike."""

from __future__ import annotations

import numpy as np
import pytest

from targets.agent import estimating

RUNS, LAUNCHES, ROUNDS = 100, 5, 400


def launches(rng: np.random.Generator, drift: float, wander: float, spikes: float, offset: float) -> list[np.ndarray]:
    """Times around 10 ms: log-normal noise of 1 %, a drift over the launch, a random walk that forgets, spikes, and a
    level of its own for each launch."""
    found = []
    for _ in range(LAUNCHES):
        walk = np.zeros(ROUNDS)
        steps = rng.normal(0, wander, ROUNDS)
        for i in range(1, ROUNDS):
            walk[i] = 0.99 * walk[i - 1] + steps[i]
        times = 10 * rng.lognormal(0, 0.01, ROUNDS) * (1 + walk) * (1 + drift * np.linspace(0, 1, ROUNDS))
        found.append(times * np.where(rng.random(ROUNDS) < spikes, 3.0, 1.0) * np.exp(rng.normal(0, offset)))
    return found


@pytest.mark.parametrize(
    ("drift", "wander", "spikes", "offset"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (0.03, 0.0, 0.02, 0.0),
        (0.0, 0.002, 0.02, 0.0),
        (0.03, 0.002, 0.02, 0.005),
    ],
    ids=["steady", "drift and spikes", "wander and spikes", "all"],
)
def test_the_interval_holds_the_truth(drift: float, wander: float, spikes: float, offset: float) -> None:
    many = [launches(np.random.default_rng(10_000 + i), drift, wander, spikes, offset) for i in range(200)]
    truth = float(np.median(np.concatenate([series for each in many for series in each])))
    held, widths = 0, []
    for run in range(RUNS):
        found = estimating.interval(launches(np.random.default_rng(run), drift, wander, spikes, offset), run)
        held += found["low"] <= truth <= found["high"]
        widths.append((found["high"] - found["low"]) / truth)
        assert found["low"] <= found["p50"] <= found["high"]
    assert held >= 90
    assert np.median(widths) < 0.05, "and it is not wide for nothing"


def test_a_ratio_holds_under_drift_that_meets_both() -> None:
    held = 0
    for run in range(50):
        rng = np.random.default_rng(run)
        common = [1 + 0.2 * np.sin(np.linspace(0, 6, ROUNDS) + rng.random()) for _ in range(LAUNCHES)]
        slow = [4 * c * rng.lognormal(0, 0.02, ROUNDS) for c in common]
        fast = [1 * c * rng.lognormal(0, 0.02, ROUNDS) for c in common]
        found = estimating.ratio(fast, slow, run)
        held += found["low"] <= 0.25 <= found["high"]
        assert found["high"] / found["low"] < 1.1
    assert held >= 45


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (99, set()),
        (100, {"p90"}),
        (200, {"p90", "p95"}),
        (1000, {"p90", "p95", "p99"}),
        (10_000, {"p90", "p95", "p99", "p99.9"}),
    ],
)
def test_only_percentiles_that_the_sample_supports(count: int, names: set[str]) -> None:
    found = estimating.percentiles([np.arange(count)])
    assert set(found) == names
    if "p90" in found:
        assert found["p90"] == pytest.approx(0.9 * count, abs=1)


def test_values_that_hang_together_need_longer_blocks() -> None:
    rng = np.random.default_rng(0)
    free, walk = rng.normal(size=4000), np.zeros(4000)
    for i in range(1, 4000):
        walk[i] = 0.98 * walk[i - 1] + rng.normal()
    assert estimating.block_length(free) < 30 < estimating.block_length(walk) <= 400
    assert estimating.block_length(np.ones(100)) >= 1


@pytest.mark.parametrize("seed", range(5))
def test_the_knee_is_where_it_was_put(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(np.arange(300) < 180, 10.0, 14.0) * rng.lognormal(0, 0.02, 300)
    place = estimating.knee(range(300), values)
    assert place == pytest.approx(180, abs=3)
    assert estimating.knee(range(300), 10 * rng.lognormal(0, 0.02, 300)) is None
    assert estimating.knee(range(5), [1.0] * 5) is None
