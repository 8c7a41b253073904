"""From raw samples to a model's input: the one implementation, used in calibration, evaluation and on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["apply"]


def apply(raw: Any, spec: Any, shape: Any) -> Any:
    """Raw samples [N, ...] -> float32 [N, ...] in the layout of ``shape`` (the model's own, names allowed).

    spec  the manifest's ``preprocess`` of this input (None: cast only), in this order: length, resize, scale,
          log_mel, mean and std (per channel), then the transpose from source_layout to the model's layout
    """
    if spec is None:
        return np.ascontiguousarray(raw, np.float32)
    layout = spec.get("source_layout") or _guess_layout(raw.shape, shape)
    if spec.get("length"):
        raw = _fit_length(raw, spec["length"])
    if spec.get("resize"):
        raw = _resize(raw, spec["resize"], layout)
    array = raw.astype(np.float32)
    scale = spec.get("scale", 1.0)
    if scale != 1.0:
        array *= np.float32(scale)
    if spec.get("log_mel"):
        array, layout = log_mel(array, spec["log_mel"]), "NCHW"
    array -= _per_channel(spec.get("mean", 0.0), array.ndim, layout)
    array /= _per_channel(spec.get("std", 1.0), array.ndim, layout)
    if array.ndim == 4 and layout != _model_layout(array.shape, layout, shape):
        array = array.transpose((0, 3, 1, 2) if layout == "NHWC" else (0, 2, 3, 1))
    return np.ascontiguousarray(array)


def _guess_layout(raw_shape: Any, shape: Any) -> Any:
    """Without source_layout the data lies as the model wants it."""
    return "NHWC" if len(shape) == 4 and _fixed(shape[3]) in (1, 3, 4) and _fixed(shape[1]) not in (1, 3, 4) else "NCHW"


def _model_layout(array_shape: Any, layout: Any, shape: Any) -> Any:
    """The layout whose dimensions fit the model's shape; the data's own where both fit."""
    channels = array_shape[3] if layout == "NHWC" else array_shape[1]
    same = [_fixed(d) in (None, a) for d, a in zip(shape[1:], array_shape[1:])]
    if all(same) and not (layout == "NHWC" and _fixed(shape[1]) == channels and _fixed(shape[3]) != channels):
        return layout
    return "NCHW" if layout == "NHWC" else "NHWC"


def _fixed(dimension: Any) -> Any:
    return dimension if isinstance(dimension, int) else None


def _per_channel(numbers: Any, rank: Any, layout: Any) -> Any:
    array = np.asarray(numbers, np.float32)
    if array.ndim == 0 or rank < 3 or layout == "NHWC":
        return array
    return array.reshape((-1,) + (1,) * (rank - 2))


def _fit_length(raw: Any, length: Any) -> Any:
    if raw.shape[1] >= length:
        return raw[:, :length]
    return np.pad(raw, [(0, 0), (0, length - raw.shape[1])] + [(0, 0)] * (raw.ndim - 2))


def _resize(raw: Any, size: Any, layout: Any) -> Any:
    """Bilinear with half-pixel centres, edges repeated."""
    first = 1 if layout == "NHWC" else 2
    array = raw.astype(np.float32)
    for axis, target in zip((first, first + 1), size):
        source = array.shape[axis]
        if source == target:
            continue
        place = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, source - 1)
        weight = (place - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
        array = array.take(low, axis) * (1 - weight) + array.take(high, axis) * weight
    return array


def log_mel(wave: Any, spec: Any) -> Any:
    """Waveforms [N, samples] -> [N, 1, mels, frames]: ln(power + 1e-6), Hann window, HTK mel scale."""
    n_fft, hop = spec.get("n_fft", 256), spec.get("hop", 128)
    rate, bands = spec["sample_rate"], spec.get("mels", 40)
    frames = 1 + (wave.shape[1] - n_fft) // hop
    if frames < 1:
        raise ValueError("a waveform of %d samples is shorter than n_fft %d" % (wave.shape[1], n_fft))
    index = np.arange(n_fft)[None, :] + hop * np.arange(frames)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    bank = _mel_bank(rate, n_fft, bands, spec.get("fmin", 20.0), spec.get("fmax") or rate / 2)
    out = np.empty((len(wave), 1, bands, frames), np.float32)
    for number, samples in enumerate(wave):
        power = np.abs(np.fft.rfft(samples.astype(np.float64)[index] * window)) ** 2
        out[number, 0] = np.log(power @ bank + 1e-6).T
    return out


def _mel_bank(rate: Any, n_fft: Any, bands: Any, low: Any, high: Any) -> Any:
    """Triangles [n_fft // 2 + 1, bands], evenly spaced in mel = 2595 log10(1 + f / 700)."""
    top = 2595 * np.log10(1 + high / 700)
    bottom = 2595 * np.log10(1 + low / 700)
    edges = 700 * (10 ** (np.linspace(bottom, top, bands + 2) / 2595) - 1)
    frequency = np.arange(n_fft // 2 + 1) * rate / n_fft
    rising = (frequency[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))
