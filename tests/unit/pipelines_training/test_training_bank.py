"""Training pairs from painted anatomy: registered, in range, drawn from seeds; then evaluation and release."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.phantoms.tissues import Tissue
from pipelines.spec import read_manifest
from pipelines.training.bank import Bank, build_bank
from pipelines.training.baselines import fit_baselines
from pipelines.training.card import with_measurements
from pipelines.training.pix2pix import make_generator
from pipelines.training.recipe import Contrasts, TranslationRecipe
from pipelines.training.release import release
from pipelines.training.tasks import task_of
from pipelines.training.trainer import BEST, save_generator
from pipelines.training.visits import shifted_visit, visit

WEIGHTS = Path(__file__).parents[3] / "weights" / "t2-to-stir"


@pytest.fixture
def bank(tiny_recipe: TranslationRecipe, tmp_path: Path) -> Bank:
    return build_bank(tiny_recipe, tmp_path)


def test_a_bank_is_painted_once(tiny_recipe: TranslationRecipe, bank: Bank, tmp_path: Path) -> None:
    (path,) = tmp_path.glob("points-*.npy")
    written = path.stat().st_mtime_ns
    again = build_bank(tiny_recipe, tmp_path)
    assert path.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.points, bank.points)


def test_pairs_follow_their_random_generator(tiny_recipe: TranslationRecipe, bank: Bank) -> None:
    first = bank.pair(np.random.default_rng(5), 64, tiny_recipe.contrasts, tiny_recipe.intensity)
    again = bank.pair(np.random.default_rng(5), 64, tiny_recipe.contrasts, tiny_recipe.intensity)
    assert first[0].shape == (1, 64, 64)
    assert first[1].shape == (64, 64)
    for one, other in zip(first, again, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one).max() <= 1
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(
        first[0], bank.pair(np.random.default_rng(6), 64, tiny_recipe.contrasts, tiny_recipe.intensity)[0]
    )


def test_two_sources_are_two_channels_of_one_visit(tiny_recipe: TranslationRecipe, bank: Bank) -> None:
    contrasts = Contrasts(("T1W", "T2W"), "STIR")
    real_a, real_b, _ = bank.pair(np.random.default_rng(5), 64, contrasts, tiny_recipe.intensity)
    assert real_a.shape == (2, 64, 64)
    assert real_b.shape == (64, 64)
    one = visit(21, replace(tiny_recipe, contrasts=contrasts), slices=2)
    assert one.real_a.shape == (2, 2, *one.real_b.shape[1:])
    csf, fat = (one.tissues == tissue for tissue in (Tissue.CSF, Tissue.SUBCUTANEOUS_FAT))
    t1w, t2w = one.real_a[:, 0], one.real_a[:, 1]
    assert t1w[fat].mean() > t1w[csf].mean() + 0.3
    assert t2w[csf].mean() > t1w[csf].mean() + 0.3


def test_a_map_of_two_grey_values_knows_more_than_one(tiny_recipe: TranslationRecipe) -> None:
    both = visit(21, replace(tiny_recipe, contrasts=Contrasts(("T1W", "T2W"), "STIR")), slices=3)
    pairs = [(real_a, real_b) for real_a, real_b in zip(both.real_a, both.real_b, strict=True)]
    alone = [(real_a[1:], real_b) for real_a, real_b in pairs]
    errors = [
        np.mean((fit_baselines(known[:2])["pixel_map"](known[2][0]) - known[2][1]) ** 2) for known in (pairs, alone)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_a_visit_shows_a_stir_beside_its_t2w(tiny_recipe: TranslationRecipe) -> None:
    one = visit(21, tiny_recipe, slices=3)
    assert one.real_a[:, 0].shape == one.real_b.shape == one.tissues.shape

    def mean(image: np.ndarray, tissue: Tissue) -> float:
        return float(image[one.tissues == tissue].mean())

    assert mean(one.real_a[:, 0], Tissue.SUBCUTANEOUS_FAT) > mean(one.real_a[:, 0], Tissue.MUSCLE) + 0.2
    assert mean(one.real_b, Tissue.SUBCUTANEOUS_FAT) < mean(one.real_b, Tissue.MUSCLE)
    assert mean(one.real_b, Tissue.CSF) == pytest.approx(2 * 1000 / 1250 - 1, abs=0.35)


def test_the_shifted_set_lies_outside_training(tiny_recipe: TranslationRecipe) -> None:
    inside, outside = visit(21, tiny_recipe, slices=1), shifted_visit(21, tiny_recipe)
    muscle = [one.patient.compartments[Tissue.MUSCLE].t1_ms for one in (inside, outside)]
    assert muscle[1] == pytest.approx(1.2 * muscle[0])


def test_a_run_is_evaluated_and_released(tiny_recipe: TranslationRecipe, tmp_path: Path) -> None:
    run, weights = tmp_path / "run", tmp_path / "t2-to-stir"
    run.mkdir()
    weights.mkdir()
    for name in ("manifest.toml", "card.md"):
        shutil.copy(WEIGHTS / name, weights)
    save_generator(make_generator(tiny_recipe), run / BEST)
    task_of(tiny_recipe).evaluate(tiny_recipe, run)
    release(tiny_recipe, run, weights)
    spec = read_manifest(weights)
    assert spec.version == tiny_recipe.version
    assert spec.generator.sha256 == hashlib.sha256(spec.weights_path.read_bytes()).hexdigest()
    assert spec.generator.parameters["ngf"] == tiny_recipe.networks.ngf
    assert spec.output.range == (0.0, 1250.0)
    measured = json.loads((weights / "metrics.json").read_text(encoding="utf-8"))["held_out"]
    untrained, pixel_map = (measured["methods"][name]["mse"]["mean"] for name in ("generator", "pixel_map"))
    assert pixel_map < untrained  # weights that learned nothing lose to a map of single pixels
    assert measured["generator_minus"]["pixel_map"]["mse"]["mean"] == pytest.approx(untrained - pixel_map)
    assert f"{pixel_map * 1000:.3f}" in (weights / "card.md").read_text(encoding="utf-8")


def test_the_released_card_shows_the_released_metrics() -> None:
    metrics = json.loads((WEIGHTS / "metrics.json").read_text(encoding="utf-8"))
    card = (WEIGHTS / "card.md").read_text(encoding="utf-8")
    assert with_measurements(card, metrics) == card
    assert metrics["version"] == read_manifest(WEIGHTS).version
    for measured in (metrics["held_out"], metrics["shifted"]):
        assert measured["patients"] >= 30
    for baseline in metrics["held_out"]["generator_minus"].values():
        assert baseline["mse"]["high"] < 0
        assert baseline["psnr_db"]["low"] > 0
        assert baseline["ssim"]["low"] > 0
