"""Discrete Fourier transforms of a fixed length: products with constant matrices; over frames a convolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter.ops.expansion import Expansion
from exporter.ops.op import Float, Op

__all__ = ["ROWS", "fourier"]

Floats = npt.NDArray[np.float64]


def fourier(points: int, rows: int, *, columns: int, inverse: bool, real_in: bool, real_out: bool) -> Floats:
    """[rows x parts in, columns x parts out] for x [rows, parts]: parts are 1 (real) or 2 (real and imaginary).

    Rows from ``points`` on are zero: the input is cut or padded to that length. With a real result the input is one
    half of a spectrum, whose other half is its mirror image.
    """
    n, k = np.arange(rows), np.arange(columns)
    angle = 2 * np.pi / points * (np.outer(n, k) % points) * (1 if inverse else -1)
    weight = (n < points).astype(np.float64) / (points if inverse else 1)
    if real_out:
        mirrored = (n > 0) & (2 * n != points)
        weight = weight * np.where(mirrored, 2, 1) * (2 * n <= points)
    cos, sin = weight[:, None] * np.cos(angle), weight[:, None] * np.sin(angle)
    blocks = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=1)  # [n, in, k, out]
    blocks = blocks[:, : 1 if real_in else 2, :, : 1 if real_out else 2]
    matrix: Floats = blocks.reshape(rows * blocks.shape[1], columns * blocks.shape[3])
    return matrix


def dft(e: Expansion) -> None:
    """x [.., n, .., 1 or 2] -> [.., k, .., 1 or 2] along one axis."""
    sizes = e.sizes(0)
    rank, parts = len(sizes), sizes[-1]
    axis = int(np.asarray(e.static(2, "axis", e.attr("axis", -2))).item()) % rank
    inverse, half = bool(e.attr("inverse", 0)), bool(e.attr("onesided", 0))
    if parts not in {1, 2} or axis == rank - 1:
        raise e.refuse("axis", f"{axis} of {sizes}", "an axis before the last, which holds 1 or 2 parts")
    whole = 2 * (sizes[axis] - 1) if inverse and half else sizes[axis]
    points = int(np.asarray(e.static(1, "dft_length", whole)).item())
    columns = points // 2 + 1 if half and not inverse else points
    real_out = inverse and half
    matrix = fourier(points, sizes[axis], columns=columns, inverse=inverse, real_in=parts == 1, real_out=real_out)
    order = [i for i in range(rank - 1) if i != axis] + [axis, rank - 1]
    others = [sizes[i] for i in order[:-2]]
    x = e.reshape(e.transpose(e.input(0), order), [*others, sizes[axis] * parts])
    y = e.reshape(e.op("MatMul", x, matrix.astype(np.float32)), [*others, columns, 1 if real_out else 2])
    e.finish(e.transpose(y, [order.index(i) for i in range(rank)]))


def stft(e: Expansion) -> None:
    """signal [B, L], [B, L, 1] or [B, L, 2] -> [B, frames, k, 2].

    Frames are whole numbers of steps: a step is one position of the convolution, its samples the channels.
    """
    sizes = e.sizes(0)
    batch, length, parts = sizes[0], sizes[1], sizes[2] if len(sizes) == 3 else 1
    step = int(np.asarray(e.static(1, "frame_step")).item())
    window = e.const(2)
    if e.has(2) and window is None:
        raise e.refuse("window", "computed at run time", "make it a constant")
    size = int(np.asarray(e.static(3, "frame_length", length if window is None else len(window))).item())
    frames = (length - size) // step + 1
    columns = size // 2 + 1 if e.attr("onesided", 1) else size
    if frames < 1 or (window is not None and len(window) != size):
        raise e.refuse(
            "frame_length", f"{size} for a signal of {length}", "at most the signal's length, and the window's"
        )
    matrix = fourier(size, size, columns=columns, inverse=False, real_in=parts == 1, real_out=False)
    taper = np.ones(size) if window is None else window.astype(np.float64)
    matrix = matrix * np.repeat(taper, parts)[:, None]
    across = -(-size // step)  # steps in a frame
    matrix = np.pad(matrix, [(0, (across * step - size) * parts), (0, 0)])
    needed = (frames - 1 + across) * step
    x = e.reshape(e.input(0), [batch, length, parts])
    if needed > length:
        x = e.op("Pad", x, np.asarray([0, 0, 0, 0, needed - length, 0]))
    elif needed < length:
        x = e.op("Slice", x, np.asarray([0]), np.asarray([needed]), np.asarray([1]))
    x = e.op("Transpose", e.reshape(x, [batch, needed // step, step * parts]), perm=(0, 2, 1))
    filters = matrix.reshape(across, step * parts, columns * 2).transpose(2, 1, 0).astype(np.float32)
    y = e.op("Transpose", e.op("Conv", x, np.ascontiguousarray(filters)), perm=(0, 2, 1))
    e.finish(e.reshape(y, [batch, frames, columns, 2]))


def mel_weights(e: Expansion) -> None:
    """Constants are folded before this: whatever arrives here is computed."""
    names = ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz")
    found = [name for i, name in enumerate(names) if e.const(i) is None]
    raise e.refuse(", ".join(found), "computed at run time", "make them constants")


_WRITTEN = Float("written with simpler operators")

ROWS = (
    Op("DFT", _WRITTEN, ("activation", "static", "static"), expand=dft),
    Op("STFT", _WRITTEN, ("activation", "static", "static", "static"), expand=stft),
    Op("MelWeightMatrix", _WRITTEN, ("static",), expand=mel_weights, ignores=("output_datatype",)),
)
