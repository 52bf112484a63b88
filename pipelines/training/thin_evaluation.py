"""Measures thin slices beside interpolations along z, on virtual patients that no training has seen."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from pipelines.intensity import Array
from pipelines.kinds.thin_slice import neighbours
from pipelines.metrics.similarity import compare
from pipelines.networks.thin_slices import CONTEXT, FOLD
from pipelines.phantoms.ct import Kernel
from pipelines.phantoms.ct_volume import ThinScan, scan_volume, thickened
from pipelines.phantoms.trunk_volume import trunk_volume
from pipelines.training.pictures import draw_grid
from pipelines.training.recipe import ThinSliceRecipe
from pipelines.training.release import METRICS, load_generator
from pipelines.training.summaries import Scores, differences, summary
from pipelines.training.thin_baselines import BASELINES, Method, nearest
from pipelines.training.thin_bench import bench
from pipelines.training.trainer import BEST, translate
from pipelines.training.volume_bank import draw_part, hounsfield_map, scanned_volume

log = logging.getLogger("pipelines.training")
GENERATOR = "generator"
WINDOW_HU = (-160.0, 240.0)  # soft tissue; similarity is that of what a reader sees
BODY_HU = -950.0  # in slices without noise nothing outside the body lies above it
SHIFTED_KERNEL, SHIFTED_DOSE, SHIFTED_THICKNESS_MM = Kernel("sharper", 1.9), 1.0, 1.2
SHIFTED_SCALE, SHIFTED_LESIONS, SHIFTED_STEEPNESS = 1.12, 4.0, 1.5
HALO = 24  # pixels; more than a generator of four blocks looks around itself


def shifted(seed: int, size: int, recipe: ThinSliceRecipe) -> ThinScan:
    """A larger patient, steeper ribs and vessels, more lesions, 6 mm, and a sharper kernel than any in training."""
    rng = np.random.default_rng([seed, 47])
    patient = trunk_volume(seed, None, SHIFTED_LESIONS, SHIFTED_SCALE, SHIFTED_STEEPNESS)
    grid, slices = draw_part(patient, size, rng, recipe), recipe.phantoms.thick_slices
    return scan_volume(patient, grid, slices, SHIFTED_THICKNESS_MM, SHIFTED_KERNEL, SHIFTED_DOSE, rng)


def evaluate(recipe: ThinSliceRecipe, run: Path) -> None:
    """Writes `run`/metrics.json: each method on held-out and on shifted patients, and on a bench."""
    methods = {GENERATOR: refined(load_generator(recipe, run / BEST), recipe), **BASELINES}
    sets = recipe.phantoms
    test = range(sets.test_first_seed, sets.test_first_seed + sets.test_patients)
    report: dict[str, object] = {
        "pipeline": recipe.id,
        "version": recipe.version,
        "kind": recipe.kind,
        "window_hu": list(WINDOW_HU),
    }
    draws: Mapping[str, Callable[[int, int, ThinSliceRecipe], ThinScan]] = {
        "held_out": scanned_volume,
        "shifted": shifted,
    }
    for name, draw in draws.items():
        scans = (draw(seed, sets.test_size, recipe) for seed in test)
        report[name] = _measure(scans, methods, run / f"{name}.png")
        log.info("%s measured", name)
    report["bench"] = bench(methods)
    (run / METRICS).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def refined(generator: nn.Module, recipe: ThinSliceRecipe) -> Method:
    """The generator as a method on whole volumes in HU."""
    scale = hounsfield_map(recipe)

    def method(thick: Array) -> Array:
        unit = np.pad(scale.to_unit(thick), ((0, 0), (HALO, HALO), (HALO, HALO)), mode="symmetric")
        shows = np.ones(len(thick), dtype=np.bool_)
        thin = [translate(generator, unit[neighbours(index, shows, CONTEXT)]) for index in range(len(thick))]
        detail = (np.concatenate(thin) - nearest(unit))[:, HALO:-HALO, HALO:-HALO] * np.float32(
            0.5 * (scale.high - scale.low)
        )
        outside = nearest((thick < recipe.intensity.hu[0]) | (thick > recipe.intensity.hu[1]))
        return np.asarray(nearest(thick) + np.where(outside, np.float32(0.0), detail), dtype=np.float32)

    return method


def _measure(scans: Iterator[ThinScan], methods: Mapping[str, Method], picture: Path) -> dict[str, object]:
    scores: dict[str, list[Scores]] = {name: [] for name in methods}
    rows: list[list[Array]] = []
    for one in scans:
        thick = one.thick()
        results = {name: method(thick) for name, method in methods.items()}
        for name, result in results.items():
            scores[name].append(_scores(result, one.thin, thick))
        if len(rows) < 6:
            shown = (results["nearest"], results["cubic"], results[GENERATOR], one.thin)
            rows.append([_sagittal(volume) for volume in shown])
    draw_grid(rows, picture)
    others = [name for name in methods if name != GENERATOR]
    return {
        "patients": len(scores[GENERATOR]),
        "methods": {name: summary(values) for name, values in scores.items()},
        "generator_minus": {name: differences(scores[GENERATOR], scores[name]) for name in others},
    }


def _scores(result: Array, truth: Array, thick: Array) -> dict[str, float]:
    """Against thin slices without noise, in the soft-tissue window: PSNR, SSIM of axial and of sagittal slices.

    SSIM is taken of every seventh axial slice, so of all five places in a thick one, and of every eighth sagittal one.
    In HU: the error within the body; the same where the noise of the thick slice counts as truth, so that smearing it
    into its neighbours is no gain; how far the mean over each thick slice is from that slice.
    """
    low, high = WINDOW_HU
    seen, wanted = np.clip(result, low, high), np.clip(truth, low, high)
    axial = asdict(compare(seen[2::7], wanted[2::7], high - low))
    sagittal = compare(seen.transpose(2, 0, 1)[4::8], wanted.transpose(2, 0, 1)[4::8], high - low)
    body = truth > BODY_HU
    measured = truth + nearest(thick - thickened(truth))
    kept = result.reshape(len(thick), FOLD, *thick.shape[1:]).mean(axis=1) - thick
    return {
        "psnr_db": float(-10.0 * np.log10(np.mean((seen.astype(np.float64) - wanted) ** 2) / (high - low) ** 2)),
        "ssim": axial["ssim"],
        "ssim_7x7": axial["ssim_7x7"],
        "ssim_sagittal": sagittal.ssim,
        "rmse_hu": float(np.sqrt(np.mean((result[body].astype(np.float64) - truth[body]) ** 2))),
        "rmse_noise_kept_hu": float(np.sqrt(np.mean((result[body].astype(np.float64) - measured[body]) ** 2))),
        "mean_kept_hu": float(np.sqrt(np.mean(kept.astype(np.float64) ** 2))),
    }


def _sagittal(volume: Array) -> Array:
    """A sagittal slice through the middle, head up, in the soft-tissue window, twice as large."""
    plane = volume[::-1, :, volume.shape[2] // 2]
    shown = (plane - WINDOW_HU[0]) / (0.5 * (WINDOW_HU[1] - WINDOW_HU[0])) - 1.0
    return np.asarray(np.pad(np.kron(shown, np.ones((2, 2))), 2, constant_values=1.0), dtype=np.float32)
