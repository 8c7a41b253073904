"""GPTQ: round one column after the other, and let the columns that are left make up for each error.

Frantar et al. 2023, algorithm 1, with the columns in the order of the Hessian's diagonal. Here it rounds, for each
layer, the weight that brings the output of the quantized network closest to the float network's (least squares on the
inputs that the layer really gets, after all layers before it are rounded), not the float weight itself; the mean of the
output is left to the bias. On ResNet-20 with 2 bits that is the difference between 43 and 79 % (docs/benchmarks.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.rounding.polish import polished
from exporter.types import Codebook, Scheme

__all__ = ["gptq", "output_target"]

Doubles = npt.NDArray[np.float64]
_DAMPING = 0.01  # of the mean of the Hessian's diagonal, as in the paper
_BLOCK = 64  # columns whose updates of the rest are gathered into one product


def output_target(weight: Doubles, covariance: Doubles, cross: Doubles) -> Doubles:
    """[G,rows,K]: the weight T that minimises E |W f - T x|^2 + lambda |T - W|^2, means left out.

    f, x  what the layer reads in the float and in the quantized network; cross = cov(f, x)
    """
    pull = _DAMPING * _mean_diagonal(covariance)
    eye = np.eye(covariance.shape[-1])
    right = np.matmul(weight, cross) + pull * weight
    solved: Doubles = np.linalg.solve(covariance + pull * eye, right.swapaxes(1, 2)).swapaxes(1, 2)
    return solved


def gptq(target: Doubles, covariance: Doubles, scale: Doubles, zero: Doubles, scheme: Scheme | Codebook) -> Any:
    """i32[G,rows,K] that brings (Q - T) H (Q - T)^T close to its least.

    target      [G,rows,K]          covariance  H, [G,K,K]
    scale, zero broadcast against the target
    """
    depth = target.shape[2]
    hessian = covariance + _DAMPING * _mean_diagonal(covariance) * np.eye(depth)
    order = np.argsort(-np.diagonal(hessian, axis1=1, axis2=2), axis=1, kind="stable")
    hessian = np.stack([h[o][:, o] for h, o in zip(hessian, order, strict=True)])
    factor = _inverse_factor(hessian)
    pick = order[:, None, :]
    left = np.take_along_axis(target, pick, axis=2).copy()
    steps = np.take_along_axis(np.broadcast_to(scale, target.shape), pick, axis=2).astype(np.float32)
    zeros = np.take_along_axis(np.broadcast_to(zero, target.shape), pick, axis=2).astype(np.int32)
    found = np.empty(target.shape, np.int32)
    for start in range(0, depth, _BLOCK):
        stop = min(start + _BLOCK, depth)
        errors = np.empty((*target.shape[:2], stop - start))
        for j in range(start, stop):
            column = left[:, :, j]
            integers = grid.round_to(column.astype(np.float32), steps[:, :, j], zeros[:, :, j], scheme)
            found[:, :, j] = integers
            real = (integers - zeros[:, :, j]) * steps[:, :, j].astype(np.float64)
            error = (column - real) / factor[:, j, j][:, None]
            errors[:, :, j - start] = error
            left[:, :, j + 1 : stop] -= error[:, :, None] * factor[:, None, j, j + 1 : stop]
        left[:, :, stop:] -= np.matmul(errors, factor[:, start:stop, stop:])
    result = np.empty_like(found)
    np.put_along_axis(result, np.broadcast_to(pick, found.shape), found, axis=2)
    return polished(result, target, covariance, scale, zero, scheme)


def _mean_diagonal(matrix: Doubles) -> Doubles:
    """[G,1,1]; never zero, so that what is divided by it stays finite."""
    mean = np.diagonal(matrix, axis1=1, axis2=2).mean(axis=1)
    return np.asarray(np.maximum(mean, 1e-12)[:, None, None])


def _inverse_factor(hessian: Doubles) -> Doubles:
    """Upper Cholesky factor of the inverse: row j tells how the error of column j spreads over the later ones."""
    try:
        inverse = np.linalg.inv(hessian)
        return np.asarray(np.linalg.cholesky((inverse + inverse.swapaxes(1, 2)) / 2).swapaxes(1, 2), np.float64)
    except np.linalg.LinAlgError:  # inputs that hardly vary, as in one sample: rounding errors are all that is in it
        depth = hessian.shape[1]
        largest = np.maximum(np.abs(hessian).max(axis=(1, 2)), np.finfo(np.float64).tiny)
        dominant = hessian / largest[:, None, None] + depth * np.eye(depth)
        lower = np.linalg.cholesky((dominant + dominant.swapaxes(1, 2))[:, ::-1, ::-1] / 2)
        return np.asarray(np.linalg.inv(lower)[:, ::-1, ::-1], np.float64)
