"""Any plan reads back from its JSON bit for bit, and the same plan gives the same text."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exporter.types import Codebook, Grain, PerChannel, PerGroup, PerTensor, Plan, QParams, Scheme, TensorPlan

words = st.text(max_size=8)
names = st.text(min_size=1, max_size=8)
grains = st.one_of(
    st.just(PerTensor()),
    st.builds(PerChannel, st.integers(-4, 4)),
    st.builds(PerGroup, st.integers(-4, 4), st.integers(1, 256)),
)
scales = st.floats(np.finfo(np.float32).tiny, float(np.finfo(np.float32).max), width=32)


@st.composite
def qparams(draw: st.DrawFn) -> QParams:
    grain: Grain = draw(grains)
    scheme: Scheme | Codebook
    if draw(st.booleans()):
        scheme = Scheme(draw(st.integers(1, 32)), draw(st.booleans()), draw(st.booleans()), grain)
    else:
        levels = draw(st.sets(st.integers(-127, 127), min_size=2, max_size=40))
        scheme = Codebook(draw(names), tuple(sorted(levels)), grain)
    rank = {PerTensor: 0, PerChannel: 1}.get(type(grain), 2)
    most = draw(st.sampled_from([3, 3, 3, 70]))  # 70 x 70 numbers are written in base64
    shape = tuple(draw(st.lists(st.integers(most // 2, most), min_size=rank, max_size=rank)))
    scale = np.full(shape, draw(scales), np.float32)
    if scale.size <= 9:
        scale = draw(hnp.arrays(np.float32, shape, elements=scales))
    zero = 0 if scheme.symmetric else draw(st.integers(scheme.qmin, scheme.qmax))
    return QParams(scheme, scale, np.full(shape, zero, np.int32))


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, TensorPlan]:
    found: dict[str, Any] = {}
    for name in draw(st.lists(names, unique=True, max_size=4)):
        if draw(st.booleans()):
            role = draw(st.sampled_from(["activation", "weight", "bias"]))
            found[name] = TensorPlan(name, role, draw(qparams()), draw(words), draw(st.sampled_from(["gptq", "mse"])))
        else:
            kept = draw(st.sampled_from(["float32", "float16"]))
            found[name] = TensorPlan(name, "weight", None, draw(words), kept=kept)
    return found


@settings(deadline=None)
@given(tensors(), st.dictionaries(names, words, max_size=3), st.dictionaries(names, words, max_size=3))
def test_a_plan_reads_back_from_its_json(
    parts: dict[str, TensorPlan], floats: dict[str, str], dynamic: dict[str, str]
) -> None:
    plan = Plan(parts, floats, dynamic)
    text = plan.to_json()
    again = Plan.from_json(text)
    assert again == plan
    assert list(again.tensors) == list(plan.tensors), "in the same order"
    assert again.to_json() == text
    for name, tensor in plan.tensors.items():
        if tensor.qparams is not None:
            other = again.tensors[name].qparams
            assert other is not None
            assert other.scale.tobytes() == tensor.qparams.scale.tobytes(), "the same bits"
