"""Pairs of a lateral radiograph and the midsagittal MR slice of the same patient, registered on L5 as the paper did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines import intensity
from pipelines.intensity import Array
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
from pipelines.phantoms.radiograph import Exposure, Projection, draw_exposure, expose, on_slice, project
from pipelines.phantoms.sequences import DRAWN
from pipelines.training.bank import MATRIX, TEXTURES, another_day, lesions, target_map, windowed
from pipelines.training.recipe import IntensityScales, TranslationRecipe
from pipelines.training.visits import Visit, shifted_patient

SUMS = 128  # side of a projection
MARKING_MM = 1.0  # SD with which the corners of L5 are marked


@dataclass(frozen=True, slots=True, eq=False)
class RadiographBank:
    """The training patients: attenuation summed through each (patients, SUMS, SUMS), and the painted middle slice.

    points is uint8 (patients, 2 MATRIX, 2 MATRIX)
    """

    sums: NDArray[np.float32]
    points: NDArray[np.uint8]
    patients: tuple[SpinePatient, ...]
    prescriptions: tuple[Prescription, ...]
    textures: NDArray[np.float32]

    def pair(
        self, rng: np.random.Generator, crop: int, target: str, scales: IntensityScales
    ) -> tuple[Array, Array, Array]:
        """(real_a, real_b) of one patient in [-1, 1]: float32 (1, crop, crop) and (crop, crop); 1 where a lesion is.

        Every draw is another day: posture, exposure, marking of L5, sequence timing, tissue constants and scanner.
        """
        index = int(rng.integers(len(self.patients)))
        patient, prescription = another_day(self.patients[index], rng), self.prescriptions[index]
        texture = np.roll(self.textures[int(rng.integers(TEXTURES))], rng.integers(0, FIELD_SIZE, 2), axis=(0, 1))
        scanner = draw_scanner(rng)
        anatomy = SliceAnatomy(
            points=self.points[index],
            fine=texture,
            bias=receive_bias(patient, prescription, scanner),
        )
        projection = Projection(patient, self.sums[index])
        source = registered(projection, draw_exposure(rng), prescription, rng)
        signal = slice_signal(patient, anatomy, DRAWN[target](rng, patient.fat.t1_ms), scanner, rng)
        real_a = windowed(source, scales.percentiles, scales.jitter, rng)
        real_b = target_map(scales).to_unit(signal * np.float32(scales.reference))
        top, left = (int(place) for place in rng.integers(0, MATRIX - crop + 1, 2))
        here = (slice(top, top + crop), slice(left, left + crop))
        return real_a[here][None], real_b[here], lesions(patient, anatomy)[here]


def registered(
    projection: Projection, exposure: Exposure, prescription: Prescription, rng: np.random.Generator
) -> Array:
    """The radiograph on the pixels of the MR slice, (rows, columns)."""
    return on_slice(expose(projection, exposure, rng), projection.patient, prescription, MARKING_MM, rng)


def build_radiograph_bank(recipe: TranslationRecipe, folder: Path) -> RadiographBank:
    """The bank of `recipe`, made at the first call and kept in `folder` for the next; about 0.7 s a patient."""
    sets = recipe.phantoms
    seeds = range(sets.train_first_seed, sets.train_first_seed + sets.train_patients)
    patients = [virtual_patient(seed, sets.lesion_rate) for seed in seeds]
    prescriptions = tuple(draw_prescription(np.random.default_rng([seed, 7]), 1) for seed in seeds)
    path = folder / f"radiographs-{seeds.start}-{len(seeds)}-{SUMS}-{sets.lesion_rate}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        points = [slice_anatomy(*each, Scanner(), 0).points for each in zip(patients, prescriptions, strict=True)]
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, sums=[project(patient, SUMS).sums for patient in patients], points=points)
        partial.rename(path)
    kept = np.load(path)
    textures = [patient.fields[4] + 0.6 * patient.fields[2] for patient in patients[:TEXTURES]]
    return RadiographBank(
        sums=kept["sums"],
        points=kept["points"],
        patients=tuple(replace(patient, fields=patient.fields[:, :1, :1].copy()) for patient in patients),
        prescriptions=prescriptions,
        textures=np.stack([textures[number % len(textures)] for number in range(TEXTURES)]),
    )


def radiograph_visit(seed: int, recipe: TranslationRecipe, lesion_rate: float = 1.0) -> Visit:
    """Radiograph and middle slice of the virtual patient `seed`, drawn from the same ranges as in training."""
    rng = np.random.default_rng([seed, 7])
    patient = virtual_patient(seed, lesion_rate)
    return _pair_of(patient, draw_prescription(rng, 1), draw_scanner(rng), draw_exposure(rng), recipe, rng)


def shifted_radiograph_visit(seed: int, recipe: TranslationRecipe) -> Visit:
    """The same seeds where training never was: MR as `shifted_patient`, more bent, and the radiograph underexposed."""
    rng = np.random.default_rng([seed, 17])
    patient, scanner = shifted_patient(seed, rng)
    prescription, exposure = draw_prescription(rng, 1), draw_exposure(rng)
    exposure = replace(
        exposure,
        lordosis_deg=float(np.sign(exposure.lordosis_deg) * rng.uniform(20, 25)),
        photons=float(rng.uniform(2e5, 5e5)),
        scatter=float(rng.uniform(1.0, 1.5)),
    )
    return _pair_of(patient, prescription, scanner, exposure, recipe, rng)


def _pair_of(
    patient: SpinePatient,
    prescription: Prescription,
    scanner: Scanner,
    exposure: Exposure,
    recipe: TranslationRecipe,
    rng: np.random.Generator,
) -> Visit:
    """A visit of one slice whose source is the radiograph."""
    anatomy, scales = slice_anatomy(patient, prescription, scanner, 0), recipe.intensity
    sequence = DRAWN[recipe.contrasts.target](rng, patient.fat.t1_ms)
    signal = slice_signal(patient, anatomy, sequence, scanner, rng)
    source = registered(project(patient, SUMS), exposure, prescription, rng)
    return Visit(
        patient=patient,
        prescription=prescription,
        real_a=intensity.fit(source, scales.percentiles).to_unit(source)[None, None],
        real_b=target_map(scales).to_unit(signal * np.float32(scales.reference))[None],
        tissues=patient.tissues[anatomy.points[::OVERSAMPLING, ::OVERSAMPLING]][None],
    )


def validation_radiographs(recipe: TranslationRecipe) -> Iterator[tuple[Array, Array]]:
    """Pairs of patients that training never sees."""
    sets = recipe.phantoms
    for seed in range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients):
        one = radiograph_visit(seed, recipe)
        yield one.real_a[0], one.real_b[0]
