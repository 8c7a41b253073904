"""Channel shuffles: gone where convolutions can take another order, untouched elsewhere, the same numbers always."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exporter.loading import load
from exporter.preparing import prepare
from exporter.reference import run
from tests.nets.shufflenet import shufflenet


def shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Units(nn.Module):
    """Units of ShuffleNetV2, each of which keeps a part of the channels; ``end`` is what reads the last shuffle."""

    def __init__(self, width: int, kept: list[int], groups: int, start: str, end: str) -> None:
        super().__init__()
        self.kept, self.groups, self.end = kept, groups, end
        self.start = {
            "conv": nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU6()),
            "pool": nn.Sequential(nn.Conv2d(3, width, 1), nn.MaxPool2d(2)),
            "grouped": nn.Conv2d(3, 3 * width, 1, groups=3),
        }[start]
        width *= 3 if start == "grouped" else 1
        self.changed = nn.ModuleList(self._changed(width - keep) for keep in kept)
        self.depthwise = nn.Conv2d(width, width, 3, groups=width)
        self.last = nn.Conv2d(width, 4, 1)
        self.grouped = nn.Conv2d(width, width, 1, groups=groups)

    @staticmethod
    def _changed(width: int) -> nn.Module:
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        return nn.Sequential(
            nn.Conv2d(width, width, 1), nn.Hardswish(), depthwise, nn.Conv2d(width, width, 1, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        for keep, changed in zip(self.kept, self.changed, strict=True):
            same, other = x.split([keep, x.shape[1] - keep], 1)
            x = shuffled(torch.cat([same, changed(other)], 1), self.groups)
        match self.end:
            case "conv":
                return self.last(x)
            case "depthwise":
                return self.last(torch.relu(self.depthwise(x)))
            case "grouped":
                return self.grouped(x)
            case "two":
                return self.last(x) + self.last(torch.relu(x))
            case _:
                return x


def turns(net: nn.Module, size: int = 6) -> tuple[int, int]:
    """Transposes before and after; raises where the numbers differ."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    loaded = load(net.eval(), example_inputs={"x": x})
    model = prepare(loaded)
    feeds = {model.graph.inputs[0].name or "": x}
    expected, found = (next(iter(run(m, feeds).values())) for m in (loaded, model))
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    before, after = (sum(n.op_type == "Transpose" for n in m.graph) for m in (loaded, model))
    return before, after


GONE = {
    "one unit": Units(8, [4], 2, "conv", "conv"),
    "three units": Units(16, [8, 8, 8], 2, "conv", "conv"),
    "odd halves": Units(20, [10, 10, 10], 2, "conv", "depthwise"),
    "three groups": Units(12, [4, 4], 3, "conv", "conv"),
    "uneven parts": Units(12, [3, 7], 2, "conv", "depthwise"),
    "two readers": Units(8, [4, 4], 2, "conv", "two"),
}
KEPT = {
    "an output": Units(8, [4, 4], 2, "conv", "output"),
    "a grouped convolution reads it": Units(8, [4], 2, "conv", "grouped"),
    "a pool makes the channels": Units(8, [4], 2, "pool", "conv"),
    "a grouped convolution makes the channels": Units(4, [6], 2, "grouped", "conv"),
}


@pytest.mark.parametrize("name", GONE)
def test_gone(name: str) -> None:
    before, after = turns(GONE[name])
    assert (before, after) == (len(GONE[name].kept), 0)


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    before, after = turns(KEPT[name])
    assert before == after > 0


def test_shufflenet() -> None:
    assert turns(shufflenet(), 32) == (5, 0)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_any_units(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([2, 3, 4]))
    width = groups * data.draw(st.integers(1, 5))
    kept = data.draw(st.lists(st.integers(1, max(1, width - 1)).filter(lambda k: k < width), min_size=1, max_size=4))
    turns(Units(width, kept, groups, "conv", data.draw(st.sampled_from(["conv", "depthwise", "grouped", "two"]))))
