"""The data that acceptance needs lies outside the repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.measure import ROOT


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip unless every file named is in the data folder."""

    def check(*names: str) -> None:
        folder = Path(os.environ.get("KBIT_DATA", ROOT.parent / "shared" / "data"))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            pytest.skip(f"real data: {', '.join(missing)} not in {folder}; set KBIT_DATA")

    return check
