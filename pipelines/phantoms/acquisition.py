"""What a scanner makes of a virtual patient: the slices of a sagittal series with coil, noise and finite resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.phantoms.motion import STILL, Motion, PhaseAxis, draw_course, moving_kspace
from pipelines.phantoms.painting import Labels, Plane, paint_slice
from pipelines.phantoms.patient import CURVE_Z_MM, FIELD_SIZE, FIELD_STEP_MM, Curve, SpinePatient
from pipelines.phantoms.sequences import Sequence
from pipelines.phantoms.tissues import FAT_PROTON_DENSITY, Tissue
from pipelines.volume import Volume

OVERSAMPLING = 2  # label points per pixel along each axis; each also stands at another depth of the slice


@dataclass(frozen=True, slots=True)
class Prescription:
    """Where the slices lie. The field of view is square; `centre_mm` is (x, y, z) of its middle."""

    slices: int = 17
    matrix: int = 256
    fov_mm: float = 280.0
    thickness_mm: float = 4.0
    gap_mm: float = 0.4
    centre_mm: tuple[float, float, float] = (0.0, 0.0, -10.0)

    @property
    def spacing_mm(self) -> float:
        """Between pixels in the plane."""
        return self.fov_mm / self.matrix

    def x_mm(self, index: int) -> float:
        """Centre of slice `index`, the first at the patient's right."""
        return self.centre_mm[0] + (index - 0.5 * (self.slices - 1)) * (self.thickness_mm + self.gap_mm)

    def axes_mm(self, oversampling: int = 1) -> tuple[Curve, Curve]:
        """(y of each column, z of each row), at `oversampling` points a pixel; rows run to the feet."""
        size = self.matrix * oversampling
        offsets = (np.arange(size) - 0.5 * (size - 1)) * (self.spacing_mm / oversampling)
        return np.asarray(self.centre_mm[1] + offsets), np.asarray(self.centre_mm[2] - offsets)


@dataclass(frozen=True, slots=True)
class Scanner:
    """How the receiver sees the patient. The same for both series of a visit, but for the noise."""

    snr: float = 40.0  # of muscle in a spin echo of short echo time, at the canal
    coil_mm: float = 80.0  # depth at which the surface coil has lost half its sensitivity
    coil_strength: float = 0.7  # 0 corrected away by the scanner, 1 raw
    shading: tuple[float, float, float] = (0.0, 0.0, 0.0)  # slow exponential shading along z, y and yz
    saturation: float = 1.0  # what a ventral saturation band leaves of the signal
    saturation_gap_mm: float = 18.0  # from the front of the vertebrae
    coverage: tuple[float, float] = (0.9, 0.85)  # share of k-space acquired along rows and columns
    chemical_shift_px: float = 0.5  # of fat along the axis of frequency encoding
    full_scale: float = 1800.0  # integer that the brighter of fluid and fat gets at the canal
    phase_axis: PhaseAxis = "AP"  # the hard case: ghosts of the belly cross the spine, the saturation band is for that
    motion: Motion = STILL  # each series of a visit has its own course of it


