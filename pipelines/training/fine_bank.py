"""Training pairs of super-resolution: acquired slices of a fine matrix, kept; a pair is a part of one, made coarse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines import intensity
from pipelines.degradation import degraded
from pipelines.intensity import Array, IntensityMap
from pipelines.networks.edsr import FACTOR
from pipelines.phantoms.acquisition import (
    Scanner,
    draw_prescription,
    draw_scanner,
    slice_anatomy,
    slice_signal,
)
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.sequences import DRAWN
from pipelines.training.recipe import SuperResolutionRecipe
from pipelines.training.trainer import Pair

SLICES = 17
CONTRAST = "T2W"


@dataclass(frozen=True, slots=True, eq=False)
class FineBank:
    """Fine slices float16 (slices, matrix, matrix), no signal at 0, and the map of each to [-1, 1]."""

    slices: NDArray[np.float16]
    maps: tuple[IntensityMap, ...]
    recipe: SuperResolutionRecipe

    def pair(self, rng: np.random.Generator) -> Pair:
        """(coarse (1, patch / 4, patch / 4), fine (patch, patch)); place, scale and mirroring are drawn anew.

        Mirror images are fair here: what is learnt is how edges look, not where front and back are.
        """
        size = self.recipe.phantoms.patch
        index = int(rng.integers(len(self.slices)))
        top, left = (int(value) for value in rng.integers(0, self.slices.shape[1] - size + 1, 2))
        part = self.slices[index, top : top + size, left : left + size].astype(np.float32)
        for axis in (0, 1):
            part = np.flip(part, axis) if rng.random() < 0.5 else part
        scale = self.maps[index]
        span = (scale.high - scale.low) * float(np.exp(self.recipe.intensity.jitter * rng.standard_normal()))
        return coarse_and_fine(np.ascontiguousarray(part), IntensityMap(scale.low, scale.low + span))


def coarse_and_fine(fine: Array, scale: IntensityMap) -> Pair:
    """The pair of an acquired slice: made coarse before its values are mapped, as they come in."""
    return scale.to_unit(degraded(fine, FACTOR))[None], scale.to_unit(fine)


def acquired(patient: SpinePatient, index: int, scanner: Scanner, rng: np.random.Generator, matrix: int) -> Array:
    """T2W slice `index` of 17 of a virtual patient on a fine matrix."""
    prescription = replace(draw_prescription(rng, SLICES), matrix=matrix)
    anatomy = slice_anatomy(patient, prescription, scanner, index)
    return slice_signal(patient, anatomy, DRAWN[CONTRAST](rng, patient.fat.t1_ms), scanner, rng)


def fine_scanner(rng: np.random.Generator, recipe: SuperResolutionRecipe) -> Scanner:
    """A scanner whose fine matrix is mostly interpolated, as that of real ones is."""
    drawn, share = draw_scanner(rng), recipe.phantoms.coverage
    coverage = (share * drawn.coverage[0], share * drawn.coverage[1])
    return replace(drawn, coverage=coverage, chemical_shift_px=2.0 * drawn.chemical_shift_px)


def build_fine_bank(recipe: SuperResolutionRecipe, folder: Path) -> FineBank:
    """The bank of `recipe`, acquired at the first call and kept in `folder` for the next: 0.5 s and 0.5 MiB a slice."""
    sets = recipe.phantoms
    path = folder / f"fine-{sets.train_first_seed}-{sets.train_patients}-{sets.train_slices}-{sets.matrix}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        slices: list[Array] = []
        for seed in range(sets.train_first_seed, sets.train_first_seed + sets.train_patients):
            rng, patient = np.random.default_rng([seed, 43]), virtual_patient(seed)
            chosen = rng.choice(SLICES, sets.train_slices, replace=False)
            slices += [acquired(patient, int(index), fine_scanner(rng, recipe), rng, sets.matrix) for index in chosen]
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.stack(slices).astype(np.float16))
        partial.rename(path)
    kept = np.load(path)
    maps = tuple(intensity.fit(one.astype(np.float32), recipe.intensity.percentiles) for one in kept)
    return FineBank(kept, maps, recipe)


def validation_slices(recipe: SuperResolutionRecipe) -> list[Pair]:
    """A whole slice through the middle of each validation patient."""
    sets, pairs = recipe.phantoms, []
    for seed in range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients):
        rng = np.random.default_rng([seed, 43])
        fine = acquired(virtual_patient(seed), SLICES // 2, fine_scanner(rng, recipe), rng, sets.matrix)
        pairs.append(coarse_and_fine(fine, intensity.fit(degraded(fine, FACTOR), recipe.intensity.percentiles)))
    return pairs
