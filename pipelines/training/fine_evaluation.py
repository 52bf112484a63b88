"""Measures super-resolution beside interpolation on virtual patients that no training has seen."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from pipelines import intensity
from pipelines.degradation import back_projected, degraded
from pipelines.intensity import Array, IntensityMap
from pipelines.kinds.super_resolve import PASSES
from pipelines.metrics.fidelity import vifp
from pipelines.metrics.sharpness import cpbd
from pipelines.metrics.similarity import compare
from pipelines.networks.edsr import FACTOR
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.tissues import FatCompartment
from pipelines.training.fine_bank import SLICES, acquired, fine_scanner
from pipelines.training.pictures import draw_grid
from pipelines.training.recipe import SuperResolutionRecipe
from pipelines.training.release import METRICS, load_generator
from pipelines.training.summaries import Scores, differences, summary
from pipelines.training.trainer import BEST, translate

log = logging.getLogger("pipelines.training")
GENERATOR, TRUTH = "generator", "truth"
CENTRE = 0.75  # of each side is measured: the rim of the field of view shows air and folds of skin
SHOWN = 160  # pixels of a side in the pictures

Method = Callable[[Array, IntensityMap], Array]  # coarse slice and its scale -> fine slice


def held_out(seed: int, recipe: SuperResolutionRecipe) -> Array:
    """The fine slice through the middle of patient `seed`, as training draws them."""
    rng = np.random.default_rng([seed, 43])
    return acquired(virtual_patient(seed), SLICES // 2, fine_scanner(rng, recipe), rng, recipe.phantoms.matrix)


def shifted(seed: int, recipe: SuperResolutionRecipe) -> Array:
    """The same where training never was: 3 T, another coil, more noise, lesions five times as often, finer k-space.

    At 3 T, T1 is 1.2 times and T2 0.95 times that at 1.5 T (de Bazelaire et al. 2004).
    """
    rng = np.random.default_rng([seed, 47])
    patient = virtual_patient(seed, lesion_rate=5.0)
    rows = tuple(replace(row, t1_ms=1.2 * row.t1_ms, t2_ms=0.95 * row.t2_ms) for row in patient.compartments)
    fat = FatCompartment(1.2 * patient.fat.t1_ms, 0.95 * patient.fat.t2_ms)
    drawn = fine_scanner(rng, recipe)
    scanner = replace(
        drawn, snr=float(rng.uniform(9, 14)), coil_mm=float(rng.uniform(35, 48)), coil_strength=1.0,
        coverage=(0.9, 0.9),
    )  # fmt: skip
    patient = replace(patient, compartments=rows, fat=fat)
    return acquired(patient, SLICES // 2, scanner, rng, recipe.phantoms.matrix)


def evaluate(recipe: SuperResolutionRecipe, run: Path) -> None:
    """Writes `run`/metrics.json: each method on held-out and on shifted patients, and pictures of some."""
    methods: dict[str, Method] = {
        GENERATOR: partial(restored, load_generator(recipe, run / BEST)),
        "linear": _linear,
        "cubic": _cubic,
        "lanczos": _lanczos,
        "lanczos_back_projected": lambda coarse, scale: back_projected(_lanczos(coarse, scale), coarse, FACTOR),
    }
    sets = recipe.phantoms
    seeds = range(sets.test_first_seed, sets.test_first_seed + sets.test_patients)
    report: dict[str, object] = {"pipeline": recipe.id, "version": recipe.version, "kind": recipe.kind}
    for name, draw in (("held_out", held_out), ("shifted", shifted)):
        report[name] = _measure((draw(seed, recipe) for seed in seeds), methods, recipe, run / f"{name}.png")
        log.info("%s measured", name)
    (run / METRICS).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def restored(generator: nn.Module, coarse: Array, scale: IntensityMap) -> Array:
    """A coarse slice as the pipeline restores it: detail added to the linear interpolation, then back-projection."""
    unit = scale.to_unit(coarse)
    detail = translate(generator, unit[None]) - _resized(unit, Image.Resampling.BILINEAR)
    fine = _linear(coarse, scale) + np.float32(0.5 * (scale.high - scale.low)) * detail
    for _ in range(PASSES):
        fine = np.clip(back_projected(fine, coarse, FACTOR), 0.0, None)
    return fine


def _measure(
    slices: Iterator[Array], methods: Mapping[str, Method], recipe: SuperResolutionRecipe, picture: Path
) -> dict[str, object]:
    scores: dict[str, list[Scores]] = {name: [] for name in methods}
    sharpness: list[float] = []
    rows: list[list[Array]] = []
    for fine in slices:
        coarse = degraded(fine, FACTOR)
        scale = intensity.fit(coarse, recipe.intensity.percentiles)
        truth = _centre(scale.to_unit(fine))
        sharpness.append(cpbd(truth, -1.0, 1.0))
        shown = [_centre(scale.to_unit(_resized(coarse, Image.Resampling.NEAREST)))]
        for name, method in methods.items():
            result = method(coarse, scale)
            seen = _centre(scale.to_unit(result))
            scores[name].append(_scores(seen, truth) | {"left_over": _left_over(result, coarse, scale)})
            if name in ("cubic", GENERATOR):
                shown.insert(1, seen)  # cubic comes after the generator, and stands before it
        if len(rows) < 4:
            rows.append([image[112 : 112 + SHOWN, 112 : 112 + SHOWN] for image in (*shown, truth)])
    draw_grid(rows, picture)
    return {
        "patients": len(sharpness),
        "truth_cpbd": float(np.mean(sharpness)),
        "methods": {name: summary(values) for name, values in scores.items()},
        "generator_minus": {
            name: differences(scores[GENERATOR], values) for name, values in scores.items() if name != GENERATOR
        },
    }


def _scores(result: Array, truth: Array) -> dict[str, float]:
    similarity = asdict(compare(result, truth, 2.0))
    return similarity | {"vifp": vifp(result, truth, 2.0), "cpbd": cpbd(result, -1.0, 1.0)}


def _left_over(fine: Array, coarse: Array, scale: IntensityMap) -> float:
    """How far the result, made coarse again, lies from what came in: RMS as a share of the range."""
    return float(np.sqrt(np.mean((degraded(fine, FACTOR) - coarse) ** 2))) / (scale.high - scale.low)


def _centre(image: Array) -> Array:
    rim = round(0.5 * (1.0 - CENTRE) * image.shape[0])
    return image[rim : image.shape[0] - rim, rim : image.shape[1] - rim]


def _linear(coarse: Array, scale: IntensityMap) -> Array:
    return _resized(coarse, Image.Resampling.BILINEAR)


def _cubic(coarse: Array, scale: IntensityMap) -> Array:
    return _resized(coarse, Image.Resampling.BICUBIC)


def _lanczos(coarse: Array, scale: IntensityMap) -> Array:
    return _resized(coarse, Image.Resampling.LANCZOS)


def _resized(coarse: Array, how: Image.Resampling) -> Array:
    rows, columns = coarse.shape
    return np.asarray(Image.fromarray(coarse).resize((FACTOR * columns, FACTOR * rows), how), dtype=np.float32)
