"""The lateral radiograph of a patient of the spine phantom, who stands for it; and its registration to the MR on L5.

A parallel beam runs from right to left through the CT of the patient. Standing bends the trunk in the sagittal plane,
alike at every x, so that the projection of the bent patient is the bent projection of the lying one: it is summed once.
Magnification is that of the spine's distance from the detector; the two sides of a vertebra do not diverge.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.phantoms.acquisition import Prescription
from pipelines.phantoms.painting import Plane
from pipelines.phantoms.patient import SpinePatient, Vertebra
from pipelines.phantoms.spine_ct import CtGrid, scan_spine

Points = NDArray[np.float64]  # (n, 2): y to the back and z to the head, in mm

MU_WATER_PER_MM = 0.0195  # at about 65 keV, the mean of 85 kV behind a trunk
DENSE_GAIN = 1.35  # what lies above DENSE_HU attenuates more than its HU at 120 kV say: calcium absorbs
DENSE_HU = 100.0
MIDDLE_MM = (42.0, 4.0)  # half the width that is painted finely, and its step
FLANK_MM = (176.0, 16.0)  # how far the trunk may reach, and the step beside the middle
SUMMED_MM = 400.0  # side of the field that is summed, so that no bend leaves it
DETECTOR_MM = 330.0  # side of the detector
REACH_MM = (60.0, 20.0)  # below L5 and above L1 the trunk goes on straight
ELECTRONS = 12.0  # SD of the electronic noise, in photons
FLATTENED, FLATTENED_MM = 0.85, 20.0  # share of the slow course that the processing takes away: bone is to show


@dataclass(frozen=True, slots=True)
class Exposure:
    """How the patient stood, and how the picture was taken."""

    lordosis_deg: float = 14.0  # more between L1 and L5 than when lying
    turn_deg: float = 0.0  # of the whole trunk about L5, forwards
    centre_mm: tuple[float, float] = (-8.0, -8.0)  # y and z in the lying patient that the middle of the detector sees
    magnification: float = 1.22
    photons: float = 4e6  # a square millimetre of the detector without a patient
    scatter: float = 0.5  # share of the primary that reaches the detector behind the grid
    scatter_mm: float = 30.0
    blur_mm: float = 0.35  # of the focal spot and the detector together


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Attenuation summed from right to left through the lying patient: (rows, columns), natural logarithm."""

    patient: SpinePatient = field(repr=False)
    sums: Plane

    @property
    def spacing_mm(self) -> float:
        """Between the sums."""
        return SUMMED_MM / len(self.sums)


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """A lateral radiograph: rows run to the feet, columns to the back.

    pixels      minus the logarithm of the transmitted share, flattened for display; bone is bright; float32
    spacing_mm  on the detector
    corners_mm  (4, 2): those of L5 on the detector, mm to the right and upwards from its middle
    """

    pixels: Plane
    spacing_mm: float
    magnification: float
    corners_mm: Points


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """A radiograph as it is taken: lordosis 10 to 20 degrees more than when lying, in one of five as much less."""
    lordosis = float(rng.uniform(10, 20)) * (1.0 if rng.random() < 0.8 else -1.0)
    return Exposure(
        lordosis_deg=lordosis,
        turn_deg=0.5 * lordosis + float(rng.normal(0, 3)),
        centre_mm=(float(rng.normal(-8, 10)), float(rng.normal(-8, 14))),
        magnification=float(rng.uniform(1.15, 1.3)),
        photons=float(np.exp(rng.uniform(np.log(1e6), np.log(1e7)))),
        scatter=float(rng.uniform(0.25, 0.9)),
        scatter_mm=float(rng.uniform(20, 40)),
        blur_mm=float(rng.uniform(0.2, 0.5)),
    )


def project(patient: SpinePatient, matrix: int = 192) -> Projection:
    """The sums through the lying `patient`; about 30 planes of `matrix` x `matrix` voxels are painted for it."""
    spacing = SUMMED_MM / matrix
    sums = np.zeros((matrix, matrix), dtype=np.float32)
    middle, fine = MIDDLE_MM
    wide, coarse = FLANK_MM
    slabs = [(float(x_mm), fine, 1.0) for x_mm in np.arange(-middle + 0.5 * fine, middle, fine)]
    # both flanks are alike but for their texture: one is painted and counts twice
    slabs += [(float(x_mm), coarse, 2.0) for x_mm in np.arange(middle + 0.5 * coarse, wide, coarse)]
    for x_mm, thickness_mm, times in slabs:
        grid = CtGrid("sagittal", (1, matrix, matrix), (thickness_mm, spacing, spacing), (x_mm, 0.0, 0.0))
        sums += np.float32(thickness_mm * times) * attenuation_of(scan_spine(patient, grid).voxels[0])
    return Projection(patient, sums)


