"""Training pairs from virtual patients: anatomy is painted once and kept, contrasts are made anew at each draw."""

from __future__ import annotations

from collections.abc import Sequence as Choice
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines import intensity
from pipelines.intensity import Array, IntensityMap
from pipelines.phantoms.acquisition import (
    OVERSAMPLING,
    Prescription,
    Scanner,
    SliceAnatomy,
    draw_prescription,
    draw_scanner,
    receive_bias,
    slice_anatomy,
    slice_signal,
)
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.patient import FIELD_SIZE, SpinePatient
from pipelines.phantoms.sequences import DRAWN, Sequence
from pipelines.phantoms.tissues import (
    FAT_T1_MS,
    FAT_T2_MS,
    PROPERTIES,
    ROOT_CSF_SHARE,
    FatCompartment,
    Tissue,
    mix,
    vary,
)
from pipelines.training.recipe import Contrasts, CycleRecipe, IntensityScales, TranslationRecipe

MATRIX = 256
SLICES = 17
TEXTURES = 8  # shared pool; each draw rolls one of them to a random place
LESIONS = (Tissue.MODIC_1, Tissue.MODIC_2, Tissue.MODIC_3, Tissue.OEDEMA, Tissue.HAEMANGIOMA, Tissue.METASTASIS)
MOTION_POINTS = 1.0  # SD along each axis, in points of the painted slice, OVERSAMPLING of them a pixel


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """The painted slices of the training patients: `points` is uint8 (slices, 2 MATRIX, 2 MATRIX)."""

    points: NDArray[np.uint8]
    patients: tuple[SpinePatient, ...]
    prescriptions: tuple[Prescription, ...]
    textures: NDArray[np.float32]
    slices_each: int

    def pair(
        self, rng: np.random.Generator, crop: int, contrasts: Contrasts, scales: IntensityScales
    ) -> tuple[Array, Array, Array]:
        """(real_a, real_b) of one visit in [-1, 1]: float32 (sources, crop, crop) and (crop, crop).

        Beside them 1 where a lesion is, 0 elsewhere.

        Every draw is another visit: sequence timing, tissue constants, scanner, coil, noise and window are drawn anew.
        The posture is varied too.
        No mirror image is ever drawn, since front and back are not interchangeable in a sagittal slice.
        """
        patient, anatomy, scanner = self.drawn(rng, crop)
        moved = patient_moved(anatomy, len(contrasts.sources), rng)
        sources = [
            slice_signal(patient, here, DRAWN[name](rng, patient.fat.t1_ms), scanner, rng)
            for name, here in zip(contrasts.sources, moved, strict=True)
        ]
        target = slice_signal(patient, anatomy, DRAWN[contrasts.target](rng, patient.fat.t1_ms), scanner, rng)
        real_a = np.stack([windowed(source, scales.percentiles, scales.jitter, rng) for source in sources])
        return real_a, target_map(scales).to_unit(target * np.float32(scales.reference)), lesions(patient, anatomy)

    def drawn(
        self, rng: np.random.Generator, crop: int, among: Choice[int] | None = None
    ) -> tuple[SpinePatient, SliceAnatomy, Scanner]:
        """One slice of one visit: tissue constants, posture and scanner drawn anew. `among` names patients by index."""
        if among is None:
            index = int(rng.integers(len(self.points)))
        else:
            index = among[int(rng.integers(len(among)))] * self.slices_each + int(rng.integers(self.slices_each))
        patient = another_day(self.patients[index // self.slices_each], rng)
        prescription, scanner = self.prescriptions[index // self.slices_each], draw_scanner(rng)
        bias = receive_bias(patient, prescription, scanner)
        rows, columns = _posture(rng, OVERSAMPLING * crop)
        texture = np.roll(self.textures[int(rng.integers(TEXTURES))], rng.integers(0, FIELD_SIZE, 2), axis=(0, 1))
        anatomy = SliceAnatomy(
            points=self.points[index][rows, columns],
            fine=texture[: len(rows), : len(rows)],
            bias=bias[rows[::OVERSAMPLING] // OVERSAMPLING, columns[::OVERSAMPLING, ::OVERSAMPLING] // OVERSAMPLING],
        )
        return patient, anatomy, scanner


def lesions(patient: SpinePatient, anatomy: SliceAnatomy) -> Array:
    """1 in the pixels of a lesion of the marrow, 0 elsewhere."""
    tissues = patient.tissues[anatomy.points[::OVERSAMPLING, ::OVERSAMPLING]]
    return np.isin(tissues, LESIONS).astype(np.float32)


def protocols(contrasts: Contrasts, rng: np.random.Generator, fat_t1_ms: float) -> tuple[Sequence, ...]:
    """The sequences of one visit: those of the sources, then that of the target."""
    return tuple(DRAWN[name](rng, fat_t1_ms) for name in (*contrasts.sources, contrasts.target))


def patient_moved(anatomy: SliceAnatomy, series: int, rng: np.random.Generator) -> list[SliceAnatomy]:
    """`anatomy` as each of `series` sees it: the last where the target lies, the others a little off.

    Between two series of a visit a patient moves by parts of a millimetre; here by half a pixel (SD) along each axis.
    """
    before = []
    for _ in range(series - 1):
        shift = tuple(int(step) for step in np.rint(rng.normal(0.0, MOTION_POINTS, 2)))
        points, fine = np.roll(anatomy.points, shift, axis=(0, 1)), np.roll(anatomy.fine, shift, axis=(0, 1))
        before.append(SliceAnatomy(points, fine, anatomy.bias))
    return [*before, anatomy]


def windowed(source: Array, percentiles: tuple[float, float], jitter: float, rng: np.random.Generator) -> Array:
    """One source slice in [-1, 1]; the upper end of its scale is jittered, since a crop is not a series."""
    scale = intensity.fit(source, percentiles)
    window = float(np.exp(jitter * rng.standard_normal()))
    return IntensityMap(scale.low, scale.low + (scale.high - scale.low) * window).to_unit(source)


def _posture(rng: np.random.Generator, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where to look for a crop of `size` points: rows (size, 1) and columns (size, size) of the painted slice.

    Stretches both axes by up to 15 %, leans the body and bends it forwards or backwards: more spines from each one.
    """
    whole = OVERSAMPLING * MATRIX
    stretch = rng.uniform(0.85, 1.15, 2)
    top, left = rng.uniform(0.0, 1.0, 2) * (whole - size * stretch)
    along = np.linspace(-1.0, 1.0, size)
    shift = rng.normal(0, 12) * along + rng.normal(0, 10) * (along**2 - 0.33)
    rows = top + stretch[0] * np.arange(size)
    columns = left + stretch[1] * np.arange(size)[None, :] + shift[:, None]
    rows, columns = (np.clip(np.rint(places), 0, whole - 1).astype(np.intp) for places in (rows, columns))
    return rows[:, None], columns


def target_map(scales: IntensityScales) -> IntensityMap:
    """The fixed scale of the result: no signal at -1, `full_scale` at 1."""
    return IntensityMap(0.0, scales.full_scale)


def another_day(patient: SpinePatient, rng: np.random.Generator) -> SpinePatient:
    """The same anatomy with tissue constants, marrow fat and fat compartment drawn anew."""
    more_fat = float(rng.normal(0, 0.06))
    rows = [vary(row, rng, 0.04) for row in patient.compartments]
    for index, tissue in enumerate(patient.tissues):
        if tissue == Tissue.MARROW:
            rows[index] = replace(
                rows[index], fat_fraction=float(np.clip(rows[index].fat_fraction + more_fat, 0.1, 0.9))
            )
    rows[Tissue.NERVE_ROOT] = mix(
        vary(PROPERTIES[Tissue.NERVE_ROOT], rng), rows[Tissue.CSF], float(rng.uniform(*ROOT_CSF_SHARE))
    )
    fat = FatCompartment(float(rng.uniform(*FAT_T1_MS)), float(rng.uniform(*FAT_T2_MS)))
    return replace(patient, compartments=tuple(rows), fat=fat)


def build_bank(recipe: TranslationRecipe | CycleRecipe, folder: Path) -> Bank:
    """The bank of `recipe`, painted at the first call and kept in `folder` for the next.

    About 70 ms a slice and 0.25 MiB each; the file's name holds what its content depends on.
    """
    sets = recipe.phantoms
    seeds = range(sets.train_first_seed, sets.train_first_seed + sets.train_patients)
    patients = [virtual_patient(seed, sets.lesion_rate) for seed in seeds]
    rngs = [np.random.default_rng([seed, 7]) for seed in seeds]
    prescriptions = tuple(draw_prescription(rng, SLICES) for rng in rngs)
    path = folder / f"points-{len(Tissue)}-{seeds.start}-{len(seeds)}-{sets.train_slices}-{sets.lesion_rate}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        shape = (len(seeds) * sets.train_slices, OVERSAMPLING * MATRIX, OVERSAMPLING * MATRIX)
        points = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        for number, (patient, prescription, rng) in enumerate(zip(patients, prescriptions, rngs, strict=True)):
            scanner = draw_scanner(rng)
            for offset, index in enumerate(rng.choice(SLICES, sets.train_slices, replace=False)):
                anatomy = slice_anatomy(patient, prescription, scanner, int(index))
                points[number * sets.train_slices + offset] = anatomy.points
        points.flush()
        partial.rename(path)
    textures = [patient.fields[4] + 0.6 * patient.fields[2] for patient in patients[:TEXTURES]]
    return Bank(
        points=np.load(path, mmap_mode="r"),
        patients=tuple(replace(patient, fields=patient.fields[:, :1, :1].copy()) for patient in patients),
        prescriptions=prescriptions,
        textures=np.stack([textures[number % len(textures)] for number in range(TEXTURES)]),
        slices_each=sets.train_slices,
    )
