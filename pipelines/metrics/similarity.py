"""MSE, NMSE, PSNR and SSIM of a result against its truth, over the truth's fixed range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Similarity:
    """One result against its truth.

    mse       mean squared error as a share of the squared range
    psnr_db   infinite for equal images
    ssim      Gaussian window of 1.5 pixels, population covariance: the settings of Wang et al. 2004
    ssim_7x7  uniform 7 x 7 window, sample covariance: the default of scikit-image, which most papers report
    """

    mse: float
    psnr_db: float
    ssim: float
    ssim_7x7: float


def compare(result: Image, truth: Image, data_range: float) -> Similarity:
    """The similarity of two images (rows, columns) or volumes of such slices (slices, rows, columns).

    `data_range` is the span that the truth's scale can show (2 for [-1, 1]), never that of one image: otherwise a dark
    slice would count more than a bright one. SSIM is the mean over the slices. Raises ValueError when shapes differ.
    """
    if result.shape != truth.shape or truth.ndim not in (2, 3):
        raise ValueError(f"images: found shapes {result.shape} and {truth.shape}, expected equal, in 2 or 3 dimensions")
    mse = float(np.mean((result.astype(np.float64) - truth) ** 2)) / data_range**2
    slices = list(zip(result, truth, strict=True)) if truth.ndim == 3 else [(result, truth)]
    return Similarity(
        mse=mse,
        psnr_db=float(-10.0 * np.log10(mse)) if mse else float("inf"),
        ssim=float(np.mean([_wang(one, other, data_range) for one, other in slices])),
        ssim_7x7=float(np.mean([_default(one, other, data_range) for one, other in slices])),
    )


def nmse(result: Image, truth: Image) -> float:
    """The squared error as a share of the truth's energy: needs a scale on which no signal is 0, as in magnitudes."""
    energy = float(np.sum(truth.astype(np.float64) ** 2))
    return float(np.sum((result.astype(np.float64) - truth) ** 2)) / energy if energy else float("nan")


def _wang(result: Image, truth: Image, data_range: float) -> float:
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(result, truth, data_range=data_range, **settings))  # type: ignore[no-untyped-call]


def _default(result: Image, truth: Image, data_range: float) -> float:
    return float(structural_similarity(result, truth, data_range=data_range))  # type: ignore[no-untyped-call]
