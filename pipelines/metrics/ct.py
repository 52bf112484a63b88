"""What a denoised CT must keep: HU, the look of the noise that is left, edges, and low-contrast lesions. numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NoiseSpectrum:
    """The radial mean of a noise power spectrum: HU^2 mm^2 at each frequency in 1/mm."""

    frequency_per_mm: Curve
    power: Curve

    @property
    def sigma_hu(self) -> float:
        """The SD of the noise: the root of the spectrum's integral over the plane."""
        return float(np.sqrt(np.trapezoid(2.0 * np.pi * self.frequency_per_mm * self.power, self.frequency_per_mm)))

    @property
    def mean_frequency_per_mm(self) -> float:
        """The centre of the radial spectrum: coarser noise has a lower one."""
        return float((self.frequency_per_mm * self.power).sum() / self.power.sum())


def noise_spectrum(noise: Iterable[Image], spacing_mm: float) -> NoiseSpectrum:
    """The spectrum of square patches of noise of equal size, each freed of its plane trend (Siewerdsen et al. 2002).

    Take the difference of two scans or of a result and its truth: over anatomy, the difference to a uniform phantom is
    what a denoiser hides. Raises ValueError for no patches.
    """
    patches = [_detrended(np.asarray(patch, dtype=np.float64)) for patch in noise]
    if not patches:
        raise ValueError("noise: found no patch, expected at least one")
    size = patches[0].shape[0]
    power = np.mean([np.abs(np.fft.fft2(patch)) ** 2 for patch in patches], axis=0) * spacing_mm**2 / size**2
    frequency = np.fft.fftfreq(size, spacing_mm)
    ring = np.rint(np.hypot(frequency[:, None], frequency[None, :]) * size * spacing_mm).astype(np.intp).ravel()
    counts, sums = np.bincount(ring), np.bincount(ring, power.ravel())
    return NoiseSpectrum(np.arange(size // 2 + 1) / (size * spacing_mm), (sums / counts)[: size // 2 + 1])


def _detrended(patch: Curve) -> Curve:
    rows, columns = np.indices(patch.shape)
    terms = np.stack([np.ones(patch.size), rows.ravel(), columns.ravel()], axis=1)
    fitted, *_ = np.linalg.lstsq(terms, patch.ravel(), rcond=None)
    return np.asarray(patch - (terms @ fitted).reshape(patch.shape))


def hu_bias(result: Image, truth: Image, labels: NDArray[np.uint8], tissues: Mapping[str, int]) -> dict[str, float]:
    """Mean HU of result minus truth over the pixels of each tissue that the slice shows; `tissues` names labels."""
    difference = result.astype(np.float64) - truth
    return {
        name: float(difference[labels == label].mean()) for name, label in tissues.items() if (labels == label).any()
    }


def contrast_to_noise(image: Image, lesion: NDArray[np.bool_], background: NDArray[np.bool_]) -> float:
    """The difference of the two means over the SD of the background."""
    inside, outside = image[lesion].astype(np.float64), image[background].astype(np.float64)
    return float((inside.mean() - outside.mean()) / outside.std(ddof=1))


def task_transfer(image: Image, centre: tuple[float, float], radius: float, spacing_mm: float) -> tuple[Curve, Curve]:
    """(frequency in 1/mm, task transfer function) from the edge of a disc (Richard et al. 2012).

    `centre` (row, column) and `radius` are in pixels. The edge response, binned to a tenth of a pixel, is
    differentiated and transformed; average images first where noise would rule.
    """
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1]) - radius
    step, reach = 0.1, min(radius, 12.0)
    bins = np.arange(-reach, reach + step, step)
    near = np.abs(distance) < reach
    which = np.digitize(distance[near], bins) - 1
    counts = np.bincount(which, minlength=len(bins) - 1)[: len(bins) - 1]
    sums = np.bincount(which, image[near].astype(np.float64), minlength=len(bins) - 1)[: len(bins) - 1]
    middle = 0.5 * (bins[1:] + bins[:-1])
    edge = np.interp(middle, middle[counts > 0], sums[counts > 0] / counts[counts > 0])
    spread = np.gradient(edge) * np.hanning(len(edge))
    frequency: Curve = np.fft.rfftfreq(len(spread), step * spacing_mm).astype(np.float64)
    transfer: Curve = np.abs(np.fft.rfft(spread)).astype(np.float64)
    return frequency, transfer / transfer[0]


def frequency_at(frequency: Curve, transfer: Curve, share: float = 0.5) -> float:
    """The lowest frequency at which `transfer` falls below `share`, interpolated; the last one if it never does."""
    below = np.flatnonzero(transfer < share)
    if below.size == 0 or below[0] == 0:
        return float(frequency[-1] if below.size == 0 else frequency[0])
    left, right = below[0] - 1, below[0]
    part = (transfer[left] - share) / (transfer[left] - transfer[right])
    return float(frequency[left] + part * (frequency[right] - frequency[left]))
