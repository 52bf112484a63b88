"""What a CT scanner adds to a slice: projections, their counting noise, and filtered back-projection.

Reconstruction is linear, so a noisy slice is the clean slice seen through the kernel plus the reconstruction of the
noise of its projections alone. That takes one back-projection a slice; every kernel is then a filter of the image.
Parallel beam; numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Sinogram = NDArray[np.float64]

MU_WATER_PER_MM = 0.0192  # at about 70 keV
VIEWS = 720
COARSE = 4  # views and pixels are so many times coarser where only the attenuation is wanted, which is smooth
ELECTRONIC_COUNTS = 10.0  # SD of the electronic noise of one reading
_FINE = 8  # a filtered view is interpolated so many times by its spectrum; the nearest sample is then exact enough


@dataclass(frozen=True, slots=True)
class Kernel:
    """A reconstruction kernel: the Hann window that falls to zero at `cutoff_per_mm`, cut at the detector's limit."""

    name: str
    cutoff_per_mm: float

    def window(self, frequency_per_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of each spatial frequency that the kernel keeps."""
        share = np.cos(0.5 * np.pi * np.clip(frequency_per_mm / self.cutoff_per_mm, 0.0, 1.0)) ** 2
        return np.asarray(share, dtype=np.float64)


SOFT = Kernel("soft", 0.70)
STANDARD = Kernel("standard", 0.95)
SHARP = Kernel("sharp", 1.40)
APERTURE_MM = 0.6  # of focal spot and detector element together: blurs the signal, not the counting noise


def project(hu: Plane, spacing_mm: float, views: int, bins: int) -> Sinogram:
    """Line integrals of the attenuation, (views, bins): view k at the angle pi k / views, bins `spacing_mm` apart.

    Each pixel is shared by the two bins that it falls between. The axis of rotation is the middle of the slice.
    """
    weight = np.maximum(hu.ravel().astype(np.float64) / 1000.0 + 1.0, 0.0) * (MU_WATER_PER_MM * spacing_mm)
    kept = weight > 0
    rows, columns = np.indices(hu.shape)
    y, x = ((index.ravel() - 0.5 * (size - 1))[kept] for index, size in zip((rows, columns), hu.shape, strict=True))
    weight = weight[kept]
    result = np.empty((views, bins))
    for view in range(views):
        angle = np.pi * view / views
        place = x * np.cos(angle) + y * np.sin(angle) + 0.5 * (bins - 1)
        left = np.floor(place).astype(np.intp)
        share = place - left
        inside = (left >= 0) & (left < bins - 1)
        total = np.bincount(left[inside], weight[inside] * (1.0 - share[inside]), bins)
        total += np.bincount(left[inside] + 1, weight[inside] * share[inside], bins)
        result[view] = total
    return result


def attenuation(hu: Plane, spacing_mm: float, views: int = VIEWS) -> Sinogram:
    """The line integrals of a coarse slice, interpolated to the `views` and bins of a slice COARSE times finer."""
    bins = int(np.ceil(1.5 * max(hu.shape)))
    coarse = project(hu, spacing_mm, views // COARSE, bins)
    coarse = (np.roll(coarse, 1, axis=1) + 2.0 * coarse + np.roll(coarse, -1, axis=1)) / 4.0  # splatting leaves ripples
    places = (np.arange(COARSE * bins) - 0.5 * (COARSE * bins - 1)) / COARSE + 0.5 * (bins - 1)
    fine = np.stack([np.interp(places, np.arange(bins), view) for view in coarse])
    return np.repeat(fine, COARSE, axis=0)


def counting_noise(clean: Sinogram, photons: float, rng: np.random.Generator) -> Sinogram:
    """What counting adds to the line integrals `clean` when `photons` a ray leave the tube: Poisson and electronic."""
    counts = rng.poisson(photons * np.exp(-clean)) + rng.normal(0.0, ELECTRONIC_COUNTS, clean.shape)
    return -np.log(np.maximum(counts, 1.0) / photons) - clean


def back_project(sinogram: Sinogram, spacing_mm: float, x_mm: Plane, y_mm: Plane) -> Plane:
    """Filtered back-projection with the bare ramp, in HU above water: (len(y_mm), len(x_mm)).

    `spacing_mm` lies between bins; x and y of the pixels are measured from the axis of rotation.
    """
    views, bins = sinogram.shape
    length = 1 << int(np.ceil(np.log2(2 * bins)))  # no view may wrap around into itself
    ramp = np.fft.rfftfreq(length, spacing_mm)
    spectrum = np.fft.rfft(sinogram, length, axis=1) * ramp
    fine = np.fft.irfft(spectrum, _FINE * length, axis=1) * _FINE  # (views, _FINE length)
    fine = np.asarray(fine * (np.pi / views * 1000.0 / MU_WATER_PER_MM), dtype=np.float32)
    image = np.zeros((len(y_mm), len(x_mm)), dtype=np.float32)
    scale, middle = _FINE / spacing_mm, _FINE * 0.5 * (bins - 1)
    for view in range(views):
        angle = np.pi * view / views
        along_x = (x_mm * (scale * np.cos(angle)) + (middle + 0.5)).astype(np.float32)
        along_y = (y_mm * (scale * np.sin(angle))).astype(np.float32)
        image += fine[view].take((along_y[:, None] + along_x[None, :]).astype(np.int32), mode="wrap")
    return image


def through_kernel(image: Plane, spacing_mm: float, kernel: Kernel, aperture_mm: float = 0.0) -> Plane:
    """`image` as `kernel` and an aperture show it, up to the detector's limiting frequency; edges are mirrored."""
    margin = min(16, *image.shape)
    padded = np.pad(image, margin, mode="symmetric")
    fy, fx = (np.fft.fftfreq(padded.shape[0], spacing_mm), np.fft.rfftfreq(padded.shape[1], spacing_mm))
    frequency = np.hypot(fy[:, None], fx[None, :])
    share = kernel.window(frequency) * np.sinc(frequency * aperture_mm) * (frequency <= 0.5 / spacing_mm)
    seen = np.fft.irfft2(np.fft.rfft2(padded) * share, s=padded.shape)
    return np.asarray(seen[margin:-margin, margin:-margin], dtype=np.float32)


def noise_power(photons_variance: float, spacing_mm: float, views: int, frequency: NDArray[np.float64]) -> Sinogram:
    """The noise power spectrum in HU^2 mm^2 that theory gives a slice whose readings have this variance.

    Ramp-filtered back-projection of white noise: pi / views * variance * spacing * f (Kak and Slaney 1988, 5.4, as a
    density over the two frequencies), in HU; times the squared window of a kernel.
    """
    density = np.pi / views * photons_variance * spacing_mm * np.abs(frequency)
    return np.asarray(density * (1000.0 / MU_WATER_PER_MM) ** 2, dtype=np.float64)
