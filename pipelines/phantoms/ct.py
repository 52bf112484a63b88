"""The axial CT phantom at a dose: `axial_body` draws a patient, `scan` gives the slice without noise and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.phantoms.body import AxialBody, Grid, Labels, Matter, Plane, paint
from pipelines.phantoms.tomography import (
    APERTURE_MM,
    COARSE,
    MU_WATER_PER_MM,
    SHARP,
    SOFT,
    STANDARD,
    VIEWS,
    Kernel,
    attenuation,
    back_project,
    counting_noise,
    through_kernel,
)
from pipelines.phantoms.trunk import axial_body

__all__ = [
    "SHARP",
    "SOFT",
    "STANDARD",
    "AxialBody",
    "CtSlice",
    "Grid",
    "Kernel",
    "Matter",
    "axial_body",
    "paint",
    "scan",
]

FULL_DOSE_PHOTONS = 1e6  # a ray, through 300 mm of water: 8 HU of noise in the middle with a soft kernel
REFERENCE_MM = 300.0
MODULATION = 0.85  # the share of a patient's further attenuation that the tube current makes up for


@dataclass(frozen=True, slots=True, eq=False)
class CtSlice:
    """A slice in HU before any kernel: what is there, what counting adds at the dose of the scan, and the matter."""

    clean: Plane
    noise: Plane
    matter: Labels
    spacing_mm: float

    def seen(self, kernel: Kernel) -> tuple[Plane, Plane]:
        """(without noise, as scanned), both through `kernel`."""
        clean = through_kernel(self.clean, self.spacing_mm, kernel, APERTURE_MM)
        return clean, clean + through_kernel(self.noise, self.spacing_mm, kernel)


def photons_at(body: AxialBody, dose: float) -> float:
    """Photons a ray at the share `dose` of a routine scan, whose tube current follows the size of the patient."""
    further = MU_WATER_PER_MM * (sum(body.half_size_mm) - REFERENCE_MM)
    return dose * FULL_DOSE_PHOTONS * float(np.exp(MODULATION * further))


def scan(body: AxialBody, grid: Grid, dose: float, rng: np.random.Generator) -> CtSlice:
    """The slice at the share `dose` of a routine scan. `grid` may be any part of the field of view.

    The attenuation of the whole body decides the noise: it is projected once, COARSE times coarser than the pixels.
    """
    coarse_mm = COARSE * grid.spacing_mm
    size = int(np.ceil(2.15 * max(body.half_size_mm) / coarse_mm))
    whole, _ = paint(body, Grid(size, size, coarse_mm))
    clean_views = attenuation(whole, coarse_mm, VIEWS)
    noise_views = counting_noise(clean_views, photons_at(body, dose), rng)
    hu, matter = paint(body, grid)
    x_mm, y_mm = grid.axes_mm()
    noise = back_project(noise_views, grid.spacing_mm, x_mm, y_mm)
    return CtSlice(hu, noise, matter, grid.spacing_mm)
