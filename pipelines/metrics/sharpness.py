"""CPBD: the share of edges whose blur nobody sees (Narvekar and Karam 2011), without a reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import sobel
from skimage.feature import canny

from pipelines.metrics.similarity import Image

BLOCK = 64  # pixels
EDGES_IN_BLOCK = 0.002  # share of a block's pixels that makes it an edge block
LOW_CONTRAST = 50.0  # grey values of 256 within a block
JUST_NOTICEABLE = (5.0, 3.0)  # width in pixels of a blur just noticed at low and at higher contrast
SLOPE = 3.6
JUST_NOTICED = 63  # per cent


def cpbd(image: Image, low: float, high: float) -> float:
    """The CPBD of an image (rows, columns) shown from black at `low` to white at `high`; NaN without any edge.

    Edges run along columns, within 22.5 degrees. Noise makes edges and so raises the score, and so does a narrower
    window: compare images of one window only.
    """
    grey = np.clip((np.asarray(image, dtype=np.float64) - low) * (255.0 / (high - low)), 0.0, 255.0)
    edges = canny(grey)  # type: ignore[no-untyped-call]
    across, along = sobel(grey, axis=1), sobel(grey, axis=0)
    upright = edges & (np.abs(along) <= np.tan(np.pi / 8) * np.abs(across)) & (across != 0)
    widths = np.where(across > 0, _rising_width(grey), _rising_width(-grey))
    unseen = counted = 0
    for top in range(0, grey.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, grey.shape[1] - BLOCK + 1, BLOCK):
            here = np.s_[top : top + BLOCK, left : left + BLOCK]
            if edges[here].mean() <= EDGES_IN_BLOCK:
                continue
            noticeable = JUST_NOTICEABLE[int(np.ptp(grey[here]) > LOW_CONTRAST)]
            seen = 1.0 - np.exp(-((widths[here][upright[here]] / noticeable) ** SLOPE))
            unseen += int(np.count_nonzero(np.rint(100.0 * seen) <= JUST_NOTICED))
            counted += seen.size
    return unseen / counted if counted else float("nan")


def _rising_width(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """At each pixel, the pixels between the dark and the bright end of the slope along the row that it lies on."""
    rising = np.diff(grey, axis=1) > 0
    before, after = np.zeros(grey.shape), np.zeros(grey.shape)
    for column in range(1, grey.shape[1]):
        before[:, column] = np.where(rising[:, column - 1], before[:, column - 1] + 1, 0)
        mirrored = grey.shape[1] - 1 - column
        after[:, mirrored] = np.where(rising[:, mirrored], after[:, mirrored + 1] + 1, 0)
    return before + after
