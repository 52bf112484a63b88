"""The CT of a patient of the spine phantom: HU for the same label maps that the MR sequences see.

Marrow is the tissue that MR and CT share knowledge of: where its fat fraction is high, its HU are low. What a spin echo
shows alike, CT tells apart: cortex from ligaments and fascia, and gas from both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.phantoms.acquisition import OVERSAMPLING
from pipelines.phantoms.painting import Labels, Plane, paint_slice
from pipelines.phantoms.patient import CURVE_Z_MM, FIELD_SIZE, FIELD_STEP_MM, SpinePatient
from pipelines.phantoms.tissues import Tissue
from pipelines.phantoms.tomography import SOFT, Kernel
from pipelines.volume import Volume

STORED_HU = (-1024.0, 3071.0)
AIR_HU = -1000.0

# mean, SD between patients and SD of the fine texture, in HU; chosen within the ranges of textbooks, but for marrow
HOUNSFIELD: dict[Tissue, tuple[float, float, float]] = {
    Tissue.AIR: (AIR_HU, 0, 0),
    Tissue.SUBCUTANEOUS_FAT: (-106, 6, 5),
    Tissue.FAT: (-98, 7, 8),
    Tissue.MUSCLE: (56, 6, 5),
    Tissue.CORTEX: (1100, 130, 60),
    Tissue.MARROW: (0, 0, 0),  # from its fat fraction, see below
    Tissue.NUCLEUS: (72, 7, 3),
    Tissue.ANNULUS: (100, 9, 5),
    Tissue.CSF: (9, 4, 2),
    Tissue.CORD: (36, 4, 2),
    Tissue.NERVE_ROOT: (26, 5, 3),
    Tissue.FLOW_VOID: (44, 5, 2),
    Tissue.SLOW_BLOOD: (42, 5, 2),
    Tissue.BOWEL_WALL: (38, 8, 12),
    Tissue.BOWEL_FLUID: (14, 8, 4),
    Tissue.ORGAN: (36, 6, 4),
    Tissue.SKIN: (20, 10, 5),
    Tissue.LIGAMENT: (68, 8, 5),
    Tissue.MODIC_1: (25, 15, 20),  # this and the next: above the marrow that it lies in
    Tissue.MODIC_2: (-55, 15, 15),
    Tissue.MODIC_3: (560, 90, 60),
    Tissue.OEDEMA: (40, 15, 20),
    Tissue.HAEMANGIOMA: (-70, 25, 70),  # few and thick trabeculae in fat
    Tissue.METASTASIS: (45, 12, 10),  # lytic; the blastic ones of BLASTIC_SHARE are BLASTIC_HU
    Tissue.BASIVERTEBRAL_VEIN: (55, 8, 5),
    Tissue.DENSE_COLLAGEN: (82, 9, 5),
}
ABOVE_MARROW = (Tissue.MODIC_1, Tissue.MODIC_2, Tissue.OEDEMA, Tissue.HAEMANGIOMA)
# trabecular bone of L1: some 200 HU in the young with 30 % fat, below 110 in osteoporosis with 60 %
MARROW_WITHOUT_FAT_HU, MARROW_SLOPE_HU = 295.0, -310.0
MARROW_SD_HU = (22.0, 8.0)  # between patients of the same fat fraction, and between the vertebrae of one
BLASTIC_SHARE, BLASTIC_HU = 0.35, (620.0, 120.0, 60.0)


@dataclass(frozen=True, slots=True)
class CtGrid:
    """Where the slices of a CT lie: counts and spacings of (slices, rows, columns), and (x, y, z) of the middle.

    Sagittal slices run to the left, their rows to the feet and their columns to the back; axial slices run to the head,
    their rows to the back and their columns to the left.
    """

    plane: Literal["sagittal", "axial"]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit vectors of slices, rows and columns in LPS, as the columns of a matrix."""
        if self.plane == "sagittal":
            return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
        return np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """(x, y, z) of the first voxel."""
        half = 0.5 * (np.array(self.shape) - 1.0) * np.array(self.spacing_mm)
        x, y, z = np.array(self.centre_mm) - self.direction @ half
        return float(x), float(y), float(z)

    def along_mm(self, axis: int, points: int = 1) -> NDArray[np.float64]:
        """The coordinate that changes along `axis`, at `points` points a voxel."""
        step = self.direction[:, axis] * self.spacing_mm[axis]
        offsets = (np.arange(self.shape[axis] * points) + 0.5) / points - 0.5 * self.shape[axis]
        which = int(np.flatnonzero(step)[0])
        return np.asarray(self.centre_mm[which] + step[which] * offsets, dtype=np.float64)


