"""What thin slices must beat: each thick slice repeated, and interpolations along z between the middles of slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from pipelines.intensity import Array
from pipelines.phantoms.ct_volume import FOLD, thickened

Scalar = TypeVar("Scalar", bound=np.generic)
Method = Callable[[Array], Array]  # thick slices in HU (n, rows, columns) -> (FOLD n, rows, columns)


def nearest(thick: NDArray[Scalar]) -> NDArray[Scalar]:
    """Each slice FOLD times."""
    return np.repeat(thick, FOLD, axis=0)


def linear(thick: Array) -> Array:
    """Linear between the middles of neighbouring slices; beyond the outermost middles their values."""
    place = _places(len(thick))
    below = np.minimum(place.astype(np.intp), max(len(thick) - 2, 0))
    above = np.minimum(below + 1, len(thick) - 1)
    share = (place - below).astype(np.float32)[:, None, None]
    return np.asarray(thick[below] * (1.0 - share) + thick[above] * share, dtype=np.float32)


def cubic(thick: Array) -> Array:
    """The cubic spline through the middles of at least four slices; beyond the outermost middles their values."""
    return np.asarray(CubicSpline(np.arange(len(thick)), thick, axis=0)(_places(len(thick))), dtype=np.float32)


def cubic_kept(thick: Array) -> Array:
    """The cubic spline, made to keep the mean over each thick slice."""
    thin = cubic(thick)
    return thin + nearest(thick - thickened(thin))


def _places(count: int) -> Array:
    """The middles of the thin slices, in thick slices from the middle of the first."""
    places = (np.arange(count * FOLD) - 0.5 * (FOLD - 1)) / FOLD
    return np.asarray(np.clip(places, 0.0, count - 1), dtype=np.float32)


BASELINES: Mapping[str, Method] = {"cubic_kept": cubic_kept, "cubic": cubic, "linear": linear, "nearest": nearest}
