"""The frozen data that the stages hand to each other. No behaviour beyond checks and (de)serialisation."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from exporter.errors import PlanError

__all__ = [
    "Border",
    "Codebook",
    "Grain",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "Plan",
    "QParams",
    "Role",
    "Rounded",
    "Scheme",
    "TensorPlan",
    "TensorStats",
]

Role = Literal["activation", "weight", "bias"]
_LISTED = 4096  # numbers that a plan's JSON writes out


@dataclass(frozen=True, slots=True)
class PerTensor:
    """One scale for the whole tensor: scale has shape []."""


@dataclass(frozen=True, slots=True)
class PerChannel:
    """One scale for each index of ``axis`` (of the ONNX tensor): scale has shape [dim(axis)]."""

    axis: int


@dataclass(frozen=True, slots=True)
class PerGroup:
    """One scale for each run of ``size`` values along ``axis``; scale has the tensor's shape, that axis divided."""

    axis: int
    size: int


Grain = PerTensor | PerChannel | PerGroup


@dataclass(frozen=True, slots=True)
class Scheme:
    """What is asked for: width in bits, whether zero_point is fixed to 0, sign of the integers, grain of the scale."""

    bits: int
    symmetric: bool
    signed: bool = True
    grain: Grain = PerTensor()

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32:
            raise PlanError(f"a scheme of {self.bits} bits", "bits must be 1 to 32")

    @property
    def qmin(self) -> int:
        """Smallest integer used; symmetric int8 leaves out -128, as TFLite requires."""
        if not self.signed:
            return 0
        narrow = self.symmetric and self.bits == 8
        return -(1 << (self.bits - 1)) + (1 if narrow else 0)

    @property
    def qmax(self) -> int:
        return (1 << self.bits) - 1 if not self.signed else (1 << (self.bits - 1)) - 1


@dataclass(frozen=True, slots=True)
class Codebook:
    """A weight is one of a few int8 levels: real = level * scale. The levels stand in for the integers of a Scheme.

    name    "binary", "ternary", "nf4", "kmeans3" …
    levels  in ascending order, within [-127, 127]
    """

    name: str
    levels: tuple[int, ...]
    grain: Grain = PerTensor()

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not (2 <= len(self.levels) <= 256 and rising and self.levels[0] > -128 and self.levels[-1] < 128):
            raise PlanError(f"a codebook with levels {self.levels}", "2 to 256 ascending integers in [-127, 127]")

    @property
    def bits(self) -> int:
        """Of a stored index."""
        return (len(self.levels) - 1).bit_length()

    @property
    def symmetric(self) -> bool:
        """Its zero point is 0."""
        return True

    @property
    def signed(self) -> bool:
        return True

    @property
    def qmin(self) -> int:
        return self.levels[0]

    @property
    def qmax(self) -> int:
        return self.levels[-1]


@dataclass(frozen=True, slots=True, eq=False)
class QParams:
    """The numbers: real = (integer - zero_point) * scale. scale f32 > 0; zero_point i32 of the same shape."""

    scheme: Scheme | Codebook
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, np.float32)
        zero_point = np.asarray(self.zero_point, np.int32)
        if scale.shape != zero_point.shape:
            raise PlanError(f"scale has shape {scale.shape}, zero_point {zero_point.shape}", "they must be equal")
        rank = {PerTensor: 0, PerChannel: 1}.get(type(self.scheme.grain))
        if rank is not None and scale.ndim != rank:
            found = f"a {type(self.scheme.grain).__name__} scale of shape {scale.shape}"
            raise PlanError(found, f"expected rank {rank}")
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise PlanError("a scale that is zero, negative or not finite", "check the calibration data and weights")
        if self.scheme.symmetric and zero_point.any():
            raise PlanError("a symmetric scheme with a zero_point other than 0")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, QParams)
            and self.scheme == other.scheme
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False)
class TensorStats:
    """What calibration saw of one activation.

    low, high     exact minimum and maximum over all samples
    count         number of values seen
    histogram     counts i64[bins] of the values sampled, over [edge_low, edge_high] in equal bins
    channel_low/high  f32[channels] over axis 1 (or the last axis of a rank-2 or rank-3 tensor), or None
    """

    low: float
    high: float
    count: int
    histogram: npt.NDArray[np.int64]
    edge_low: float
    edge_high: float
    channel_low: npt.NDArray[np.float32] | None = None
    channel_high: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """The decision for one value of the graph; ``why`` is for people.

    qparams  None when it stays float
    rounder  of a weight: a name in exporter.rounding.ROUNDERS
    kept     how a weight without qparams is stored
    """

    name: str
    role: Role
    qparams: QParams | None
    why: str
    rounder: str = "nearest"
    kept: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True, slots=True)
