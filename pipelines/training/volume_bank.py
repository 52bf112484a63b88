"""Training pairs of thin slices: volumes and noise are scanned once and kept, place and posture drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.intensity import Array, IntensityMap
from pipelines.kinds.thin_slice import neighbours
from pipelines.networks.thin_slices import CONTEXT, FOLD
from pipelines.phantoms.ct import Grid, Kernel
from pipelines.phantoms.ct_volume import ThinScan, scan_volume, thickened
from pipelines.phantoms.solids import SolidBody
from pipelines.phantoms.trunk_volume import trunk_volume
from pipelines.training.recipe import ThinSliceRecipe
from pipelines.training.trainer import Pair

NOISES = 8  # of thick slices, kept with each volume
STEP_HU = 0.25  # of the stored integers
AT_AN_END = 0.2  # share of the pairs that lie so near an end of the series that neighbours are missing


@dataclass(frozen=True, slots=True, eq=False)
class VolumeBank:
    """int16 in STEP_HU: thin (patients, slices, size, size) without noise, noise (patients, NOISES, size, size)."""

    thin: NDArray[np.int16]
    noise: NDArray[np.int16]
    recipe: ThinSliceRecipe

    def pair(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """(thick (CONTEXT, patch, patch), thin (FOLD, patch, patch)) in [-1, 1].

        The noise of the thick slice is in its thin ones too: what nobody can tell apart, no loss should ask for.
        """
        patch, (count, size) = self.recipe.phantoms.patch, self.thin.shape[1:3]
        index = int(rng.integers(len(self.thin)))
        start = int(rng.integers(0, count - CONTEXT * FOLD + 1))
        top, left = (int(value) for value in rng.integers(0, size - patch + 1, 2))
        where = (slice(top, top + patch), slice(left, left + patch))
        thin = self.thin[index, start : start + CONTEXT * FOLD, *where].astype(np.float32) * np.float32(STEP_HU)
        chosen = rng.permutation(NOISES)[:CONTEXT]
        noise = self.noise[index][chosen][:, *where].astype(np.float32)
        noise *= np.float32(STEP_HU) * rng.choice((-1.0, 1.0), CONTEXT).astype(np.float32)[:, None, None]
        thick = thickened(thin) + noise
        middle = CONTEXT // 2
        wanted = thin[middle * FOLD : (middle + 1) * FOLD] + noise[middle]
        if rng.random() < AT_AN_END:
            missing = int(rng.integers(1, middle + 1))
            thick[:missing] = thick[missing]
        if rng.random() < 0.5:
            thick, wanted = thick[::-1], wanted[::-1]
        if rng.random() < 0.5:
            thick, wanted = thick[..., ::-1], wanted[..., ::-1]
        turns = int(rng.integers(4))
        scale = hounsfield_map(self.recipe)
        turned = (np.rot90(stack, turns, (1, 2)) for stack in (thick, wanted))
        real_a, real_b = (np.ascontiguousarray(scale.to_unit(stack)) for stack in turned)
        return real_a, real_b


def hounsfield_map(recipe: ThinSliceRecipe) -> IntensityMap:
    """HU to [-1, 1]."""
    return IntensityMap(*recipe.intensity.hu)


def scanned_volume(seed: int, size: int, recipe: ThinSliceRecipe, noises: int | None = None) -> ThinScan:
    """A part of the volume of virtual patient `seed`; place, thickness, kernel and dose as training draws them."""
    rng = np.random.default_rng([seed, 43])
    sets, patient = recipe.phantoms, trunk_volume(seed)
    low, high = np.log(sets.doses)
    dose = float(np.exp(rng.uniform(low, high)))
    low, high = np.log(sets.cutoffs_per_mm)
    kernel = Kernel("drawn", float(np.exp(rng.uniform(low, high))))
    thickness_mm = float(rng.uniform(*sets.thickness_mm))
    grid = draw_part(patient, size, rng, recipe)
    return scan_volume(patient, grid, sets.thick_slices, thickness_mm, kernel, dose, rng, noises)


def draw_part(patient: SolidBody, size: int, rng: np.random.Generator, recipe: ThinSliceRecipe) -> Grid:
    """A part of the field of view of `size` pixels; every third shows the spine."""
    low, high = recipe.phantoms.pixel_spacing_mm
    half = patient.body.half_size_mm
    spacing = float(np.clip(2.1 * max(half) / 512 * rng.uniform(0.85, 1.1), low, high))
    free = [max(0.0, side - 0.5 * size * spacing + 10.0) for side in half]
    x, y = (float(rng.uniform(-reach, reach)) for reach in free)
    return Grid(size, size, spacing, (0.3 * x, free[1]) if rng.random() < 0.33 else (x, y))


def build_volume_bank(recipe: ThinSliceRecipe, folder: Path) -> VolumeBank:
    """The bank of `recipe`, scanned at the first call and kept in `folder` for the next: 5 s and 4 MB a patient."""
    sets = recipe.phantoms
    seeds = range(sets.train_first_seed, sets.train_first_seed + sets.train_patients)
    path = folder / f"volumes-{seeds.start}-{len(seeds)}-{sets.stored}-{sets.thick_slices}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scans = [scanned_volume(seed, sets.stored, recipe, NOISES) for seed in seeds]
        partial = path.with_suffix(".partial.npz")
        np.savez(
            partial,
            thin=np.stack([_stored(one.thin) for one in scans]),
            noise=np.stack([_stored(one.noise) for one in scans]),
        )
        partial.rename(path)
    with np.load(path) as stored:
        return VolumeBank(stored["thin"], stored["noise"], recipe)


def validation_stacks(recipe: ThinSliceRecipe) -> list[Pair]:
    """Pairs of whole slices that training never sees: three places in each validation volume."""
    sets, scale = recipe.phantoms, hounsfield_map(recipe)
    pairs = []
    for seed in range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients):
        one = scanned_volume(seed, sets.stored, recipe)
        thick = one.thick()
        for middle in (sets.thick_slices // 4, sets.thick_slices // 2, 3 * sets.thick_slices // 4):
            around = neighbours(middle, np.ones(len(thick), dtype=np.bool_), CONTEXT)
            wanted = one.thin[middle * FOLD : (middle + 1) * FOLD] + one.noise[middle]
            pairs.append((scale.to_unit(thick[around]), scale.to_unit(wanted)))
    return pairs


def _stored(hu: Array) -> NDArray[np.int16]:
    return np.asarray(np.rint(np.clip(hu, -4000.0, 4000.0) / STEP_HU), dtype=np.int16)
