"""Spoken digits: trained here on real recordings, then both int8 artifacts against float on the official test split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import spoken_digits


@pytest.mark.slow
def test_float_is_good_and_int8_stays_close(need: Callable[..., None], tmp_path: Path) -> None:
    need("spoken_digits_8khz.npz")
    check = spoken_digits.export(tmp_path / "bundle").check
    assert check["passed"], check["reasons"]
    for name in ("onnxruntime", "tflite"):
        facts = check["artifacts"][name]
        assert facts["metric"] + facts["drop"] >= 93.0, "float"
        assert facts["drop"] <= 0.5
