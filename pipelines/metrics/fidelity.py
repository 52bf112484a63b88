"""VIFp: how much of the truth's visual information a result keeps (Sheikh and Bovik 2006, in the pixel domain)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import convolve2d

from pipelines.metrics.similarity import Image

Plane = NDArray[np.float64]
GREYS = 255.0  # the variance of the visual noise below belongs to this scale
VISUAL_NOISE = 2.0
SMALLEST = 41  # pixels; the fourth scale of a smaller image holds no whole window
_TINY = 1e-10


def vifp(result: Image, truth: Image, data_range: float) -> float:
    """The VIFp of an image (rows, columns) on a scale that spans `data_range`; 1 for equal images.

    Not symmetric, and above 1 where a result has more contrast than its truth. Raises ValueError for shapes that differ
    or are smaller than 41 pixels.
    """
    if result.shape != truth.shape or truth.ndim != 2 or min(truth.shape) < SMALLEST:
        raise ValueError(f"images: found {result.shape} and {truth.shape}, expected equal, at least {SMALLEST} pixels")
    one, other = (np.asarray(image, dtype=np.float64) * (GREYS / data_range) for image in (result, truth))
    kept = held = 0.0
    for scale in range(4):
        window = _gaussian(2 ** (4 - scale) + 1)
        if scale:
            one, other = (_blurred(image, window)[::2, ::2] for image in (one, other))
        gain, spread, variance = _channel(one, other, window)
        kept += float(np.log10(1.0 + gain**2 * variance / (spread + VISUAL_NOISE)).sum())
        held += float(np.log10(1.0 + variance / VISUAL_NOISE).sum())
    return kept / held if held else 1.0


def _channel(result: Plane, truth: Plane, window: Plane) -> tuple[Plane, Plane, Plane]:
    """The distortion as gain and additive noise in each window, and the variance of the truth there."""
    mean_r, mean_t = _blurred(result, window), _blurred(truth, window)
    var_r = np.maximum(_blurred(result**2, window) - mean_r**2, 0.0)
    var_t = np.maximum(_blurred(truth**2, window) - mean_t**2, 0.0)
    both = _blurred(result * truth, window) - mean_r * mean_t
    gain = both / (var_t + _TINY)
    spread = var_r - gain * both
    flat_t, flat_r = var_t < _TINY, var_r < _TINY
    gain[flat_t], spread[flat_t], var_t[flat_t] = 0.0, var_r[flat_t], 0.0
    gain[flat_r], spread[flat_r] = 0.0, 0.0
    inverted = gain < 0.0
    spread[inverted], gain[inverted] = var_r[inverted], 0.0
    return gain, np.maximum(spread, _TINY), var_t


def _gaussian(size: int) -> Plane:
    offset = np.arange(size) - 0.5 * (size - 1)
    line = np.exp(-0.5 * (offset / (size / 5.0)) ** 2)
    window = line[:, None] * line[None, :]
    return np.asarray(window / window.sum())


def _blurred(image: Plane, window: Plane) -> Plane:
    """Where the whole window lies in the image."""
    line = window.sum(axis=0)  # the window is the product of two lines
    return np.asarray(convolve2d(convolve2d(image, line[:, None], "valid"), line[None, :], "valid"))