def hounsfield_of(patient: SpinePatient) -> tuple[Plane, Plane, Plane]:
    """(HU without fat, HU per unit of fat fraction, SD of the texture) of each compartment; the same for a seed."""
    rng = np.random.default_rng([patient.seed, 41])
    means, textures = {}, {}
    for tissue, (mean, spread, texture) in HOUNSFIELD.items():
        means[tissue], textures[tissue] = mean + spread * float(rng.standard_normal()), texture
    if rng.random() < BLASTIC_SHARE:
        mean, spread, texture = BLASTIC_HU
        means[Tissue.METASTASIS], textures[Tissue.METASTASIS] = mean + spread * float(rng.standard_normal()), texture
    bone = MARROW_WITHOUT_FAT_HU + MARROW_SD_HU[0] * float(rng.standard_normal())
    vertebrae = MARROW_SD_HU[1] * rng.standard_normal(len(patient.compartments))
    fat = np.array([row.fat_fraction for row in patient.compartments])
    marrow = patient.tissues == Tissue.MARROW
    base = np.array([means[Tissue(tissue)] for tissue in patient.tissues])
    base[np.isin(patient.tissues, ABOVE_MARROW)] += bone + MARROW_SLOPE_HU * float(fat[marrow].mean())
    base[marrow] = bone + vertebrae[marrow]
    slope = np.where(marrow, MARROW_SLOPE_HU, 0.0)
    fine = np.array([textures[Tissue(tissue)] for tissue in patient.tissues])
    return base.astype(np.float32), slope.astype(np.float32), fine.astype(np.float32)


def spine_hu(patient: SpinePatient, points: Labels, fine: Plane | None = None) -> Plane:
    """HU under each of `points`, the compartments that `slice_anatomy` or `paint_slice` gave; float32, same shape.

    `fine` is the texture at the points: the one that raises the fat of marrow in MR lowers its HU here.
    """
    base, slope, texture = hounsfield_of(patient)
    fat = np.array([row.fat_fraction for row in patient.compartments], dtype=np.float32)
    if fine is None:
        level = np.clip(base + slope * fat, *STORED_HU)
        return np.asarray(level[points], dtype=np.float32)
    varied = np.array([row.texture for row in patient.compartments], dtype=np.float32)
    fat_here = np.clip(fat[points] + varied[points] * fine, 0.0, 1.0)
    return np.asarray(np.clip(base[points] + slope[points] * fat_here + texture[points] * fine, *STORED_HU), np.float32)


def in_pixels(hu: Plane) -> Plane:
    """The mean of the OVERSAMPLING x OVERSAMPLING points of each pixel."""
    rows, columns = (size // OVERSAMPLING for size in hu.shape)
    return np.asarray(hu.reshape(rows, OVERSAMPLING, columns, OVERSAMPLING).mean(axis=(1, 3)), dtype=np.float32)


def counting_texture(
    shape: tuple[int, int], spacing_mm: float, sd_hu: float, rng: np.random.Generator, kernel: Kernel = SOFT
) -> Plane:
    """Noise with the spectrum of filtered back-projection: white noise times the root of f and times the kernel.

    The shape of `tomography.noise_power` without its projections: the same in all directions and everywhere.
    """
    if not sd_hu:
        return np.zeros(shape, dtype=np.float32)
    frequency = np.hypot(np.fft.fftfreq(shape[0], spacing_mm)[:, None], np.fft.rfftfreq(shape[1], spacing_mm)[None, :])
    share = np.sqrt(frequency) * kernel.window(frequency)
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * share, s=shape)
    return np.asarray(noise * (sd_hu / noise.std()), dtype=np.float32)