def draw_prescription(rng: np.random.Generator, slices: int = 17) -> Prescription:
    """A prescription as technologists place it: field of view 240-330 mm, centred with some carelessness."""
    return Prescription(
        slices=slices,
        fov_mm=float(rng.uniform(235, 335)),
        thickness_mm=float(rng.uniform(3.0, 5.0)),
        gap_mm=float(rng.uniform(0.2, 0.8)),
        centre_mm=(float(rng.normal(0, 2)), float(rng.normal(-5, 14)), float(rng.normal(-8, 22))),
    )


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """A scanner and its settings; half of them put a saturation band over the belly."""
    return Scanner(
        snr=float(np.exp(rng.uniform(np.log(12), np.log(60)))),
        coil_mm=float(rng.uniform(50, 130)),
        coil_strength=float(rng.uniform(0.1, 1.0)),
        shading=(float(rng.normal(0, 0.25)), float(rng.normal(0, 0.25)), float(rng.normal(0, 0.2))),
        saturation=float(rng.uniform(0.03, 0.35)) if rng.random() < 0.5 else 1.0,
        saturation_gap_mm=float(rng.uniform(4, 45)),
        coverage=(float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.65, 1.0))),
        chemical_shift_px=float(rng.uniform(-1.2, 1.2)),
        full_scale=float(rng.uniform(250, 3000)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class SliceAnatomy:
    """A slice before any sequence has seen it; everything that the contrasts of one visit share.

    points  compartments, uint8 (2 matrix, 2 matrix)
    fine    texture at the points
    bias    receive sensitivity, float32 (matrix, matrix), 1 at the canal
    """

    points: Labels
    fine: Plane
    bias: Plane


def slice_anatomy(patient: SpinePatient, prescription: Prescription, scanner: Scanner, index: int) -> SliceAnatomy:
    """The anatomy under slice `index`: four points a pixel, each at another quarter of the slice's thickness."""
    y_mm, z_mm = prescription.axes_mm(OVERSAMPLING)
    quarters = np.array([[-0.375, 0.125], [0.375, -0.125]], dtype=np.float32) * np.float32(prescription.thickness_mm)
    x = np.float32(prescription.x_mm(index)) + np.tile(quarters, (prescription.matrix, prescription.matrix))
    points = paint_slice(patient, x, y_mm, z_mm)
    rows = np.round(z_mm / FIELD_STEP_MM).astype(np.intp) % FIELD_SIZE
    columns = np.round(y_mm / FIELD_STEP_MM).astype(np.intp) % FIELD_SIZE
    fine = patient.fields[4 + index % 2][np.ix_(rows, columns)] + 0.6 * patient.fields[2][np.ix_(rows, columns)]
    return SliceAnatomy(points, fine, receive_bias(patient, prescription, scanner))


def receive_bias(patient: SpinePatient, prescription: Prescription, scanner: Scanner) -> Plane:
    """Sensitivity of a surface coil under the back, slow shading and the saturation band: (matrix, matrix)."""
    y_mm, z_mm = prescription.axes_mm()
    skin = np.interp(z_mm, CURVE_Z_MM, patient.body.skin).mean() + 12.0
    wall = np.interp(z_mm, CURVE_Z_MM, patient.body.posterior_wall)
    depth = np.clip(skin - y_mm, 0.0, None)
    sensitivity = 1.0 / (1.0 + (depth / scanner.coil_mm) ** 2)
    canal = 1.0 / (1.0 + (max(skin - float(wall.mean()) - 8.0, 0.0) / scanner.coil_mm) ** 2)
    coil = (sensitivity / canal) ** scanner.coil_strength
    z, y = (z_mm - prescription.centre_mm[2]) / 120.0, (y_mm - prescription.centre_mm[1]) / 120.0
    a, b, c = scanner.shading
    slow = np.exp(a * z[:, None] ** 2 + b * y[None, :] + c * z[:, None])
    front = np.interp(z_mm, CURVE_Z_MM, patient.body.anterior_wall).mean() - scanner.saturation_gap_mm
    kept = 1.0 / (1.0 + np.exp(-(y_mm - front) / 5.0))
    band = scanner.saturation + (1.0 - scanner.saturation) * kept
    return np.asarray(coil[None, :] * slow * band[None, :], dtype=np.float32)


def _lookup(patient: SpinePatient, sequence: Sequence) -> tuple[Plane, Plane, Plane, float]:
    """Per compartment: signed signal of its water, its fat fraction, its texture; and the signal of pure fat."""
    rows = patient.compartments
    density = np.array([row.proton_density for row in rows])
    water = density * sequence.signal([row.t1_ms for row in rows], [row.t2_ms for row in rows])
    fat = FAT_PROTON_DENSITY * sequence.fat_left * float(sequence.signal(patient.fat.t1_ms, patient.fat.t2_ms))
    fraction, texture = (np.array([getattr(row, name) for row in rows]) for name in ("fat_fraction", "texture"))
    return water.astype(np.float32), fraction.astype(np.float32), texture.astype(np.float32), fat


def slice_signal(
    patient: SpinePatient,
    anatomy: SliceAnatomy,
    sequence: Sequence,
    scanner: Scanner,
    rng: np.random.Generator,
    prescription: Prescription | None = None,
) -> Plane:
    """Magnitude image of one slice, float32 (matrix, matrix); 1 is the brighter of CSF and pure fat at the canal.

    Water and fat are summed with their signs and the fat displaced by the chemical shift; complex noise is added in the
    image and cut off in k-space with the signal, so that it has the image's resolution; the magnitude is Rician.
    Motion draws nothing from `rng`: its course follows from the patient's seed and the sequence's name. It alone needs
    the prescription of the slice; raises ValueError without one.
    """
    water, fraction, texture, fat = _lookup(patient, sequence)
    points = anatomy.points
    fat_here = np.clip(fraction[points] + texture[points] * anatomy.fine, 0.0, 1.0)
    solid = 1.0 + 0.05 * anatomy.fine * (texture[points] > 0)
    matrix = points.shape[0] // OVERSAMPLING
    water_px = (water[points] * (1.0 - fat_here) * solid).reshape(matrix, 2, matrix, 2).mean(axis=(1, 3))
    fat_px = (np.float32(fat) * fat_here * (points != Tissue.AIR)).reshape(matrix, 2, matrix, 2).mean(axis=(1, 3))
    reference = max(abs(float(water[Tissue.CSF])), abs(fat))  # fluid on T2W and STIR, fat on T1W
    muscle = patient.compartments[Tissue.MUSCLE].proton_density * 0.55
    sigma = muscle / scanner.snr / reference / np.sqrt(float(np.prod(scanner.coverage)))
    noise = rng.standard_normal((2, matrix, matrix), dtype=np.float32) * np.float32(sigma)
    bias = anatomy.bias / np.float32(reference)
    frequency = np.fft.fftfreq(matrix).astype(np.float32)
    shift = np.exp(-2j * np.pi * frequency * scanner.chemical_shift_px).astype(np.complex64)
    shift = shift[:, None] if scanner.phase_axis == "AP" else shift[None, :]
    if scanner.motion.moves:
        tissue = np.stack([water_px, fat_px]) * bias
        water_k, fat_k = _seen_moving(tissue, patient, sequence, scanner, prescription)
        kspace = np.fft.fft2(noise[0] + 1j * noise[1]) + water_k + fat_k * shift
    else:
        kspace = np.fft.fft2(water_px * bias + noise[0] + 1j * noise[1])
        kspace += np.fft.fft2(fat_px * bias) * shift
    rows, columns = (_window(frequency, share) for share in scanner.coverage)
    return np.abs(np.fft.ifft2(kspace * rows[:, None] * columns[None, :])).astype(np.float32)


def _seen_moving(
    tissue: NDArray[np.float32],
    patient: SpinePatient,
    sequence: Sequence,
    scanner: Scanner,
    prescription: Prescription | None,
) -> NDArray[np.complex64]:
    """The k-space of `tissue` (compartments, rows, columns) while the patient moves as in this series."""
    if prescription is None:
        raise ValueError("motion: found no prescription, expected that of the slice, which says where the belly is")
    rng = np.random.default_rng([patient.seed, 10, *sequence.name.encode()])
    course = draw_course(scanner.motion, prescription.matrix, 1e-3 * sequence.tr_ms, rng)
    share = breathing_share(patient, prescription)
    return moving_kspace(tissue, share, course, prescription.spacing_mm, scanner.phase_axis)


def breathing_share(patient: SpinePatient, prescription: Prescription) -> Curve:
    """How much of the belly's movement each column takes part in: 1 at the front, 0 from the vertebrae on."""
    y_mm, z_mm = prescription.axes_mm()
    front, spine = (
        float(np.interp(z_mm, CURVE_Z_MM, curve).mean())
        for curve in (patient.body.front_skin, patient.body.anterior_wall)
    )
    return np.asarray(np.clip((spine - y_mm) / (spine - front), 0.0, 1.0))


def _window(frequency: Plane, share: float) -> Plane:
    """The acquired part of k-space along one axis, its edge rounded as reconstructions do against Gibbs ringing."""
    position = np.abs(frequency) / (0.5 * share)
    return np.clip((1.05 - position) / 0.15, 0.0, 1.0).astype(np.float32) ** 0.7


def draw_visit(patient: SpinePatient) -> tuple[Prescription, Scanner]:
    """The prescription and the scanner that the patient's seed draws, for all series of one visit."""
    rng = np.random.default_rng([patient.seed, 7])
    return draw_prescription(rng), draw_scanner(rng)


def acquire(
    patient: SpinePatient, sequence: Sequence, prescription: Prescription | None = None, scanner: Scanner | None = None
) -> Volume:
    """A sagittal series of `patient`: non-negative integers below 4096 in a float32 `Volume`, first slice at the right.

    Without a prescription or a scanner, the patient's seed draws one; it draws the same for every sequence, as in one
    visit. Rows run to the feet and columns to the back (Image Orientation (Patient) 0\\1\\0\\0\\0\\-1).
    """
    drawn_prescription, drawn_scanner = draw_visit(patient)
    prescription = drawn_prescription if prescription is None else prescription
    scanner = drawn_scanner if scanner is None else scanner
    noise = np.random.default_rng([patient.seed, 8, *sequence.name.encode()])
    slices = []
    for index in range(prescription.slices):
        anatomy = slice_anatomy(patient, prescription, scanner, index)
        slices.append(slice_signal(patient, anatomy, sequence, scanner, noise, prescription))
    voxels = np.clip(np.rint(np.stack(slices) * scanner.full_scale), 0, 4095).astype(np.float32)
    half = 0.5 * (prescription.matrix - 1) * prescription.spacing_mm
    _, y, z = prescription.centre_mm
    return Volume(
        voxels=voxels,
        spacing_mm=(prescription.thickness_mm + prescription.gap_mm, prescription.spacing_mm, prescription.spacing_mm),
        origin_mm=(prescription.x_mm(0), y - half, z + half),
        direction=np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
    )


def truth(patient: SpinePatient, prescription: Prescription | None = None) -> NDArray[np.uint8]:
    """The `Tissue` under the middle of each voxel of the series that `acquire` gives: uint8 (slices, rows, columns)."""
    visit = np.random.default_rng([patient.seed, 7])
    prescription = draw_prescription(visit) if prescription is None else prescription
    y_mm, z_mm = prescription.axes_mm()
    labels = [
        paint_slice(patient, np.full((1, 1), prescription.x_mm(index), dtype=np.float32), y_mm, z_mm)
        for index in range(prescription.slices)
    ]
    return patient.tissues[np.stack(labels)]
