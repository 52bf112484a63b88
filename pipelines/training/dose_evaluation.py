"""Measures a CT denoiser beside classic filters on virtual patients that no training has seen."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.intensity import Array
from pipelines.kinds.denoise import BLOCK, KEPT_HU, means_kept
from pipelines.metrics.ct import contrast_to_noise, frequency_at, hu_bias, noise_spectrum, task_transfer
from pipelines.metrics.similarity import compare
from pipelines.phantoms.body import AxialBody, Matter, Shape, texture_fields
from pipelines.phantoms.ct import SOFT, Grid, Kernel, axial_body, scan
from pipelines.training.body_bank import draw_grid, draw_kernel, hounsfield_map
from pipelines.training.dose_baselines import Filter, noise_sigma, tuned
from pipelines.training.pictures import draw_grid as draw_picture
from pipelines.training.recipe import DenoiseRecipe
from pipelines.training.release import METRICS, load_generator
from pipelines.training.summaries import Scores, differences, summary
from pipelines.training.trainer import BEST, translate

log = logging.getLogger("pipelines.training")
DENOISER, UNTOUCHED = "denoiser", "noisy"
WINDOW_HU = (-160.0, 240.0)  # soft tissue; similarity is that of what a reader sees
TISSUES = {matter.name.lower(): int(matter) for matter in Matter if matter not in (Matter.BORDER, Matter.OTHER)}
DOSES = {"quarter": 0.25, "tenth": 0.1}
HALO = 48  # pixels; more than a denoiser of twelve layers looks around itself
SHIFTED_DOSE, SHIFTED_KERNEL, SHIFTED_SCALE, SHIFTED_LESIONS = 0.1, Kernel("sharper", 1.9), 1.12, 4.0
LOW_CONTRAST_HU, LOW_CONTRAST_MM = 15.0, 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One slice of one patient: without noise and at a dose, in HU, and what lies where."""

    clean: Array
    noisy: Array
    matter: NDArray[np.uint8]


def held_out(seed: int, dose: float, recipe: DenoiseRecipe) -> Scan:
    """A slice of patient `seed` as training draws them."""
    rng = np.random.default_rng([seed, 31])
    body = axial_body(seed)
    return _scan(body, draw_grid(body, recipe.phantoms.test_size, rng, recipe), dose, draw_kernel(rng, recipe), rng)


def shifted(seed: int, dose: float, recipe: DenoiseRecipe) -> Scan:
    """A larger patient with more lesions, seen through a sharper kernel than any in training."""
    rng = np.random.default_rng([seed, 37])
    body = axial_body(seed, lesion_rate=SHIFTED_LESIONS, scale=SHIFTED_SCALE)
    return _scan(body, draw_grid(body, recipe.phantoms.test_size, rng, recipe), dose, SHIFTED_KERNEL, rng)


def _scan(body: AxialBody, grid: Grid, dose: float, kernel: Kernel, rng: np.random.Generator) -> Scan:
    one = scan(body, grid, dose, rng)
    clean, noisy = one.seen(kernel)
    return Scan(clean, noisy, one.matter)


def evaluate(recipe: DenoiseRecipe, run: Path) -> None:
    """Writes `run`/metrics.json: each method at a quarter and a tenth of the dose, on shifted patients, on a bench."""
    generator, scale = load_generator(recipe, run / BEST), hounsfield_map(recipe)

    def denoiser(noisy: Array, _: float) -> Array:
        unit = np.pad(scale.to_unit(noisy), HALO, mode="symmetric")
        noise = scale.from_unit(unit) - scale.from_unit(translate(generator, unit[None]))
        return means_kept(noisy, noisy - noise[HALO:-HALO, HALO:-HALO], recipe.intensity.hu)

    sets = recipe.phantoms
    report: dict[str, object] = {"pipeline": recipe.id, "version": recipe.version, "window_hu": list(WINDOW_HU)}
    validation = range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients)
    test = range(sets.test_first_seed, sets.test_first_seed + sets.test_patients)

    def methods_at(dose: float) -> dict[str, Filter]:
        fitting = [held_out(seed, dose, recipe) for seed in validation]
        baselines = tuned([(one.noisy[:256, :256], one.clean[:256, :256]) for one in fitting])
        return {DENOISER: denoiser, UNTOUCHED: lambda noisy, _: noisy, **baselines}

    for name, dose, draw in (
        *((name, dose, held_out) for name, dose in DOSES.items()),
        ("shifted", SHIFTED_DOSE, shifted),
    ):
        scans = (draw(seed, dose, recipe) for seed in test)
        report[name] = {"dose": dose, **_measure(scans, methods_at(dose), run / f"{name}.png")}
        log.info("%s measured", name)
    report["bench"] = _bench(methods_at(DOSES["quarter"]), sets.bench_scans)
    (run / METRICS).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _measure(scans: Iterator[Scan], methods: Mapping[str, Filter], picture: Path) -> dict[str, object]:
    scores: dict[str, list[Scores]] = {name: [] for name in methods}
    biases: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    errors: dict[str, list[Array]] = {name: [] for name in methods}
    moves: dict[str, list[Array]] = {name: [] for name in methods}
    rows: list[list[Array]] = []
    for one in scans:
        sigma = noise_sigma(one.noisy, one.clean)
        results = {name: method(one.noisy, sigma) for name, method in methods.items()}
        for name, result in results.items():
            scores[name].append(_similarity(result, one))
            biases[name].append(hu_bias(result, one.clean, one.matter, TISSUES))
            errors[name].append(_flat_blocks(result - one.clean, one))
            moves[name].append(_flat_blocks(result - one.noisy, one))
        if len(rows) < 4:
            shown = (one.noisy, results["nlm"], results[DENOISER], one.clean)
            rows.append([(image[64:320, 64:320] - WINDOW_HU[0]) / 200.0 - 1.0 for image in shown])
    draw_picture(rows, picture)
    others = [name for name in methods if name != DENOISER]
    return {
        "patients": len(scores[DENOISER]),
        "methods": {name: summary(values) for name, values in scores.items()},
        "denoiser_minus": {name: differences(scores[DENOISER], scores[name]) for name in others},
        "bias_hu": {name: _by_tissue(values) for name, values in biases.items()},
        "flat_blocks": {
            name: _blocks_summary(np.concatenate(errors[name]), np.concatenate(moves[name])) for name in methods
        },
    }


