"""Measures a run's best generator and the baselines on virtual patients that no training has seen."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.intensity import Array
from pipelines.metrics.similarity import compare
from pipelines.phantoms.tissues import Tissue
from pipelines.training.baselines import Method, fit_baselines
from pipelines.training.pictures import draw_grid
from pipelines.training.recipe import TranslationRecipe
from pipelines.training.release import METRICS, load_generator
from pipelines.training.summaries import Scores, differences, summary
from pipelines.training.trainer import BEST, translate
from pipelines.training.visits import Visit, shifted_visit, visit

log = logging.getLogger("pipelines.training")
UNIT_RANGE = 2.0  # of [-1, 1], the fixed scale of the target
GENERATOR = "generator"
READ = (
    Tissue.CSF, Tissue.SUBCUTANEOUS_FAT, Tissue.FAT, Tissue.MUSCLE, Tissue.MARROW, Tissue.CORD, Tissue.NUCLEUS,
    Tissue.MODIC_1, Tissue.MODIC_2, Tissue.MODIC_3, Tissue.OEDEMA, Tissue.HAEMANGIOMA, Tissue.METASTASIS,
)  # fmt: skip
SMALLEST_READ = 30  # pixels of a tissue that a patient must show to be read


@dataclass(frozen=True, slots=True)
class _Reading:
    """Mean intensity of one tissue in one patient, acquired and synthesised, on the scale of the result."""

    acquired: float
    synthesised: float


@dataclass(frozen=True, slots=True)
class Draws:
    """Where the patients come from: those that baselines are fitted on, and the two sets that are measured."""

    fitting: Callable[[int, TranslationRecipe], Visit]
    held_out: Callable[[int, TranslationRecipe], Visit]
    shifted: Callable[[int, TranslationRecipe], Visit]


SERIES = Draws(
    lambda seed, recipe: visit(seed, recipe, slices=5, lesion_rate=recipe.phantoms.lesion_rate), visit, shifted_visit
)


def evaluate(recipe: TranslationRecipe, run: Path, draws: Draws = SERIES) -> None:
    """Writes `run`/metrics.json: each method's similarity on two test sets, the differences, and what tissues became.

    "held_out" draws patients and scanners as training does, "shifted" as training never does: T1 and T2 of 3 T, another
    coil, noisier, and a lesion in almost every patient.
    """
    generator = load_generator(recipe, run / BEST)
    sets = recipe.phantoms
    seeds = range(sets.train_first_seed, sets.train_first_seed + min(12, sets.train_patients))
    fitting = [draws.fitting(seed, recipe) for seed in seeds]
    pairs = [pair for one in fitting for pair in zip(one.real_a, one.real_b, strict=True)]
    methods: dict[str, Method] = {GENERATOR: partial(translate, generator), **fit_baselines(pairs, recipe.seed)}
    report: dict[str, object] = {
        "pipeline": recipe.id,
        "version": recipe.version,
        "sources": list(recipe.contrasts.sources),
        "target": recipe.contrasts.target,
        "data_range": UNIT_RANGE,
    }
    for name, draw in (("held_out", draws.held_out), ("shifted", draws.shifted)):
        visits = (draw(seed, recipe) for seed in range(sets.test_first_seed, sets.test_first_seed + sets.test_patients))
        report[name] = _measure(visits, methods, recipe, run / f"{name}.png")
        log.info("%s measured", name)
    (run / METRICS).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _measure(
    visits: Iterable[Visit], methods: Mapping[str, Method], recipe: TranslationRecipe, picture: Path
) -> dict[str, object]:
    scores: dict[str, list[Scores]] = {name: [] for name in methods}
    readings: dict[str, list[_Reading]] = {tissue.name: [] for tissue in READ}
    grid: list[tuple[Array, ...]] = []
    for number, one in enumerate(visits):
        for name, method in methods.items():
            fake_b = np.stack([method(real_a) for real_a in one.real_a])
            scores[name].append(asdict(compare(fake_b, one.real_b, UNIT_RANGE)))
            if name == GENERATOR:
                _read(one, fake_b, recipe.intensity.full_scale, readings)
                middle = min(one.real_a.shape[0] // 2 + number % 3, one.real_a.shape[0] - 1)
                grid.append((*one.real_a[middle], fake_b[middle], one.real_b[middle]))
    draw_grid(grid[:6], picture)
    return {
        "patients": len(scores[GENERATOR]),
        "methods": {name: summary(values) for name, values in scores.items()},
        "generator_minus": {
            name: differences(scores[GENERATOR], values) for name, values in scores.items() if name != GENERATOR
        },
        "tissues": {name: _reading_summary(values) for name, values in readings.items() if len(values) > 1},
    }


def _read(one: Visit, fake_b: Array, full_scale: float, readings: dict[str, list[_Reading]]) -> None:
    """Adds the mean intensities of this patient's tissues."""
    for tissue in READ:
        here = one.tissues == tissue
        if np.count_nonzero(here) >= SMALLEST_READ:
            acquired, synthesised = (
                float((image[here].mean() + 1.0) * 0.5 * full_scale) for image in (one.real_b, fake_b)
            )
            readings[tissue.name].append(_Reading(acquired, synthesised))


def _reading_summary(values: list[_Reading]) -> dict[str, float]:
    acquired, synthesised = (
        np.array([getattr(value, side) for value in values]) for side in ("acquired", "synthesised")
    )
    return {
        "patients": len(values),
        "acquired_mean": float(acquired.mean()),
        "acquired_sd": float(acquired.std(ddof=1)),
        "synthesised_mean": float(synthesised.mean()),
        "synthesised_sd": float(synthesised.std(ddof=1)),
        "mean_absolute_error": float(np.abs(acquired - synthesised).mean()),
    }