def scan_spine(patient: SpinePatient, grid: CtGrid, noise_hu: float = 0.0, kernel: Kernel = SOFT) -> Volume:
    """The CT of `patient` on `grid`, in HU, with noise of the SD `noise_hu`.

    About 60 ms for every sagittal plane of 256 x 256 voxels; axial slices are cut from a plane for each column.
    Beside the column the trunk is an extrusion of its middle, closed by a rounded flank: right for a projection or a
    view of the spine, no anatomy of the flanks.
    """
    sagittal = grid.plane == "sagittal"
    x_axis, y_axis, z_axis = (0, 2, 1) if sagittal else (2, 1, 0)
    y_mm, z_mm = grid.along_mm(y_axis, OVERSAMPLING), grid.along_mm(z_axis, OVERSAMPLING)
    quarters = np.array([[-0.375, 0.125], [0.375, -0.125]], dtype=np.float32) * np.float32(grid.spacing_mm[x_axis])
    depth = np.tile(quarters, (len(z_mm) // OVERSAMPLING, len(y_mm) // OVERSAMPLING))
    planes = []
    for x_mm in grid.along_mm(x_axis):
        points = paint_slice(patient, np.float32(x_mm) + depth, y_mm, z_mm)
        hu = spine_hu(patient, points, _texture_at(patient, float(x_mm), y_mm, z_mm))
        planes.append(in_pixels(_flank(patient, hu, abs(float(x_mm)), y_mm, z_mm)))
    voxels = np.stack(planes) if sagittal else np.stack(planes, axis=2)
    rng = np.random.default_rng([patient.seed, 43])
    for one in voxels:
        one += counting_texture(one.shape, grid.spacing_mm[1], noise_hu, rng, kernel)
    voxels = np.clip(voxels, *STORED_HU).astype(np.float32)
    return Volume(voxels, grid.spacing_mm, grid.origin_mm, grid.direction, "HU")


def _texture_at(patient: SpinePatient, x_mm: float, y_mm: NDArray[np.float64], z_mm: NDArray[np.float64]) -> Plane:
    """The fine texture at the points of a sagittal plane; planes 1.5 mm apart resemble each other no more."""
    here = np.ix_(*(np.round(along / FIELD_STEP_MM).astype(np.intp) % FIELD_SIZE for along in (z_mm, y_mm)))
    turn = np.float32(x_mm / 1.5)
    fine = np.cos(turn) * patient.fields[4][here] + np.sin(turn) * patient.fields[5][here]
    return np.asarray(fine + np.float32(0.6) * patient.fields[2][here], dtype=np.float32)


def _flank(
    patient: SpinePatient, hu: Plane, lateral_mm: float, y_mm: NDArray[np.float64], z_mm: NDArray[np.float64]
) -> Plane:
    """`hu` of the plane at |x| = `lateral_mm` with air outside the rounded trunk and fat along its rim."""
    front, back = (np.interp(z_mm, CURVE_Z_MM, getattr(patient.body, side)) for side in ("front_skin", "skin"))
    half_depth = 0.5 * (back - front)
    half_width = 1.35 * float(half_depth.mean())
    aside = max(lateral_mm - 40.0, 0.0) / (half_width - 40.0)  # as far as any sagittal MR series reaches, nothing
    if not aside:
        return hu
    level = (np.abs(y_mm[None, :] - 0.5 * (front + back)[:, None]) / half_depth[:, None]) ** 2.5 + aside**2.5
    fat_mm = patient.body.front_fat_mm
    rim = (1.0 - fat_mm / half_width) ** 2.5
    fat = HOUNSFIELD[Tissue.SUBCUTANEOUS_FAT][0]
    return np.asarray(np.where(level > 1.0, AIR_HU, np.where(level > rim, fat, hu)), dtype=np.float32)
