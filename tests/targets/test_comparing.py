"""How far two machines may part: a step of an int8 output, and what float kernels leave where steps are finer."""

from __future__ import annotations

import numpy as np
import pytest

from targets.agent.comparing import differences


@pytest.mark.parametrize(
    ("scale", "steps", "beyond"), [(1 / 127, 1, False), (1 / 127, 2, True), (1 / 32767, 3, False), (1 / 32767, 5, True)]
)
def test_the_tolerance_follows_the_steps(scale: float, steps: int, beyond: bool) -> None:
    manifest = {"artifacts": [{"name": "tflite", "role": "candidate"}], "outputs": [{"name": "y", "scale": scale}]}
    here = np.array([[1.0, 0.0], [0.5, 0.25]])
    there = here + np.array([[0.0, 0.0], [0.0, steps * scale]])
    found = differences(manifest, {"tflite/golden.y": there}, {"tflite/golden.y": here})["tflite"]
    assert found["beyond"] == ({"kind": "golden", "sample": 1} if beyond else None)
    assert found["max_lsb"] == steps