class Border:
    """A second grid for a tensor: some nodes read it in another width, or a Concat on a coarser grid, than its own.

    A requantization in both files.

    tensor   the plan of the second grid; its name is that of the requantized tensor
    source   the tensor on its own grid, by ONNX value name
    readers  names of the nodes that read the second grid
    """

    tensor: TensorPlan
    source: str
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The one source of every scale and zero point in every artifact.

    tensors        by ONNX value name, in graph order
    float_nodes    node name -> the reason why it runs in float
    dynamic_nodes  node name -> why its input is quantized anew in each run, with integer weights
    borders        between int8 and int16 activations, and in front of a Concat whose other inputs range much wider
    """

    tensors: Mapping[str, TensorPlan]
    float_nodes: Mapping[str, str] = field(default_factory=dict)
    dynamic_nodes: Mapping[str, str] = field(default_factory=dict)
    borders: tuple[Border, ...] = ()

    FORMAT = 2

    @property
    def grids(self) -> Mapping[str, TensorPlan]:
        """The tensors, and the second grids by their own names."""
        return {**self.tensors, **{border.tensor.name: border.tensor for border in self.borders}}

    def with_grids(self, grids: Mapping[str, TensorPlan]) -> Plan:
        """The same plan with these tensors and second grids."""
        tensors = {name: grids[name] for name in self.tensors}
        borders = tuple(replace(border, tensor=grids[border.tensor.name]) for border in self.borders)
        return replace(self, tensors=tensors, borders=borders)

    def read(self, value: str, node: str) -> TensorPlan | None:
        """The tensor that a node reads where its ONNX input is ``value``: that, or its second grid at a border."""
        found = (b.tensor for b in self.borders if b.source == value and node in b.readers)
        return next(found, self.tensors.get(value))

    def to_json(self) -> str:
        """Deterministic text; floats are written so that they read back to the same float32."""
        tensors = [_tensor_to_dict(t) for t in self.tensors.values()]
        body: dict[str, Any] = {
            "format": self.FORMAT,
            "tensors": tensors,
            "float_nodes": dict(self.float_nodes),
            "dynamic_nodes": dict(self.dynamic_nodes),
        }
        if self.borders:
            body["borders"] = [
                _tensor_to_dict(b.tensor) | {"source": b.source, "readers": list(b.readers)} for b in self.borders
            ]
        return json.dumps(body, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Raises PlanError for text that is not a plan of this format."""
        try:
            body = json.loads(text)
            if body["format"] != cls.FORMAT:
                raise PlanError(f"plan format {body['format']}", f"this version reads format {cls.FORMAT}")
            tensors = [_tensor_from_dict(t) for t in body["tensors"]]
            borders = [Border(_tensor_from_dict(b), b["source"], tuple(b["readers"])) for b in body.get("borders", [])]
            return cls({t.name: t for t in tensors}, body["float_nodes"], body["dynamic_nodes"], tuple(borders))
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"not a plan: {error!r}", "make it again with kbit export") from error


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A plan and the integers that go with it: what rounding, or training, hands to ``apply``.

    plan      may have other weight scales (and with them bias scales) than the plan that rounding was given
    integers  by weight name: on the grid of its qparams, of the weight's shape; i8 where that holds them, else i32
    biases    by bias name, f32: corrected; a bias that is not here is the graph's own
    """

    plan: Plan
    integers: Mapping[str, npt.NDArray[np.integer]]
    biases: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def _grain_to_dict(grain: Grain) -> dict[str, Any]:
    match grain:
        case PerTensor():
            return {"per": "tensor"}
        case PerChannel(axis):
            return {"per": "channel", "axis": axis}
        case PerGroup(axis, size):
            return {"per": "group", "axis": axis, "size": size}


def _grain_from_dict(body: Mapping[str, Any]) -> Grain:
    match body["per"]:
        case "tensor":
            return PerTensor()
        case "channel":
            return PerChannel(body["axis"])
        case "group":
            return PerGroup(body["axis"], body["size"])
        case other:
            raise PlanError(f"unknown grain {other!r} in a plan")


def _tensor_to_dict(tensor: TensorPlan) -> dict[str, Any]:
    body: dict[str, Any] = {"name": tensor.name, "role": tensor.role, "why": tensor.why}
    if tensor.qparams is None:
        return body | {"kept": tensor.kept}
    q = tensor.qparams
    return body | {
        "rounder": tensor.rounder,
        **_scheme_to_dict(q.scheme),
        "grain": _grain_to_dict(q.scheme.grain),
        "scale": _array_to_json(q.scale),
        "zero_point": _array_to_json(q.zero_point),
    }


def _array_to_json(array: npt.NDArray[Any]) -> Any:
    """Numbers as a list; very many (a language model's groups) as the base64 of their little-endian bytes.

    Where all are equal, that one number.
    """
    if array.size <= _LISTED:
        return array.tolist()
    if (array == array.flat[0]).all():  # zero points of a symmetric scheme
        return {"shape": list(array.shape), "all": array.flat[0].item()}
    kind = array.dtype.newbyteorder("<")
    return {"shape": list(array.shape), "base64": base64.b64encode(array.astype(kind).tobytes()).decode()}


def _array_from_json(body: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    if not isinstance(body, dict):
        return np.asarray(body, dtype)
    if "all" in body:
        return np.full(body["shape"], body["all"], dtype)
    raw = np.frombuffer(base64.b64decode(body["base64"], validate=True), np.dtype(dtype).newbyteorder("<"))
    return raw.reshape(body["shape"]).astype(dtype)


def _scheme_to_dict(scheme: Scheme | Codebook) -> dict[str, Any]:
    if isinstance(scheme, Codebook):
        return {"codebook": scheme.name, "levels": list(scheme.levels)}
    return {"bits": scheme.bits, "symmetric": scheme.symmetric, "signed": scheme.signed}


def _scheme_from_dict(body: Mapping[str, Any]) -> Scheme | Codebook:
    grain = _grain_from_dict(body["grain"])
    if "codebook" in body:
        return Codebook(body["codebook"], tuple(body["levels"]), grain)
    return Scheme(body["bits"], body["symmetric"], body["signed"], grain)


def _tensor_from_dict(body: Mapping[str, Any]) -> TensorPlan:
    if "scale" not in body:
        return TensorPlan(body["name"], body["role"], None, body["why"], kept=body["kept"])
    scale, zero_point = _array_from_json(body["scale"], np.float32), _array_from_json(body["zero_point"], np.int32)
    qparams = QParams(_scheme_from_dict(body), scale, zero_point)
    return TensorPlan(body["name"], body["role"], qparams, body["why"], body["rounder"])
