"""MR and CT slices of virtual patients, of one or of two: what the training of MR to CT draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines import intensity
from pipelines.intensity import Array, IntensityMap
from pipelines.phantoms.acquisition import (
    OVERSAMPLING,
    Scanner,
    SliceAnatomy,
    draw_prescription,
    draw_scanner,
    slice_anatomy,
    slice_signal,
)
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.painting import Labels
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.sequences import DRAWN
from pipelines.phantoms.spine_ct import counting_texture, in_pixels, spine_hu
from pipelines.training.bank import SLICES, Bank, build_bank, windowed
from pipelines.training.recipe import CycleRecipe
from pipelines.training.trainer import Pair
from pipelines.training.visits import Visit, shifted_patient

MIXED = 255  # in the tissues of a visit: a pixel of more than one
NOISE_SPACING_MM = 1.1  # of the noise in training crops, whose own spacing varies around it


@dataclass(frozen=True, slots=True, eq=False)
class CtBank:
    """The painted slices of the training patients, dealt into two halves with as many lesions in each."""

    bank: Bank
    recipe: CycleRecipe
    halves: tuple[tuple[int, ...], tuple[int, ...]]

    def paired(self, rng: np.random.Generator) -> Pair:
        """(MR, CT) of one slice in [-1, 1]: float32 (1, crop, crop) and (crop, crop)."""
        patient, anatomy, mr = self._mr(rng, range(len(self.bank.patients)))
        return mr, self._ct(rng, patient, anatomy)

    def unpaired(self, rng: np.random.Generator) -> Pair:
        """The same of two patients, one from each half."""
        _, _, mr = self._mr(rng, self.halves[0])
        patient, anatomy, _ = self.bank.drawn(rng, self.recipe.phantoms.crop, self.halves[1])
        return mr, self._ct(rng, patient, anatomy)

    def _mr(self, rng: np.random.Generator, among: Sequence[int]) -> tuple[SpinePatient, SliceAnatomy, Array]:
        patient, anatomy, scanner = self.bank.drawn(rng, self.recipe.phantoms.crop, among)
        sequence = DRAWN[self.recipe.contrasts.sources[0]](rng, patient.fat.t1_ms)
        signal = slice_signal(patient, anatomy, sequence, scanner, rng)
        scales = self.recipe.intensity
        return patient, anatomy, windowed(signal, scales.percentiles, scales.jitter, rng)[None]

    def _ct(self, rng: np.random.Generator, patient: SpinePatient, anatomy: SliceAnatomy) -> Array:
        hu = in_pixels(spine_hu(patient, anatomy.points, anatomy.fine))
        noise = float(rng.uniform(*self.recipe.intensity.noise_hu))
        return ct_map(self.recipe).to_unit(hu + counting_texture(hu.shape, NOISE_SPACING_MM, noise, rng))


def deal(patients: Sequence[SpinePatient]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The patients in two halves, by index: those with lesions and those without are dealt alternately.

    What one domain shows more often than the other, an unpaired generator learns to add or to take away (Cohen et al.
    2018). So neither the numbers of patients nor those of patients with lesions differ by more than one.
    """
    order = sorted(range(len(patients)), key=lambda index: has_lesion(patients[index]))
    return tuple(order[0::2]), tuple(order[1::2])


def has_lesion(patient: SpinePatient) -> bool:
    """Whether there is a tumour, a Modic change or a fracture with oedema."""
    return bool(
        patient.blobs
        or any(disc.modic for disc in patient.discs)
        or any(vertebra.oedema for vertebra in patient.vertebrae)
    )


def build_ct_bank(recipe: CycleRecipe, folder: Path) -> CtBank:
    """The bank of `recipe`; the painted slices are those of `build_bank`. Raises ValueError for uneven halves."""
    bank = build_bank(recipe, folder)
    halves = deal(bank.patients)
    lesions = [sum(has_lesion(bank.patients[index]) for index in half) for half in halves]
    if abs(lesions[0] - lesions[1]) > 1 or not lesions[1]:
        raise ValueError(f"patients with lesions: found {lesions} in the two domains, expected as many in each")
    return CtBank(bank, recipe, halves)


def ct_map(recipe: CycleRecipe) -> IntensityMap:
    """The scale of the result."""
    return IntensityMap(*recipe.intensity.hu)


def ct_visit(seed: int, recipe: CycleRecipe, slices: int = SLICES, lesion_rate: float = 1.0) -> Visit:
    """MR and CT of the virtual patient `seed` in one posture; the CT without noise, as truth.

    real_a is scaled by its own series, as when a series comes in.
    """
    rng = np.random.default_rng([seed, 7])
    return _both(virtual_patient(seed, lesion_rate), rng, recipe, slices)


def shifted_ct_visit(seed: int, recipe: CycleRecipe, slices: int = SLICES) -> Visit:
    """The same seeds where training never was: see `shifted_patient`."""
    rng = np.random.default_rng([seed, 17])
    patient, scanner = shifted_patient(seed, rng)
    return _both(patient, rng, recipe, slices, scanner)


def _both(
    patient: SpinePatient, rng: np.random.Generator, recipe: CycleRecipe, slices: int, scanner: Scanner | None = None
) -> Visit:
    """All slices in MR and CT, the quarters of each at the same places."""
    prescription = draw_prescription(rng, slices)
    scanner = draw_scanner(rng) if scanner is None else scanner
    sequence = DRAWN[recipe.contrasts.sources[0]](rng, patient.fat.t1_ms)
    mr, ct, tissues = [], [], []
    for index in range(slices):
        anatomy = slice_anatomy(patient, prescription, scanner, index)
        mr.append(slice_signal(patient, anatomy, sequence, scanner, rng))
        ct.append(in_pixels(spine_hu(patient, anatomy.points, anatomy.fine)))
        tissues.append(_whole_pixels(patient.tissues[anatomy.points]))
    series = np.stack(mr)
    return Visit(
        patient=patient,
        prescription=prescription,
        real_a=intensity.fit(series, recipe.intensity.percentiles).to_unit(series)[:, None],
        real_b=ct_map(recipe).to_unit(np.stack(ct)),
        tissues=np.stack(tissues),
    )


def _whole_pixels(points: Labels) -> Labels:
    """The tissue of each pixel whose points are all of it, and MIXED elsewhere."""
    quarters = [points[row::OVERSAMPLING, column::OVERSAMPLING] for row in (0, 1) for column in (0, 1)]
    same = np.logical_and.reduce([quarter == quarters[0] for quarter in quarters[1:]])
    return np.where(same, quarters[0], MIXED).astype(np.uint8)
