"""The images of a task's patients: what goes in, and what the scanner would have shown instead of what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pipelines.phantoms.acquisition import Prescription, Scanner, acquire, draw_prescription, draw_scanner
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.sequences import DRAWN
from pipelines.studies.galbusera.cohort import Task, patient
from pipelines.volume import Volume

REFERENCE = 1000.0  # of the brighter of CSF and fat at the canal, in every target
FULL_SCALE = 1250.0  # the end of the result's scale, as the recipes of all translations have it
REDUCED = 128  # rows and columns of what super-resolution starts from


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One patient in one task.

    source  integers below 4096 in a float32 volume, as a series brings them
    target  from 0 to about `FULL_SCALE`, on the scale of the result, so that nothing is fitted to it
    """

    seed: int
    patient: SpinePatient
    source: Volume
    target: Volume


def scan(task: Task, seed: int) -> Case:
    """The case of patient `seed`: both series of one visit, the same scanner and the same place, no motion between."""
    person, prescription, scanner = _visit(seed)
    prescription = replace(prescription, slices=task.slices, matrix=task.matrix)
    scale = REFERENCE / scanner.full_scale
    target = _series(seed, task.target, prescription)
    on_scale = target.with_voxels(np.asarray(target.voxels * np.float32(scale), dtype=np.float32))
    if task.source == task.target:
        return Case(seed, person, reduced(target), on_scale)
    return Case(seed, person, _series(seed, task.source, prescription), on_scale)


@lru_cache(maxsize=2)
def _visit(seed: int) -> tuple[SpinePatient, Prescription, Scanner]:
    rng = np.random.default_rng([seed, 7])
    return patient(seed), draw_prescription(rng), draw_scanner(rng)


@lru_cache(maxsize=8)
def _series(seed: int, contrast: str, prescription: Prescription) -> Volume:
    """A series of one patient; T2W is the same one in every task that asks for it with the same slices."""
    person, _, scanner = _visit(seed)
    rng = np.random.default_rng([seed, 31, *contrast.encode()])
    return acquire(person, DRAWN[contrast](rng, person.fat.t1_ms), prescription, scanner)


def reduced(target: Volume) -> Volume:
    raise NotImplementedError
