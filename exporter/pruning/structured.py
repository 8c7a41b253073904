"""Whole channels removed: the graph really becomes smaller, and so does every file made from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, inference
from exporter.errors import RecipeError
from exporter.pruning.branches import ends_of, without
from exporter.pruning.channels import Channels, Ids
from exporter.pruning.dependencies import channels_of

__all__ = ["prune_channels", "wanted_saliency"]

Floats = npt.NDArray[np.float64]
_GATHERED = 32  # int8 kernels copy an input of a kernel window in the time of so many multiply-adds (profiles of
# ONNX Runtime 1.32 on VNNI: layers of equal multiply-adds take 26 us on 32 x 32 pixels, 13 us on 8 x 8)


@dataclass(slots=True)
class _Family:
    """Channels that stand in the same places of the network, the least important first.

    ends: sums that lose a side when all of them go; none where one lot has to stay
    """

    roots: list[int]
    scores: list[float]
    ends: Mapping[ir.Node, int] = field(default_factory=dict)

    def lot(self, multiple: int) -> int:
        """How many go next; 0: none may."""
        if len(self.roots) >= 2 * multiple:
            return multiple
        return len(self.roots) if self.ends else 0


def wanted_saliency(model: ir.Model) -> list[str]:
    """Names of the constants whose w x dL/dw decide."""
    return list(dict.fromkeys(slot.name for slot in channels_of(model).slots if slot.makes))


def prune_channels(
    model: ir.Model, amount: float, multiple: int, saliency: Iterable[Mapping[str, Floats]]
) -> tuple[ir.Model, int, int]:
    """A new graph without the least important channels, and its multiply-adds for one sample before and after.

    amount    share of the multiply-adds to remove, at least
    multiple  channels go by so many at a time, so that kernels that compute by so many gain from it
    saliency  for some batches, w x dL/dw by name: a channel's share of the loss is the sum over its weights, squared
              and added up over the batches (Molchanov et al. 2019, eq. 8). What costs least for the time that it
              saves goes first, and what turns out not to be needed comes back
    A residual branch may go altogether: the sum that it ends in then gives its other side.
    Raises RecipeError when so much cannot be removed.
    """
    model = model.clone()
    channels = channels_of(model)
    families = _families(channels, _scores(channels, saliency))
    for family in families:
        family.ends = ends_of(model, channels, family.roots)
    branches = [(set(family.roots), family.ends) for family in families if family.ends]
    gone: set[int] = set()
    lots: list[tuple[float, set[int]]] = []
    before = now = _cost(channels, gone)
    while now > (1 - amount) * before:
        found = _cheapest(channels, families, gone, multiple)
        if found is None:
            raise _too_much(amount, 1 - now / before)
        count = found.lot(multiple)
        lots.append((sum(found.scores[:count]), set(found.roots[:count])))
        gone |= lots[-1][1]
        del found.roots[:count], found.scores[:count]
        if not found.roots:
            for other in families:  # of a sum one side stays
                other.ends = {} if other.ends.keys() & found.ends.keys() else other.ends
        now = _cost(channels, gone)
    for _, lot in sorted(lots, key=lambda lot: -lot[0]):
        if _cost(channels, gone - lot) <= (1 - amount) * before:
            gone -= lot
    after = _cost(channels, gone)
    for roots, ends in branches:
        if roots <= gone:
            without(model, ends)
    _remove(model, channels, gone)
    return model, before, after


def _too_much(amount: float, most: float) -> RecipeError:
    if most == 0:
        found = 'prune.method = "channels": none can be removed in lots of prune.multiple'
        return RecipeError(
            found, 'they are those of convolutions and of hidden layers of an MLP; "magnitude" and "2:4" take any'
        )
    found = f"prune.amount = {amount:g}: only {100 * most:.0f} % of the multiply-adds can be removed"
    return RecipeError(found, "ask for less, or for a smaller prune.multiple")


def _cheapest(channels: Channels, families: list[_Family], gone: set[int], multiple: int) -> _Family | None:
    """Whose next lot has the smallest score for the time that it saves."""
    prices = []
    now = _cost(channels, gone, _GATHERED)
    for number, family in enumerate(families):
        if count := family.lot(multiple):
            saved = now - _cost(channels, gone | set(family.roots[:count]), _GATHERED)
            if saved > 0:
                prices.append((sum(family.scores[:count]) / saved, number))
    return families[min(prices)[1]] if prices else None


def _scores(channels: Channels, saliency: Iterable[Mapping[str, Floats]]) -> Mapping[int, float]:
    """By leader."""
    total: defaultdict[int, float] = defaultdict(float)
    makers = [(slot, channels.leaders(slot.ids)) for slot in channels.slots if slot.makes]
    for batch in saliency:
        sums: defaultdict[int, float] = defaultdict(float)
        for slot, leaders in makers:
            product = np.moveaxis(batch[slot.name], slot.axis, 0)
            for leader, share in zip(leaders, product.reshape(len(leaders), -1).sum(axis=1), strict=True):
                sums[int(leader)] += float(share)
        for leader, share in sums.items():
            total[leader] += share**2
    return total


def _families(channels: Channels, scores: Mapping[int, float]) -> list[_Family]:
    """In the order of the graph. Channels that nothing makes (padding) cost nothing and may go too."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    rows = [*(slot.ids for slot in channels.slots), *(ids for _, *both in channels.edits for ids in both[:1])]
    for number, ids in enumerate(rows):
        for leader in channels.leaders(ids):
            places[int(leader)].append(number)
    together: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for leader, where in places.items():
        if leader:
            together[tuple(where)].append(leader)
    families = []
    for roots in together.values():
        order = sorted(roots, key=lambda root: (scores.get(root, 0.0), root))
        families.append(_Family(order, [scores.get(root, 0.0) for root in order]))
    return families


