"""The images of a task's patients: what goes in, and what the scanner would have shown instead of what comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pipelines.degradation import degraded
from pipelines.intensity import Array
from pipelines.phantoms.acquisition import Prescription, Scanner, acquire, draw_prescription, draw_scanner
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.radiograph import draw_exposure, project
from pipelines.phantoms.sequences import DRAWN
from pipelines.studies.galbusera.cohort import Task, patient
from pipelines.training.radiograph_bank import SUMS, registered
from pipelines.volume import Volume

GAIN = 700.0  # of 4095 for CSF at the canal: scanners leave room for the fat under the coil
RADIOGRAPH = "X-ray"
DENSITY = 400.0  # integers to a step of e in what the detector received
FACTOR = 4  # by which super-resolution enlarges
FULL_SCALE = 1250.0  # the end of the scale of every result; what is brighter is shown white


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One patient in one task.

    source  integers below 4096 in a float32 volume, as a series brings them
    target  from 0 to `FULL_SCALE`, on the scale of the result, so that nothing is fitted to it
    scale   takes the scanner's integers to that scale
    """

    seed: int
    patient: SpinePatient
    source: Volume
    target: Volume
    scale: float


def scan(task: Task, seed: int) -> Case:
    """The case of patient `seed`: both series of one visit, the same scanner and the same place, no motion between.

    A radiograph is one of another day: the patient stands.
    """
    person, prescription, scanner = _visit(seed)
    prescription = replace(prescription, slices=task.slices, matrix=task.matrix)
    scale = task.reference / scanner.full_scale
    target = _series(seed, task.target, prescription)
    on_scale = target.with_voxels(shown(target.voxels, scale))
    if task.source == RADIOGRAPH:
        return Case(seed, person, _registered_radiograph(target, seed, prescription), on_scale, scale)
    if task.source == task.target:
        return Case(seed, person, reduced(target), on_scale, scale)
    return Case(seed, person, _series(seed, task.source, prescription), on_scale, scale)


def shown(voxels: Array, scale: float) -> Array:
    """A scanner's integers on the scale of the result, cut off at its ends."""
    return np.asarray(np.clip(voxels * np.float32(scale), 0.0, FULL_SCALE), dtype=np.float32)


@lru_cache(maxsize=2)
def _visit(seed: int) -> tuple[SpinePatient, Prescription, Scanner]:
    rng = np.random.default_rng([seed, 7])
    prescription, scanner = draw_prescription(rng), draw_scanner(rng)
    return patient(seed), prescription, replace(scanner, full_scale=GAIN)


@lru_cache(maxsize=8)
def _series(seed: int, contrast: str, prescription: Prescription) -> Volume:
    """A series of one patient; T2W is the same one in every task that asks for it with the same slices."""
    person, _, scanner = _visit(seed)
    rng = np.random.default_rng([seed, 31, *contrast.encode()])
    return acquire(person, DRAWN[contrast](rng, person.fat.t1_ms), prescription, scanner)


def reduced(volume: Volume) -> Volume:
    """A quarter of the rows and columns by linear down-sampling, edge to edge, as integers again."""
    coarse = np.stack([np.rint(degraded(one, FACTOR)) for one in volume.voxels])
    slices_mm, row_mm, column_mm = volume.spacing_mm
    shift = 0.5 * (FACTOR - 1) * (row_mm * volume.direction[:, 1] + column_mm * volume.direction[:, 2])
    x, y, z = np.asarray(volume.origin_mm) + shift
    return Volume(
        voxels=np.asarray(coarse, dtype=np.float32),
        spacing_mm=(slices_mm, FACTOR * row_mm, FACTOR * column_mm),
        origin_mm=(float(x), float(y), float(z)),
        direction=volume.direction,
    )


def _registered_radiograph(target: Volume, seed: int, prescription: Prescription) -> Volume:
    """The radiograph of the standing patient on the grid of the MR, registered on L5 by hand as in the paper."""
    rng = np.random.default_rng([seed, 37])
    person, _, _ = _visit(seed)
    pixels = registered(project(person, SUMS), draw_exposure(rng), prescription, rng)
    return target.with_voxels(np.clip(np.rint(pixels[None] * DENSITY), 0.0, 4095.0).astype(np.float32))
