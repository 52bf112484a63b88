"""Whole series of virtual patients, as a scanner would send them: what validation and evaluation work on."""

from __future__ import annotations

from dataclasses import dataclass

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
from pipelines.phantoms.anatomy import SpinePatient, virtual_patient
from pipelines.phantoms.sequences import Sequence, draw_stir, draw_t2w
from pipelines.training.bank import MATRIX, SLICES, target_map
from pipelines.training.recipe import IntensityScales


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """A T2W series and the STIR of the same patient, both (slices, rows, columns) in [-1, 1], and what was there."""

    patient: SpinePatient
    prescription: Prescription
    real_a: Array
    real_b: Array
    tissues: NDArray[np.uint8]


def visit(seed: int, scales: IntensityScales, slices: int = SLICES, lesion_rate: float = 1.0) -> Visit:
    """The visit of the virtual patient `seed`: sequences and scanner drawn from the same ranges as in training."""
    rng = np.random.default_rng([seed, 7])
    patient = virtual_patient(seed, lesion_rate)
    prescription, scanner = draw_prescription(rng, slices), draw_scanner(rng)
    return scan(patient, prescription, scanner, (draw_t2w(rng), draw_stir(rng, patient.fat.t1_ms)), scales)


def scan(
    patient: SpinePatient,
    prescription: Prescription,
    scanner: Scanner,
    sequences: tuple[Sequence, Sequence],
    scales: IntensityScales,
) -> Visit:
    """Both series of a visit; the source is scaled by its own series, as it is when a series comes in."""
    rng = np.random.default_rng([patient.seed, 9])
    series: tuple[list[Array], list[Array]] = ([], [])
    tissues = []
    for index in range(prescription.slices):
        anatomy = slice_anatomy(patient, prescription, scanner, index)
        for slices, sequence in zip(series, sequences, strict=True):
            slices.append(slice_signal(patient, anatomy, sequence, scanner, rng))
        tissues.append(patient.tissues[anatomy.points[::OVERSAMPLING, ::OVERSAMPLING]])
    t2w, stir = (np.stack(slices) for slices in series)
    return Visit(
        patient=patient,
        prescription=prescription,
        real_a=intensity.fit(t2w, scales.percentiles).to_unit(t2w),
        real_b=target_map(scales).to_unit(stir * np.float32(scales.csf_intensity)),
        tissues=np.stack(tissues),
    )


__all__ = ["MATRIX", "Visit", "scan", "visit"]