def _similarity(result: Array, one: Scan) -> dict[str, float]:
    """PSNR and SSIM of the soft-tissue window, and the error within the body in HU."""
    low, high = WINDOW_HU
    scores = asdict(compare(np.clip(result, low, high), np.clip(one.clean, low, high), high - low))
    body = one.matter != Matter.AIR
    error = float(np.sqrt(np.mean((result[body].astype(np.float64) - one.clean[body]) ** 2)))
    return {name: scores[name] for name in ("psnr_db", "ssim", "ssim_7x7")} | {"rmse_hu": error}


def _flat_blocks(difference: Array, one: Scan) -> Array:
    """Mean of `difference` over each block of the body that shows no border in the truth."""
    rows, columns = (length // BLOCK for length in one.clean.shape)

    def blocks(image: NDArray[Any]) -> NDArray[Any]:
        return image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)

    flat = (np.std(blocks(one.clean), axis=(1, 3)) < 10.0) & np.all(blocks(one.matter) != Matter.AIR, axis=(1, 3))
    return np.asarray(np.mean(blocks(difference), axis=(1, 3))[flat], dtype=np.float32)


def _blocks_summary(errors: Array, moves: Array) -> dict[str, float]:
    """Shares of blocks whose mean lies near the truth and near that of the scan, and how far 99 in 100 lie."""
    return {
        "blocks": float(errors.size),
        "true_within_2_hu": float(np.mean(np.abs(errors) <= KEPT_HU)),
        "true_p99_hu": float(np.percentile(np.abs(errors), 99)),
        "kept_within_2_hu": float(np.mean(np.abs(moves) <= KEPT_HU)),
        "kept_p99_hu": float(np.percentile(np.abs(moves), 99)),
    }


def _by_tissue(patients: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean bias, and its mean size, over the patients that show the tissue."""
    table = {}
    for tissue in TISSUES:
        values = np.array([one[tissue] for one in patients if tissue in one])
        if values.size:
            table[tissue] = {"mean": float(values.mean()), "mean_absolute": float(np.abs(values).mean())}
    return table


def _bench(methods: Mapping[str, Filter], count: int) -> dict[str, dict[str, float]]:
    """Each method on scans of a water-like disc at a quarter of the dose, with a faint and a bright insert.

    Noise that is left, its mean frequency, the frequency at which the edge of the bright insert has lost half, and the
    contrast-to-noise ratio and mean contrast of the faint one.
    """
    body, grid = _bench_body(), Grid(256, 256, 0.7)
    rngs = [np.random.default_rng([seed, 41]) for seed in range(count)]
    scans = [scan(body, grid, DOSES["quarter"], rng).seen(SOFT) for rng in rngs]
    x, y = grid.axes_mm()
    faint = np.hypot(x[None, :] + 45.0, y[:, None]) < LOW_CONTRAST_MM - 2.0
    around = (np.hypot(x[None, :] + 45.0, y[:, None]) > LOW_CONTRAST_MM + 3.0) & (
        np.hypot(x[None, :] + 45.0, y[:, None]) < 24.0
    )
    table = {}
    for name, method in methods.items():
        images = [method(noisy, noise_sigma(noisy, clean)) for clean, noisy in scans]
        mean = np.mean(images, axis=0)
        spectrum = noise_spectrum([(image - mean)[32:96, 96:160] for image in images], grid.spacing_mm)
        frequency, transfer = task_transfer(mean, (127.5, 127.5 + 45.0 / 0.7), 12.0 / 0.7, grid.spacing_mm)
        table[name] = {
            "sigma_hu": spectrum.sigma_hu * float(np.sqrt(count / (count - 1))),
            "mean_frequency_per_mm": spectrum.mean_frequency_per_mm,
            "half_transfer_per_mm": frequency_at(frequency, transfer),
            "low_contrast_cnr": float(np.mean([contrast_to_noise(image, faint, around) for image in images])),
            "low_contrast_hu": float(mean[faint].mean() - mean[around].mean()),
        }
    return table


def _bench_body() -> AxialBody:
    """A disc of 300 mm of 50 HU with two inserts, a faint and a bright one."""
    disc = Shape(Matter.MUSCLE, (0.0, 0.0), (150.0, 150.0), 50.0, within="")
    faint = Shape(Matter.LESION, (-45.0, 0.0), (LOW_CONTRAST_MM, LOW_CONTRAST_MM), 50.0 + LOW_CONTRAST_HU)
    bright = Shape(Matter.LESION, (45.0, 0.0), (12.0, 12.0), 150.0)
    fields = texture_fields(np.random.default_rng(0))
    return AxialBody(0, "bench", (disc, faint, bright), disc, disc, (150.0, 150.0), 0.0, fields)