def attenuation_of(hu: Plane) -> Plane:
    """The linear attenuation coefficient in 1/mm at the mean energy of a lumbar radiograph."""
    dense = np.maximum(hu - DENSE_HU, 0.0) * (DENSE_GAIN - 1.0)
    return np.asarray(np.maximum(MU_WATER_PER_MM * (1.0 + (hu + dense) / 1000.0), 0.0), dtype=np.float32)


def expose(projection: Projection, exposure: Exposure, rng: np.random.Generator, matrix: int = 256) -> Radiograph:
    """The radiograph of the standing patient, whose `projection` was taken lying."""
    spacing = DETECTOR_MM / matrix
    right, up = _detector_axes(matrix, spacing)
    seen = np.stack(np.broadcast_arrays(right[None, :], up[:, None]), axis=-1).reshape(-1, 2)
    posture = _Posture.of(projection.patient, exposure)
    lying = posture.lying(posture.seen_at(seen))
    primary = np.exp(-_sampled(projection.sums, lying, projection.spacing_mm).reshape(matrix, matrix))
    scattered = exposure.scatter * _blurred(primary, exposure.scatter_mm / spacing)
    arrived = _blurred(primary + scattered, exposure.blur_mm / spacing) / (1.0 + exposure.scatter)
    photons = exposure.photons * spacing**2
    counted = rng.poisson(np.maximum(arrived, 0.0) * photons) + ELECTRONS * rng.standard_normal(arrived.shape)
    logarithm = -np.log(np.maximum(counted, 1.0) / photons)
    slow = _blurred(logarithm, FLATTENED_MM / spacing)
    return Radiograph(
        pixels=np.asarray(logarithm - FLATTENED * slow, dtype=np.float32),
        spacing_mm=spacing,
        magnification=exposure.magnification,
        corners_mm=posture.shown_at(posture.standing(corners(lowest_lumbar(projection.patient)))),
    )


def on_slice(
    radiograph: Radiograph, patient: SpinePatient, prescription: Prescription, error_mm: float, rng: np.random.Generator
) -> Plane:
    """`radiograph` on the pixels of the sagittal MR slices of `prescription`, moved rigidly so that L5 lies on L5.

    The four corners of L5 are marked in both with `error_mm` (SD) of carelessness, as a reader marks them (Galbusera et
    al. 2018); the magnification is known. Beyond the detector stands its darkest value.
    """
    target = corners(lowest_lumbar(patient)) + rng.normal(0.0, error_mm, (4, 2))
    marked = radiograph.corners_mm / radiograph.magnification + rng.normal(0.0, error_mm, (4, 2))
    rotation, shift = rigid(target, marked)
    y_mm, z_mm = prescription.axes_mm()
    places = np.stack(np.broadcast_arrays(y_mm[None, :], z_mm[:, None]), axis=-1).reshape(-1, 2)
    on_detector = (places @ rotation.T + shift) * radiograph.magnification
    darkest = float(radiograph.pixels.min())
    moved = _sampled(radiograph.pixels - darkest, on_detector, radiograph.spacing_mm) + darkest
    return np.asarray(moved.reshape(len(z_mm), len(y_mm)), dtype=np.float32)


def rigid(source: Points, target: Points) -> tuple[Points, Points]:
    """(rotation, shift) that bring `source` closest to `target` by least squares (Kabsch 1976), without a mirror."""
    middle, other = source.mean(axis=0), target.mean(axis=0)
    left, _, right = np.linalg.svd((target - other).T @ (source - middle))
    rotation = left @ np.diag([1.0, float(np.sign(np.linalg.det(left @ right)))]) @ right
    return rotation, other - rotation @ middle


def lowest_lumbar(patient: SpinePatient) -> Vertebra:
    """L5, or what stands in its place on the sacrum."""
    return next(vertebra for vertebra in patient.vertebrae if vertebra.name == patient.lumbar[0])


