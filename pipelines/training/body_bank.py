"""Training pairs of the CT denoiser: slices and their noise are made once and kept, kernel and posture drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.intensity import Array, IntensityMap
from pipelines.phantoms.ct import AxialBody, CtSlice, Grid, Kernel, axial_body, scan
from pipelines.training.recipe import DenoiseRecipe

STORED = 256  # rows and columns of each stored slice, a part of the field of view
FAINTER = (0.8, 1.25)  # the stored noise is scaled a little at each draw


@dataclass(frozen=True, slots=True, eq=False)
class BodyBank:
    """Slices and their noise before any kernel, in HU: float16 (patients, 2, STORED, STORED)."""

    slices: NDArray[np.float16]
    spacing_mm: NDArray[np.float64]
    recipe: DenoiseRecipe

    def pair(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """(noisy (1, patch, patch), clean (patch, patch)) in [-1, 1]; place, kernel and posture are drawn anew."""
        sets = self.recipe.phantoms
        index = int(rng.integers(len(self.slices)))
        top, left = (int(value) for value in rng.integers(0, STORED - sets.patch + 1, 2))
        clean, noise = self.slices[index, :, top : top + sets.patch, left : left + sets.patch].astype(np.float32)
        noise = noise * np.float32(rng.choice((-1.0, 1.0)) * rng.uniform(*FAINTER))
        if rng.random() < 0.5:  # a slice of the body may be seen from either side
            clean, noise = clean[:, ::-1], noise[:, ::-1]
        turns = int(rng.integers(4))
        part = CtSlice(
            np.rot90(clean, turns), np.rot90(noise, turns), np.empty((0, 0), np.uint8), self.spacing_mm[index]
        )
        clean, noisy = part.seen(draw_kernel(rng, self.recipe))
        scale = hounsfield_map(self.recipe)
        return scale.to_unit(noisy)[None], scale.to_unit(clean)


def hounsfield_map(recipe: DenoiseRecipe) -> IntensityMap:
    """HU to [-1, 1]."""
    return IntensityMap(*recipe.intensity.hu)


def draw_kernel(rng: np.random.Generator, recipe: DenoiseRecipe) -> Kernel:
    """A kernel between the softest and the sharpest of `recipe`."""
    low, high = np.log(recipe.phantoms.cutoffs_per_mm)
    return Kernel("drawn", float(np.exp(rng.uniform(low, high))))


def draw_grid(body: AxialBody, size: int, rng: np.random.Generator, recipe: DenoiseRecipe) -> Grid:
    """A part of the field of view of `size` pixels, at a spacing that shows the whole body in 512 of them if it can."""
    low, high = recipe.phantoms.pixel_spacing_mm
    spacing = float(np.clip(2.1 * max(body.half_size_mm) / 512 * rng.uniform(0.85, 1.1), low, high))
    free = [max(0.0, half - 0.5 * size * spacing + 12.0) for half in body.half_size_mm]
    x, y = (float(rng.uniform(-reach, reach)) for reach in free)
    return Grid(size, size, spacing, (x, y))


def draw_dose(rng: np.random.Generator, recipe: DenoiseRecipe) -> float:
    """A share of the routine dose."""
    low, high = np.log(recipe.phantoms.doses)
    return float(np.exp(rng.uniform(low, high)))


def scanned(seed: int, size: int, recipe: DenoiseRecipe, dose: float | None = None) -> CtSlice:
    """A slice of virtual patient `seed`, at a drawn dose unless one is given."""
    rng = np.random.default_rng([seed, 23])
    body = axial_body(seed)
    grid, drawn = draw_grid(body, size, rng, recipe), draw_dose(rng, recipe)
    return scan(body, grid, drawn if dose is None else dose, rng)


def build_body_bank(recipe: DenoiseRecipe, folder: Path) -> BodyBank:
    """The bank of `recipe`, scanned at the first call and kept in `folder` for the next: 0.3 s and 0.25 MiB a slice."""
    sets = recipe.phantoms
    seeds = range(sets.train_first_seed, sets.train_first_seed + sets.train_patients)
    path = folder / f"bodies-{seeds.start}-{len(seeds)}-{sets.doses[0]}-{sets.doses[1]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        slices = np.empty((len(seeds), 2, STORED, STORED), dtype=np.float16)
        spacing = np.empty(len(seeds))
        for number, seed in enumerate(seeds):
            one = scanned(seed, STORED, recipe)
            slices[number] = one.clean, np.clip(one.noise, -4000.0, 4000.0)
            spacing[number] = one.spacing_mm
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, slices=slices, spacing=spacing)
        partial.rename(path)
    with np.load(path) as stored:
        return BodyBank(stored["slices"], stored["spacing"], recipe)
