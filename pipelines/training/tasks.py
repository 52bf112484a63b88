"""The kinds of recipes that there are, and what the command line needs of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pipelines.intensity import Array
from pipelines.training.bank import build_bank
from pipelines.training.body_bank import build_body_bank, draw_kernel, hounsfield_map, scanned
from pipelines.training.ct_bank import build_ct_bank, ct_visit
from pipelines.training.cyclegan import CycleGan, make_translator, translator_parameters
from pipelines.training.fine_bank import build_fine_bank, validation_slices
from pipelines.training.late_adversary import make_residual, residual_parameters
from pipelines.training.pix2pix import Pix2Pix, generator_parameters, make_generator
from pipelines.training.radiograph_bank import (
    build_radiograph_bank,
    radiograph_visit,
    shifted_radiograph_visit,
    validation_radiographs,
)
from pipelines.training.recipe import (
    CycleRecipe,
    DenoiseRecipe,
    Recipe,
    SuperResolutionRecipe,
    ThinSliceRecipe,
    TranslationRecipe,
)
from pipelines.training.super_resolution import SuperResolution
from pipelines.training.through_plane import ThroughPlane
from pipelines.training.trainer import Pair, Trainer
from pipelines.training.visits import visit
from pipelines.training.volume_bank import build_volume_bank, validation_stacks
from pipelines.training.wgan import WassersteinDenoiser, denoiser_parameters, make_denoiser

WINDOW_HU = (-160.0, 240.0)  # soft tissue


@dataclass(frozen=True, slots=True)
class Task:
    """What is done alike for every kind, in the words of that kind.

    trainer     (recipe, cache folder, device) -> a run at its first step
    network     the untrained generator; `parameters` are its constructor's arguments
    validation  pairs of whole slices that training never sees
    samples     some of them, for a picture; `shown` takes an image to the grey values of a picture, [-1, 1]
    evaluate    writes metrics.json and pictures into the run folder
    scales      the manifest's tables of input and output scale
    """

    trainer: Callable[[Any, Path, str], Trainer]
    network: Callable[[Any], nn.Module]
    parameters: Callable[[Any], dict[str, int]]
    validation: Callable[[Any], list[Pair]]
    samples: Callable[[Sequence[Pair]], list[Pair]]
    shown: Callable[[Array], Array]
    evaluate: Callable[[Any, Path], None]
    scales: Callable[[Any], tuple[dict[str, list[float]], list[float]]]
    half_precision_limit: float  # largest change of any pixel, of a range of 2


def task_of(recipe: Recipe) -> Task:
    """The task of `recipe`."""
    return _TASKS[recipe.kind]


def _pix2pix(recipe: TranslationRecipe, cache: Path, device: str) -> Trainer:
    bank = build_bank(recipe, cache)
    draw = partial(bank.pair, crop=recipe.phantoms.crop, contrasts=recipe.contrasts, scales=recipe.intensity)
    return Pix2Pix(recipe, draw, _visited(recipe), device)


def _pix2pix_of_radiographs(recipe: TranslationRecipe, cache: Path, device: str) -> Trainer:
    bank = build_radiograph_bank(recipe, cache)
    draw = partial(bank.pair, crop=recipe.phantoms.crop, target=recipe.contrasts.target, scales=recipe.intensity)
    return Pix2Pix(recipe, draw, list(validation_radiographs(recipe)), device)


def _visited(recipe: TranslationRecipe) -> list[Pair]:
    sets = recipe.phantoms
    seeds = range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients)
    visits = [visit(seed, recipe) for seed in seeds]
    return [(one.real_a[index], one.real_b[index]) for one in visits for index in (2, 6, 8, 10, 13)]


def _wasserstein(recipe: DenoiseRecipe, cache: Path, device: str) -> Trainer:
    return WassersteinDenoiser(recipe, build_body_bank(recipe, cache).pair, _low_dose(recipe), device)


def _low_dose(recipe: DenoiseRecipe) -> list[Pair]:
    sets, scale = recipe.phantoms, hounsfield_map(recipe)
    pairs = []
    for seed in range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients):
        for dose in (0.25, 0.1):
            kernel = draw_kernel(np.random.default_rng([seed, 29]), recipe)
            clean, noisy = scanned(seed, 256, recipe, dose).seen(kernel)
            pairs.append((scale.to_unit(noisy)[None], scale.to_unit(clean)))
    return pairs


def _through_plane(recipe: ThinSliceRecipe, cache: Path, device: str) -> Trainer:
    return ThroughPlane(recipe, build_volume_bank(recipe, cache).pair, validation_stacks(recipe), device)


def _cycle(recipe: CycleRecipe, cache: Path, device: str) -> Trainer:
    bank = build_ct_bank(recipe, cache)
    return CycleGan(recipe, bank.unpaired, bank.paired, _with_ct(recipe), device)


def _with_ct(recipe: CycleRecipe) -> list[Pair]:
    sets = recipe.phantoms
    seeds = range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients)
    visits = [ct_visit(seed, recipe, slices=3) for seed in seeds]
    return [pair for one in visits for pair in zip(one.real_a, one.real_b, strict=True)]


def _super_resolution(recipe: SuperResolutionRecipe, cache: Path, device: str) -> Trainer:
    return SuperResolution(recipe, build_fine_bank(recipe, cache).pair, validation_slices(recipe), device)


def _as_large(image: Array) -> Array:
    """A coarse slice with its pixels repeated, a fine one as it is."""
    times = max(1, 512 // image.shape[0])
    return np.repeat(np.repeat(image, times, axis=0), times, axis=1)


def _windowed(image: Array) -> Array:
    """The soft-tissue window of a CT slice that spans all HU."""
    hu = (image + 1.0) * 2047.5 - 1024.0
    return np.asarray((hu - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0]) * 2.0 - 1.0, dtype=np.float32)


def _evaluation(module: str) -> Callable[[Any, Path], None]:
    """`evaluate` of a module beside this one, imported when it is called: scikit-image is in the training extra."""

    def evaluate(recipe: Recipe, run: Path) -> None:
        import_module(f"pipelines.training.{module}").evaluate(recipe, run)

    return evaluate


def _evaluate_radiographs(recipe: TranslationRecipe, run: Path) -> None:
    """As other translations, on patients of its own."""
    from pipelines.training.evaluation import Draws, evaluate

    lesions = recipe.phantoms.lesion_rate
    draws = Draws(
        lambda seed, recipe: radiograph_visit(seed, recipe, lesions), radiograph_visit, shifted_radiograph_visit
    )
    evaluate(recipe, run, draws)


TRANSLATE = Task(
    trainer=_pix2pix,
    network=make_generator,
    parameters=generator_parameters,
    validation=_visited,
    samples=lambda pairs: [pairs[index % len(pairs)] for index in (1, 2, 7, 12, 17, 22)],
    shown=lambda image: image,
    evaluate=_evaluation("evaluation"),
    scales=lambda recipe: (
        {"percentiles": list(recipe.intensity.percentiles)},
        [0.0, recipe.intensity.full_scale],
    ),
    half_precision_limit=0.01,
)
RADIOGRAPH = replace(
    TRANSLATE,
    trainer=_pix2pix_of_radiographs,
    validation=lambda recipe: list(validation_radiographs(recipe)),
    samples=lambda pairs: list(pairs[:6]),
    evaluate=_evaluate_radiographs,
)
DENOISE = Task(
    trainer=_wasserstein,
    network=make_denoiser,
    parameters=denoiser_parameters,
    validation=_low_dose,
    samples=lambda pairs: list(pairs[:6]),
    shown=_windowed,
    evaluate=_evaluation("dose_evaluation"),
    scales=lambda recipe: ({"hu": list(recipe.intensity.hu)}, list(recipe.intensity.hu)),
    half_precision_limit=0.0005,  # 1 HU
)
THIN_SLICE = Task(
    trainer=_through_plane,
    network=make_residual,
    parameters=residual_parameters,
    validation=validation_stacks,
    samples=lambda pairs: list(pairs[1::3][:6]),
    shown=_windowed,
    evaluate=_evaluation("thin_evaluation"),
    scales=lambda recipe: ({"hu": list(recipe.intensity.hu)}, list(recipe.intensity.hu)),
    half_precision_limit=0.0005,  # 1 HU
)
CYCLE = Task(
    trainer=_cycle,
    network=make_translator,
    parameters=translator_parameters,
    validation=_with_ct,
    samples=lambda pairs: list(pairs[:6]),
    shown=lambda image: image,
    evaluate=_evaluation("ct_evaluation"),
    scales=lambda recipe: ({"percentiles": list(recipe.intensity.percentiles)}, list(recipe.intensity.hu)),
    half_precision_limit=0.01,  # 13 HU
)
SUPER_RESOLVE = Task(
    trainer=_super_resolution,
    network=make_residual,
    parameters=residual_parameters,
    validation=validation_slices,
    samples=lambda pairs: list(pairs[:4]),
    shown=_as_large,
    evaluate=_evaluation("fine_evaluation"),
    scales=lambda recipe: ({"percentiles": list(recipe.intensity.percentiles)}, [0.0, 4095.0]),
    half_precision_limit=0.01,
)
_TASKS = {
    "translate": TRANSLATE,
    "radiograph": RADIOGRAPH,
    "cycle": CYCLE,
    "denoise": DENOISE,
    "thin-slice": THIN_SLICE,
    "super-resolve": SUPER_RESOLVE,
}
