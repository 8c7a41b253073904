"""The recipe: one TOML file that describes a run. Every key is also a command-line flag and a Python argument."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["Data", "Gates", "InputSpec", "Model", "Preprocess", "Quantize", "Recipe", "Targets"]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class InputSpec(_Table, frozen=True):
    """One model input: dimensions (a name is a dynamic dimension) and element type."""

    shape: list[int | str]
    dtype: str = "float32"


class Model(_Table, frozen=True):
    """Where the model comes from. ``source``: module:callable | model.pt2 | model.onnx."""

    source: str
    checkpoint: str | None = None
    inputs: dict[str, InputSpec] = {}


class LogMel(_Table, frozen=True):
    """Log-mel spectrogram of a waveform: [samples] -> [1, mels, frames] (natural log of power + 1e-6)."""

    sample_rate: int
    n_fft: int = 256
    hop: int = 128
    mels: int = 40
    fmin: float = 20.0
    fmax: float | None = None


class Preprocess(_Table, frozen=True):
    """From a raw sample to the model's input; applied in the order of the fields."""

    source_layout: Literal["NHWC", "NCHW"] | None = None
    length: int | None = None
    resize: list[int] | None = None
    scale: float = 1.0
    log_mel: LogMel | None = None
    mean: list[float] | float = 0.0
    std: list[float] | float = 1.0


class Data(_Table, frozen=True):
    """Calibration and evaluation samples and how a sample becomes an input."""

    calibration: str | None = None
    evaluation: str | None = None
    metric: str = "top1"
    calibration_samples: int = 512
    evaluation_samples: int = 2000
    batch_size: int = 32
    preprocess: dict[str, Preprocess] = {}


class Quantize(_Table, frozen=True):
    """How the numbers are chosen. weights or activations = "float" leaves the model in float."""

    weights: Literal["int8", "float"] = "int8"
    activations: Literal["int8", "float"] = "int8"
    granularity: Literal["channel", "tensor"] = "channel"
    observer: Literal["minmax", "percentile", "mse", "entropy"] = "minmax"
    rounder: Literal["nearest"] = "nearest"
    io: Literal["float32", "int8"] = "float32"
    keep_float: list[str] = []  # name patterns (fnmatch) of nodes that stay in float
    passes: list[str] | None = None


class Targets(_Table, frozen=True):
    names: list[str] = msgspec.field(default_factory=lambda: ["host"])
    runtimes: list[Literal["onnxruntime", "tflite"]] = msgspec.field(default_factory=lambda: ["onnxruntime", "tflite"])


class Gates(_Table, frozen=True):
    """What must hold for exit code 0; a gate that is None is not judged."""

    max_drop: float | None = None
    min_agreement: float | None = None
    max_latency_ms: float | None = None
    max_bytes: int | None = None
    max_peak_bytes: int | None = None


class Recipe(_Table, frozen=True):
    model: Model
    data: Data = Data()
    quantize: Quantize = Quantize()
    targets: Targets = Targets()
    gates: Gates = Gates()
    name: str | None = None
    seed: int = 0


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain data, defaults left out."""
    body: dict[str, Any] = msgspec.to_builtins(recipe)
    return body
