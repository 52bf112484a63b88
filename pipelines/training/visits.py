"""Whole series of virtual patients, as a scanner would send them: what validation and evaluation work on."""

from __future__ import annotations

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
from pipelines.phantoms.sequences import Sequence, draw_stir, draw_t2w, null_ti_ms
from pipelines.phantoms.tissues import FatCompartment
from pipelines.training.bank import SLICES, target_map
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


def shifted_visit(seed: int, scales: IntensityScales) -> Visit:
    """The same seeds where training never was: 3 T, another coil, more noise, lesions five times as often.

    At 3 T, T1 is 1.2 times and T2 0.95 times that at 1.5 T (de Bazelaire et al. 2004); TI follows the fat.
    """
    rng = np.random.default_rng([seed, 17])
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
    t2w, stir = draw_t2w(rng), draw_stir(rng, patient.fat.t1_ms)
    stir = replace(stir, ti_ms=null_ti_ms(patient.fat.t1_ms, stir.tr_ms))
    return scan(patient, draw_prescription(rng, SLICES), scanner, (t2w, stir), scales)


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