def _kept(channels: Channels, ids: Ids, gone: set[int]) -> npt.NDArray[np.int64]:
    """Places that stay."""
    return np.array([i for i, one in enumerate(channels.leaders(ids)) if int(one) not in gone], np.int64)


def _cost(channels: Channels, gone: set[int], gathered: int = 0) -> int:
    """Multiply-adds of one sample, and ``gathered`` for each input of a kernel window."""
    total = 0
    for layer in channels.layers:
        outputs = len(_kept(channels, layer.outputs, gone))
        inputs = 1 if layer.inputs is None else len(_kept(channels, layer.inputs, gone))
        total += layer.each * inputs * (outputs + (gathered if outputs and layer.inputs is not None else 0))
    return total


def _remove(model: ir.Model, channels: Channels, gone: set[int]) -> None:
    constants = model.graph.initializers
    for slot in channels.slots:
        if slot.name not in constants:
            continue  # of a branch that went
        array = graph.constant(constants[slot.name])
        assert array is not None
        left = np.take(array, _kept(channels, slot.ids, gone), axis=slot.axis)
        constants[slot.name].const_value = ir.tensor(np.ascontiguousarray(left), name=slot.name)
        constants[slot.name].shape = ir.Shape(left.shape)
    for layer in channels.layers:
        if layer.inputs is None:
            layer.node.attributes["group"] = ir.AttrInt64(
                "group", len(_kept(channels, _sources(channels, layer.node), gone))
            )
    for node, first, second in channels.edits:
        if node.graph is not None:
            _edit(model, channels, gone, node, first, second)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    inference.infer_shapes(model)
    graph.verify(model, "pruning")


def _sources(channels: Channels, node: ir.Node) -> Ids:
    source = node.inputs[0]
    assert source is not None
    return channels.of[str(source.name)][1]


def _edit(model: ir.Model, channels: Channels, gone: set[int], node: ir.Node, first: Ids, second: Ids) -> None:
    """Constants that say how many channels there are."""
    if node.op_type == "Flatten":
        return
    old = graph.constant(node.inputs[1])
    assert old is not None
    new = np.array(old)
    match node.op_type:
        case "Pad":
            axis = channels.of[str(node.outputs[0].name)][0]
            new[axis] = len(_kept(channels, first, gone))
            new[axis + len(new) // 2] = len(_kept(channels, second, gone))
        case "Split":
            starts = [0, *second[:-1]]
            new = np.array(
                [len(_kept(channels, first[a:b], gone)) for a, b in zip(starts, second, strict=True)], old.dtype
            )
        case _:
            if new[-1] > 0:
                new[-1] = len(_kept(channels, first, gone))
    name = graph.fresh_name(model.graph, f"{node.name or node.op_type}_pruned")
    node.replace_input_with(1, graph.add_initializer(model.graph, name, new))
