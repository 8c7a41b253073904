"""The data that acceptance needs lies outside the repository."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import ROOT
from tests import numbers  # noqa: F401  its generator must be there before a module draws from it


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip unless every file named is in the data folder."""

    def check(*names: str) -> None:
        folder = Path(os.environ.get("KBIT_DATA", ROOT.parent / "shared" / "data"))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            pytest.skip(f"real data: {', '.join(missing)} not in {folder}; set KBIT_DATA")

    return check


@pytest.fixture(autouse=True)
def _own_numbers(request: pytest.FixtureRequest) -> None:
    """A module's shared generator starts each test at that test's own seed: what ran before it changes no number."""
    _seed_generators(request.node.nodeid)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """The same for what a module draws when it is imported: which others were before it changes no number."""
    if isinstance(collector, pytest.Module):
        _seed_generators(collector.nodeid)


def _seed_generators(name: str) -> None:
    seed = zlib.crc32(name.encode())
    for module in [module for key, module in sys.modules.items() if key.startswith("tests.")]:
        for value in (getattr(module, "RNG", None), getattr(module, "_RNG", None)):
            if isinstance(value, np.random.Generator):
                value.bit_generator.state = type(value.bit_generator)(seed).state
