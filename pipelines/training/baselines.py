"""Methods without a network that the generator must beat: identity, histogram matching and a map of grey values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.spatial import cKDTree
from skimage.exposure import match_histograms

from pipelines.intensity import Array
from pipelines.training.trainer import Pair

Method = Callable[[Array], Array]
NEIGHBOURS = 200
POINTS = {1: 1025, 2: 65}  # of the table along each source, by their number
SAMPLES = 200_000
REFERENCE = 65_536  # quantiles that stand for the histogram of all B


def fit_baselines(pairs: Sequence[Pair], seed: int = 0) -> Mapping[str, Method]:
    """Each baseline fitted on training `pairs` in [-1, 1]; a method maps real_a (sources, rows, columns) to its fake_b.

    The first two see only the last source.
    """
    every_b = np.sort(np.concatenate([real_b.ravel() for _, real_b in pairs]))
    reference = every_b[np.linspace(0, every_b.size - 1, REFERENCE).astype(np.intp)]  # quicker than np.quantile

    def identity(real_a: Array) -> Array:
        last: Array = real_a[-1]
        return last

    def histogram(real_a: Array) -> Array:
        return np.asarray(match_histograms(real_a[-1].ravel(), reference).reshape(real_a[-1].shape), dtype=np.float32)

    return {"identity": identity, "histogram": histogram, "pixel_map": _pixel_map(pairs, seed)}


def _pixel_map(pairs: Sequence[Pair], seed: int) -> Method:
    """k-nearest-neighbour regression of the B grey value on the A grey values: the best that sees one pixel at a time.

    Tabulated over the range of A, since only one or two numbers go in.
    """
    rng = np.random.default_rng(seed)
    real_a = np.concatenate([pair[0].reshape(len(pair[0]), -1) for pair in pairs], axis=1)
    real_b = np.concatenate([pair[1].ravel() for pair in pairs])
    drawn = rng.choice(real_b.size, min(SAMPLES, real_b.size), replace=False)
    axis = np.linspace(-1.0, 1.0, POINTS[len(real_a)])
    grid = np.stack(np.meshgrid(*[axis] * len(real_a), indexing="ij"), axis=-1)  # (points, ..., sources)
    _, nearest = cKDTree(real_a[:, drawn].T).query(grid, k=min(NEIGHBOURS, len(drawn)))
    table = RegularGridInterpolator([axis] * len(real_a), real_b[drawn][nearest].mean(axis=-1))

    def pixel_map(real_a: Array) -> Array:
        return np.asarray(table(np.moveaxis(real_a, 0, -1)), dtype=np.float32)

    return pixel_map
