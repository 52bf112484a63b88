"""Whole series of virtual patients, as a scanner would send them: what validation and evaluation work on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines import intensity
from pipelines.intensity import Array
from pipelines.phantoms.acquisition import (
    OVERSAMPLING,
    Prescription,
    Scanner,
    draw_prescription,
    draw_scanner,
    slice_anatomy,
    slice_signal,
)
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.sequences import Sequence, null_ti_ms
from pipelines.phantoms.tissues import FatCompartment
from pipelines.training.bank import SLICES, patient_moved, protocols, target_map
from pipelines.training.recipe import IntensityScales, TranslationRecipe


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """The series of one patient in [-1, 1] and what was there.

    real_a  (slices, sources, rows, columns); real_b and tissues  (slices, rows, columns)
    """

    patient: SpinePatient
    prescription: Prescription
    real_a: Array
    real_b: Array
    tissues: NDArray[np.uint8]


def visit(seed: int, recipe: TranslationRecipe, slices: int = SLICES, lesion_rate: float = 1.0) -> Visit:
    """The visit of the virtual patient `seed`: sequences and scanner drawn from the same ranges as in training."""
    rng = np.random.default_rng([seed, 7])
    patient = virtual_patient(seed, lesion_rate)
    prescription, scanner = draw_prescription(rng, slices), draw_scanner(rng)
    sequences = protocols(recipe.contrasts, rng, patient.fat.t1_ms)
    return scan(patient, prescription, scanner, sequences, recipe.intensity)


def shifted_visit(seed: int, recipe: TranslationRecipe) -> Visit:
    """The same seeds where training never was: see `shifted_patient`; TI follows the fat."""
    rng = np.random.default_rng([seed, 17])
    patient, scanner = shifted_patient(seed, rng)
    sequences = [
        sequence if sequence.ti_ms is None else replace(sequence, ti_ms=null_ti_ms(patient.fat.t1_ms, sequence.tr_ms))
        for sequence in protocols(recipe.contrasts, rng, patient.fat.t1_ms)
    ]
    return scan(patient, draw_prescription(rng, SLICES), scanner, sequences, recipe.intensity)


def shifted_patient(seed: int, rng: np.random.Generator) -> tuple[SpinePatient, Scanner]:
    """A patient and a scanner as training never sees them: 3 T, another coil, more noise, five times as many lesions.

    At 3 T, T1 is 1.2 times and T2 0.95 times that at 1.5 T (de Bazelaire et al. 2004).
    """
    patient = virtual_patient(seed, lesion_rate=5.0)
    rows = tuple(replace(row, t1_ms=1.2 * row.t1_ms, t2_ms=0.95 * row.t2_ms) for row in patient.compartments)
    fat = FatCompartment(1.2 * patient.fat.t1_ms, 0.95 * patient.fat.t2_ms)
    patient = replace(patient, compartments=rows, fat=fat)
    scanner = replace(
        draw_scanner(rng),
        snr=float(rng.uniform(9, 14)),
        coil_mm=float(rng.uniform(35, 48)),
        coil_strength=1.0,
        shading=(float(rng.normal(0.3, 0.1)), float(rng.normal(0, 0.2)), float(rng.normal(0, 0.15))),
    )
    return patient, scanner


def scan(
    patient: SpinePatient,
    prescription: Prescription,
    scanner: Scanner,
    sequences: Collection[Sequence],
    scales: IntensityScales,
) -> Visit:
    """All series of a visit, the target last; each source is scaled by its own series, as when a series comes in."""
    rng = np.random.default_rng([patient.seed, 9])
    series: list[list[Array]] = [[] for _ in sequences]
    tissues = []
    for index in range(prescription.slices):
        anatomy = slice_anatomy(patient, prescription, scanner, index)
        seen = [*patient_moved(anatomy, len(series) - 1, rng), anatomy]
        for slices, sequence, here in zip(series, sequences, seen, strict=True):
            slices.append(slice_signal(patient, here, sequence, scanner, rng))
        tissues.append(patient.tissues[anatomy.points[::OVERSAMPLING, ::OVERSAMPLING]])
    *sources, target = (np.stack(slices) for slices in series)
    return Visit(
        patient=patient,
        prescription=prescription,
        real_a=np.stack([intensity.fit(each, scales.percentiles).to_unit(each) for each in sources], axis=1),
        real_b=target_map(scales).to_unit(target * np.float32(scales.reference)),
        tissues=np.stack(tissues),
    )
