"""Methods without a network that the generator must beat: identity, histogram matching and a map of grey values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.spatial import cKDTree
from skimage.exposure import match_histograms

from pipelines.intensity import Array
from pipelines.training.trainer import Pair

Method = Callable[[Array], Array]
NEIGHBOURS = 200
SAMPLES = 200_000
REFERENCE = 65_536  # quantiles that stand for the histogram of all B


def fit_baselines(pairs: Sequence[Pair], seed: int = 0) -> Mapping[str, Method]:
    """Each baseline fitted on training `pairs` in [-1, 1]; a method maps real_a (rows, columns) to its fake_b."""
    every_b = np.concatenate([real_b.ravel() for _, real_b in pairs])
    reference = np.quantile(every_b, np.linspace(0.0, 1.0, REFERENCE)).astype(np.float32)

    def identity(real_a: Array) -> Array:
        return real_a

    def histogram(real_a: Array) -> Array:
        return np.asarray(match_histograms(real_a.ravel(), reference).reshape(real_a.shape), dtype=np.float32)

    return {"identity": identity, "histogram": histogram, "pixel_map": _pixel_map(pairs, seed)}


def _pixel_map(pairs: Sequence[Pair], seed: int) -> Method:
    """k-nearest-neighbour regression of the B grey value on the A grey value: the best that sees one pixel at a time.

    Tabulated over the range of A, since only one number goes in.
    """
    rng = np.random.default_rng(seed)
    real_a = np.concatenate([pair[0].ravel() for pair in pairs])
    real_b = np.concatenate([pair[1].ravel() for pair in pairs])
    drawn = rng.choice(real_a.size, min(SAMPLES, real_a.size), replace=False)
    known_a, known_b = real_a[drawn], real_b[drawn]
    grid = np.linspace(-1.0, 1.0, 1025)
    _, nearest = cKDTree(known_a[:, None]).query(grid[:, None], k=min(NEIGHBOURS, len(known_a)))
    table = known_b[nearest].mean(axis=1)

    def pixel_map(real_a: Array) -> Array:
        return np.asarray(np.interp(real_a, grid, table), dtype=np.float32)

    return pixel_map
