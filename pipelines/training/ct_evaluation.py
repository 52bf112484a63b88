"""Measures a synthesised CT in HU on virtual patients that no training has seen, beside methods without a network."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.intensity import Array
from pipelines.metrics.similarity import compare
from pipelines.phantoms.tissues import Tissue
from pipelines.training.baselines import Method, fit_baselines
from pipelines.training.ct_bank import ct_map, ct_visit, shifted_ct_visit
from pipelines.training.pictures import draw_grid
from pipelines.training.recipe import RECIPES, CycleRecipe, read_recipe
from pipelines.training.release import METRICS, load_generator
from pipelines.training.summaries import Scores, differences, summary
from pipelines.training.trainer import BEST, Pair, translate
from pipelines.training.visits import Visit

log = logging.getLogger("pipelines.training")
GENERATOR = "generator"
RIVALS = "rivals"  # a folder of the run: generators of other recipes, in files that bear their names
SLICES = 3  # around the middle of the column
BONE_HU = 150.0
BODY_HU = -700.0  # what is brighter in truth is neither air nor bowel gas
READ = (
    Tissue.SUBCUTANEOUS_FAT, Tissue.FAT, Tissue.MUSCLE, Tissue.MARROW, Tissue.CORTEX, Tissue.DENSE_COLLAGEN,
    Tissue.NUCLEUS, Tissue.ANNULUS, Tissue.CSF, Tissue.CORD, Tissue.MODIC_1, Tissue.MODIC_2, Tissue.MODIC_3,
    Tissue.HAEMANGIOMA, Tissue.METASTASIS,
)  # fmt: skip
SMALLEST_READ = 30  # whole pixels of a tissue that a patient must show to be read
SHOWN_HU = (-250.0, 750.0)

Readings = dict[str, list[tuple[float, float]]]  # (acquired, synthesised) mean HU of each patient, by tissue


def evaluate(recipe: CycleRecipe, run: Path) -> None:
    """Writes `run`/metrics.json and a picture of each test set; the truth is the CT without noise.

    "held_out" draws patients and scanners as training does, "shifted" as training never does.
    """
    sets = recipe.phantoms
    seeds = range(sets.train_first_seed, sets.train_first_seed + min(12, sets.train_patients))
    fitting = [ct_visit(seed, recipe, slices=3, lesion_rate=sets.lesion_rate) for seed in seeds]
    pairs = [pair for one in fitting for pair in zip(one.real_a, one.real_b, strict=True)]
    methods: dict[str, Method] = {GENERATOR: partial(translate, load_generator(recipe, run / BEST))}
    for path in sorted((run / RIVALS).glob("*.safetensors")):
        methods[path.stem] = partial(translate, load_generator(read_recipe(RECIPES / f"{path.stem}.toml"), path))
    methods |= {name: method for name, method in fit_baselines(pairs, recipe.seed).items() if name != "identity"}
    methods["linear"] = _line(pairs)
    report: dict[str, object] = {
        "pipeline": recipe.id,
        "version": recipe.version,
        "kind": recipe.kind,
        "sources": list(recipe.contrasts.sources),
        "target": recipe.contrasts.target,
        "data_range_hu": recipe.intensity.hu[1] - recipe.intensity.hu[0],
    }
    tests = range(sets.test_first_seed, sets.test_first_seed + sets.test_patients)
    for name, draw in (("held_out", ct_visit), ("shifted", shifted_ct_visit)):
        report[name] = _measure((draw(seed, recipe, SLICES) for seed in tests), methods, recipe, run / f"{name}.png")
        log.info("%s measured", name)
    (run / METRICS).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _line(pairs: Iterable[Pair]) -> Method:
    """The source itself, scaled by the line of least squares: what identity is between two units."""
    chosen = list(pairs)
    real_a, real_b = (np.concatenate([pair[side].ravel() for pair in chosen]) for side in (0, 1))
    slope, offset = np.polyfit(real_a, real_b, 1)
    return lambda image: np.asarray(slope * image[-1] + offset, dtype=np.float32)


def _measure(
    visits: Iterable[Visit], methods: Mapping[str, Method], recipe: CycleRecipe, picture: Path
) -> dict[str, object]:
    scores: dict[str, list[Scores]] = {name: [] for name in methods}
    readings: dict[str, Readings] = {name: {tissue.name: [] for tissue in READ} for name in methods}
    scale = ct_map(recipe)
    grid: list[tuple[Array, ...]] = []
    for one in visits:
        truth = scale.from_unit(one.real_b)
        for name, method in methods.items():
            fake_b = np.stack([method(real_a) for real_a in one.real_a])
            hu = scale.from_unit(np.clip(fake_b, -1.0, 1.0))
            scores[name].append({**asdict(compare(fake_b, one.real_b, 2.0)), **_in_hu(hu, truth)})
            _read(one.tissues, truth, hu, readings[name])
            if name == GENERATOR:
                grid.append((one.real_a[SLICES // 2, 0], _shown(hu[SLICES // 2]), _shown(truth[SLICES // 2])))
    draw_grid(grid[:6], picture)
    return {
        "patients": len(scores[GENERATOR]),
        "methods": {name: summary(values) for name, values in scores.items()},
        "generator_minus": {
            name: differences(scores[GENERATOR], values) for name, values in scores.items() if name != GENERATOR
        },
        "tissues": {name: _summaries(values) for name, values in readings.items()},
    }


def _in_hu(hu: Array, truth: Array) -> dict[str, float]:
    body = truth > BODY_HU
    bone, true_bone = hu > BONE_HU, truth > BONE_HU
    either = int(np.count_nonzero(bone)) + int(np.count_nonzero(true_bone))
    overlap = 2.0 * int(np.count_nonzero(bone & true_bone)) / max(either, 1)
    return {"mae_hu": float(np.abs(hu - truth)[body].mean()), "bone_dice": overlap}


def _read(tissues: NDArray[np.uint8], truth: Array, hu: Array, readings: Readings) -> None:
    """Adds the mean HU of this patient's tissues."""
    for tissue in READ:
        here = tissues == tissue
        if np.count_nonzero(here) >= SMALLEST_READ:
            readings[tissue.name].append((float(truth[here].mean()), float(hu[here].mean())))


def _summaries(readings: Readings) -> dict[str, dict[str, float]]:
    """For each tissue that two patients show: means, bias, mean error, and the correlation over patients."""
    table = {}
    for name, values in readings.items():
        if len(values) < 2:
            continue
        acquired, synthesised = np.array(values).T
        varied = acquired.std() > 0 and synthesised.std() > 0
        table[name] = {
            "patients": len(values),
            "acquired_mean": float(acquired.mean()),
            "acquired_sd": float(acquired.std(ddof=1)),
            "synthesised_mean": float(synthesised.mean()),
            "synthesised_sd": float(synthesised.std(ddof=1)),
            "bias_hu": float((synthesised - acquired).mean()),
            "mean_absolute_error": float(np.abs(synthesised - acquired).mean()),
            "correlation": float(np.corrcoef(acquired, synthesised)[0, 1]) if varied else 0.0,
        }
    return table


def _shown(hu: Array) -> Array:
    """A bone window as the [-1, 1] of a picture."""
    return np.asarray((hu - SHOWN_HU[0]) / (SHOWN_HU[1] - SHOWN_HU[0]) * 2.0 - 1.0, dtype=np.float32)