def corners(vertebra: Vertebra) -> Points:
    """(4, 2): the corners of a vertebral body in the median plane, (y, z) in mm."""
    cosine, sine = np.cos(vertebra.tilt_rad), np.sin(vertebra.tilt_rad)
    along, upwards = np.array([cosine, sine]), np.array([-sine, cosine])
    ends = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array(
        [
            np.array(vertebra.centre_mm) + u * vertebra.half_depth_mm * along + v * vertebra.half_height_mm * upwards
            for u, v in ends
        ]
    )


@dataclass(frozen=True, slots=True)
class _Posture:
    """The trunk bent about L5 as a beam is bent, then turned as a whole.

    Sections stay plane and turn with the axis; of their turn the first order is taken, which is 3 degrees off at 20.
    """

    pivot: Points
    bend_rad_per_mm: float
    top_mm: float
    exposure: Exposure

    @classmethod
    def of(cls, patient: SpinePatient, exposure: Exposure) -> _Posture:
        pivot = np.array(lowest_lumbar(patient).centre_mm)
        top = next(vertebra for vertebra in patient.vertebrae if vertebra.name == patient.lumbar[-1])
        height = top.centre_mm[1] - float(pivot[1])
        return cls(pivot, float(np.deg2rad(exposure.lordosis_deg)) / height, height, exposure)

    def lying(self, standing: Points) -> Points:
        """Where in the lying patient lies what stands at `standing`."""
        y, z = (standing - self.pivot).T
        within = np.clip(z, -REACH_MM[0], self.top_mm + REACH_MM[1])
        slope = self.bend_rad_per_mm * within
        back = slope * (z - 0.5 * within)  # the integral of the slope
        return np.stack([y - back, z + slope * (y - back)], axis=-1) + self.pivot

    def standing(self, lying: Points) -> Points:
        """The inverse of `lying`, by fixed-point iteration."""
        found = lying.copy()
        for _ in range(30):
            found = found + (lying - self.lying(found))
        return found

    def seen_at(self, detector: Points) -> Points:
        """What of the bent patient the detector shows at `detector`, turned back."""
        places = detector / self.exposure.magnification + np.array(self.exposure.centre_mm) - self.pivot
        return np.asarray(places @ self._turn() + self.pivot, dtype=np.float64)

    def shown_at(self, standing: Points) -> Points:
        """The inverse of `seen_at`."""
        turned = (standing - self.pivot) @ self._turn().T + self.pivot
        return np.asarray((turned - np.array(self.exposure.centre_mm)) * self.exposure.magnification)

    def _turn(self) -> Points:
        angle = np.deg2rad(self.exposure.turn_deg)
        turn: Points = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=np.float64)
        return turn


def _detector_axes(matrix: int, spacing_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mm to the right of each column, mm upwards of each row) from the middle."""
    offsets = (np.arange(matrix, dtype=np.float64) - 0.5 * (matrix - 1)) * spacing_mm
    return offsets, -offsets


def _sampled(image: Plane, places: Points, spacing_mm: float) -> Plane:
    """`image` at `places`, (right, up) of its middle in mm, linearly; 0 outside."""
    half = 0.5 * (len(image) - 1)
    rows, columns = half - places[:, 1] / spacing_mm, half + places[:, 0] / spacing_mm
    above, before = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    framed = np.pad(image, 1)  # 0 outside
    total = np.zeros(len(places))
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (rows - above)) * np.abs(1 - right - (columns - before))
            here = (np.clip(one + 1, 0, len(image) + 1) for one in (above + down, before + right))
            total += share * framed[tuple(here)]
    return np.asarray(total, dtype=np.float32)


def _blurred(image: NDArray[np.floating], sigma_px: float) -> NDArray[np.float64]:
    """`image` through a Gaussian; beyond its edges it goes on as it ends."""
    reach = int(np.ceil(3.0 * sigma_px))
    padded = np.pad(image.astype(np.float64), reach, mode="edge")
    along = np.exp(-2.0 * (np.pi * sigma_px * np.fft.fftfreq(len(padded))) ** 2)
    window = along[:, None] * along[None, : padded.shape[1] // 2 + 1]
    smooth = np.fft.irfft2(np.fft.rfft2(padded) * window, s=padded.shape)
    return np.asarray(smooth[reach : reach + len(image), reach : reach + len(image)])
