"""A CT volume of a virtual patient in thin slices without noise, and what counting adds to the thick ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.phantoms.body import Grid, paint
from pipelines.phantoms.ct import photons_at
from pipelines.phantoms.solids import SolidBody, Stack, paint_slices
from pipelines.phantoms.tomography import (
    APERTURE_MM,
    COARSE,
    VIEWS,
    Kernel,
    attenuation,
    back_project,
    counting_noise,
    through_kernel,
)

FOLD = 5  # thin slices in a thick one
NOISE_VIEWS = VIEWS // 2  # each with twice the photons: the same noise in half the time


@dataclass(frozen=True, slots=True, eq=False)
class ThinScan:
    """Slices through one kernel, in HU.

    thin   (FOLD * thick slices, rows, columns), without noise
    noise  (n, rows, columns): what counting adds to thick slices, independent of each other. The photons of a thick
           slice are those of its thin ones together, so its noise is the mean of theirs
    """

    thin: Stack
    noise: Stack
    thickness_mm: float
    spacing_mm: float

    def thick(self) -> Stack:
        """The thick slices with their noise; needs as many noises as there are thick slices."""
        return thickened(self.thin) + self.noise[: len(self.thin) // FOLD]


def thickened(thin: Stack) -> Stack:
    """Contiguous slices FOLD times as thick: the mean of those in each."""
    slices, rows, columns = thin.shape
    return np.asarray(thin.reshape(slices // FOLD, FOLD, rows, columns).mean(axis=1), dtype=np.float32)


def scan_volume(
    patient: SolidBody,
    grid: Grid,
    thick_slices: int,
    thickness_mm: float,
    kernel: Kernel,
    dose: float,
    rng: np.random.Generator,
    noises: int | None = None,
) -> ThinScan:
    """A stack of thin slices `thickness_mm` thick and apart around z = 0, and the noise of `noises` thick slices.

    `dose` is the share of a routine scan that the thick slices get. The attenuation at z = 0 stands for the whole body.
    """
    count = FOLD * thick_slices
    heights = (np.arange(count) - 0.5 * (count - 1)) * thickness_mm
    painted = paint_slices(patient, grid, [float(z) for z in heights], thickness_mm)
    thin = np.stack([through_kernel(one, grid.spacing_mm, kernel, APERTURE_MM) for one in painted])
    body, coarse_mm = patient.body, COARSE * grid.spacing_mm
    size = int(np.ceil(2.15 * max(body.half_size_mm) / coarse_mm))
    whole, _ = paint(body, Grid(size, size, coarse_mm))
    views = attenuation(whole, coarse_mm, NOISE_VIEWS)
    photons = photons_at(body, dose) * VIEWS / NOISE_VIEWS
    axes = grid.axes_mm()
    noise = [
        through_kernel(
            back_project(counting_noise(views, photons, rng), grid.spacing_mm, *axes), grid.spacing_mm, kernel
        )
        for _ in range(thick_slices if noises is None else noises)
    ]
    return ThinScan(thin, np.stack(noise), thickness_mm, grid.spacing_mm)
