"""ONNX's node suite, whole: never wrong, never a crash, and most of it passes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.node_suite.document import document
from tests.node_suite.runner import Result, load_cases, run_cases

pytestmark = pytest.mark.xdist_group("node_suite")  # one run serves all tests here
PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return run_cases(load_cases())


def test_never_wrong_and_never_a_crash(results: list[Result]) -> None:
    bad = [f"{r.status} {r.name}: {r.reason}" for r in results if r.status in {"wrong", "crashed"}]
    assert not bad, "\n".join(bad)


def test_what_is_refused_says_why(results: list[Result]) -> None:
    assert not [r.name for r in results if r.status == "refused" and len(r.reason) < 20]


def test_most_of_it_passes(results: list[Result]) -> None:
    assert Counter(r.status for r in results)["passed"] >= 1150


def test_the_table_of_operators_is_current(results: list[Result]) -> None:
    assert PAGE.read_text() == document(results), "python -m tests.node_suite.document > docs/operators.md"
