"""What a coarse image keeps of a fine one, and the fine image that keeps exactly that.

A coarse pixel is the mean of fine ones under a triangle two coarse pixels wide: linear down-sampling, as in Galbusera
et al. 2018. Both grids have the same edges.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@lru_cache(maxsize=8)
def degradation(length: int, factor: int) -> Matrix:
    """(length, factor * length): fine pixels of one axis to `length` coarse ones; each row sums to 1."""
    centre = factor * np.arange(length)[:, None] + 0.5 * (factor - 1)
    weight = np.clip(1.0 - np.abs(np.arange(factor * length)[None, :] - centre) / factor, 0.0, None)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float32)


@lru_cache(maxsize=8)
def restoration(length: int, factor: int) -> Matrix:
    """(factor * length, length): the pseudo-inverse of `degradation`, which amplifies no pattern more than twofold."""
    down = degradation(length, factor).astype(np.float64)
    return np.asarray(np.linalg.solve(down @ down.T, down).T, dtype=np.float32)


def degraded(fine: Matrix, factor: int) -> Matrix:
    """(rows, columns) of a fine image -> the coarse one; both multiples of `factor`."""
    rows, columns = (length // factor for length in fine.shape)
    return np.asarray(degradation(rows, factor) @ fine @ degradation(columns, factor).T, dtype=np.float32)


def back_projected(fine: Matrix, coarse: Matrix, factor: int) -> Matrix:
    """The image nearest to `fine` that degrades to `coarse`.

    Back-projection (Irani and Peleg 1991), ``fine + U(coarse - D(fine))``. With the pseudo-inverse of D as U one pass
    leaves nothing over.
    """
    rows, columns = coarse.shape
    missing = coarse - degraded(fine, factor)
    return np.asarray(fine + restoration(rows, factor) @ missing @ restoration(columns, factor).T, dtype=np.float32)
