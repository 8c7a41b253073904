"""Seeded noise. tests/conftest.py starts the generator anew for every module that is imported and every test."""

from __future__ import annotations

import numpy as np

__all__ = ["RNG", "noise"]

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    """Standard normal numbers in float32."""
    return RNG.standard_normal(shape).astype(np.float32)
