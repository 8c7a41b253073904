"""Random graphs: the emitter is never wrong and never crashes, whatever is combined with what."""

from __future__ import annotations

from collections import Counter

import onnx.printer
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.drafts import Draft, drafts
from tests.fuzz.trial import apart, float_trial, integer_trial

_STEPS = {"int8": 1, "int16": 8}  # of two integer kernels that round differently; of 16 bits SOFTMAX
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
FEW = settings(max_examples=100, deadline=None, suppress_health_check=_CHECKS, derandomize=True, database=None,
               phases=[Phase.generate])  # fmt: skip
MANY = settings(max_examples=1000, deadline=None, suppress_health_check=_CHECKS, derandomize=True, database=None,
                phases=[Phase.generate])  # fmt: skip

SEEN: Counter[str] = Counter()


def check(draft: Draft, kind: str) -> None:
    data = draft.model().SerializeToString()
    work = (
        (float_trial, data, draft.batch) if kind == "float" else (integer_trial, data, draft.batch, _STEPS[kind], kind)
    )
    outcome = apart(*work)
    SEEN[outcome.status] += 1
    ops = ", ".join(node.op_type for node in draft.nodes)
    if outcome.status not in {"equal", "refused"}:
        pytest.fail(f"{outcome.status}, {outcome.seen} ({ops})\n{onnx.printer.to_text(draft.model())}")


@FEW
@given(draft=drafts(), kind=st.sampled_from(("float", "int8", "int16")))
def test_a_hundred_graphs(draft: Draft, kind: str) -> None:
    check(draft, kind)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["float", "int8", "int16"])
def test_two_thousand_graphs(kind: str) -> None:
    SEEN.clear()

    @MANY
    @given(draft=drafts())
    def run(draft: Draft) -> None:
        check(draft, kind)

    run()
    assert SEEN["refused"] < 0.1 * SEEN.total(), SEEN
