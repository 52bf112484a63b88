"""The training of thin slices: pairs from volumes, baselines, a bench, evaluation and release."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.networks import ThinSlices
from pipelines.spec import read_manifest
from pipelines.training.late_adversary import make_residual
from pipelines.training.recipe import (
    RECIPES,
    HounsfieldScale,
    LateAdversarySchedule,
    ResidualSizes,
    ThinSliceRecipe,
    VolumeSets,
    read_recipe,
)
from pipelines.training.release import release
from pipelines.training.tasks import THIN_SLICE, task_of
from pipelines.training.thin_baselines import BASELINES, cubic, cubic_kept, linear, nearest
from pipelines.training.thin_bench import bench, edge_width
from pipelines.training.trainer import BEST, save_generator
from pipelines.training.volume_bank import VolumeBank, build_volume_bank

WEIGHTS = Path(__file__).parents[3] / "weights" / "ct-thin-slice"


@pytest.fixture(scope="module")
def recipe() -> ThinSliceRecipe:
    return ThinSliceRecipe(
        id="ct-thin-slice",
        version="0.0.1",
        kind="thin-slice",
        seed=5,
        networks=ResidualSizes("thin-slices", width=8, blocks=1, ndf=4),
        schedule=LateAdversarySchedule(
            steps=60,
            decay_from=50,
            batch=2,
            learning_rate=2e-3,
            betas=(0.9, 0.99),
            ema=0.9,
            validate_every=10,
            adversarial_from=45,
            pixel_weight=1.0,
            edge_weight=1.0,
            gan_weight=0.001,
        ),
        phantoms=VolumeSets(
            train_first_seed=1,
            train_patients=2,
            validation_first_seed=11,
            validation_patients=1,
            test_first_seed=21,
            test_patients=2,
            test_size=64,
            thick_slices=5,
            stored=64,
            patch=48,
            margin=8,
            doses=(0.3, 1.5),
            cutoffs_per_mm=(0.65, 1.5),
            pixel_spacing_mm=(0.6, 0.98),
            thickness_mm=(0.8, 1.2),
        ),
        intensity=HounsfieldScale((-1024.0, 3071.0)),
    )


@pytest.fixture(scope="module")
def bank(recipe: ThinSliceRecipe, tmp_path_factory: pytest.TempPathFactory) -> VolumeBank:
    return build_volume_bank(recipe, tmp_path_factory.mktemp("bank"))


def test_pairs_follow_their_random_generator_and_their_means_agree(bank: VolumeBank) -> None:
    (thick, thin), again = (bank.pair(np.random.default_rng(5)) for _ in range(2))
    assert thick.shape == thin.shape == (5, 48, 48)
    np.testing.assert_array_equal(thick, again[0])
    np.testing.assert_array_equal(thin, again[1])
    assert not np.array_equal(thick, bank.pair(np.random.default_rng(6))[0])
    np.testing.assert_allclose(thin.mean(axis=0), thick[2], atol=1e-4)


def test_the_generator_keeps_the_mean_whatever_its_weights() -> None:
    torch.manual_seed(1)
    thick = 0.1 * torch.randn(2, 5, 32, 24) - 0.48
    thin = ThinSlices(width=8, blocks=2)(thick)
    assert thin.shape == (2, 5, 32, 24)
    assert (thin - thick[:, 2:3]).abs().mean() > 0.01
    torch.testing.assert_close(thin.mean(dim=1), thick[:, 2], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="blocks 0"):
        ThinSlices(blocks=0)


def test_a_pixel_further_than_the_halo_has_no_say() -> None:
    network = ThinSlices(width=4, blocks=2)
    one = torch.zeros(1, 5, 96, 96)
    other = one.clone()
    other[..., 48, 48] = 1.0
    changed = (network(one) - network(other)).abs()[0].sum(dim=0).nonzero()
    assert 2 < int((changed - 48).abs().max()) <= network.halo


def test_the_baselines_are_exact_where_they_have_to_be() -> None:
    middles = np.arange(6, dtype=np.float32)[:, None, None] * np.ones((1, 4, 3), np.float32)
    z = (np.arange(30) - 2.0) / 5.0
    for method in (linear, cubic):
        np.testing.assert_allclose(method(middles)[2:-2, 0, 0], z[2:-2], atol=1e-5)
        assert method(middles)[0, 0, 0] == pytest.approx(0.0, abs=1e-6)  # nothing is extrapolated
    noisy = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    assert (nearest(noisy)[5:10] == noisy[1]).all()
    np.testing.assert_allclose(cubic_kept(noisy).reshape(6, 5, 4, 3).mean(axis=1), noisy, atol=1e-5)


def test_the_width_of_an_edge_is_measured_between_its_tenths() -> None:
    falling = np.interp(np.arange(30), [10, 20], [300, 50]).astype(np.float32)
    assert edge_width(falling) == pytest.approx(8.0, abs=1e-3)


def test_the_bench_knows_the_truth_and_what_thick_slices_hide() -> None:
    table = bench({"nearest": BASELINES["nearest"]})
    assert table["truth"]["edge_mm"] < 1.6
    assert table["nearest"]["edge_mm"] > 2 * table["truth"]["edge_mm"]
    shares = [table["nearest"][f"sphere_{size}_mm_share"] for size in (2, 4, 8)]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < shares[2] < 1.0
    assert all(value == 1.0 for name, value in table["truth"].items() if name.endswith("share"))


def test_a_run_is_evaluated_and_released(recipe: ThinSliceRecipe, tmp_path: Path) -> None:
    run, weights = tmp_path / "run", tmp_path / "ct-thin-slice"
    run.mkdir()
    weights.mkdir()
    for name in ("manifest.toml", "card.md"):
        shutil.copy(WEIGHTS / name, weights)
    torch.manual_seed(0)
    network = make_residual(recipe)
    with torch.no_grad():
        for parameter in list(network.parameters())[-2:]:
            parameter *= 0.01
    save_generator(network, run / BEST)
    task_of(recipe).evaluate(recipe, run)
    release(recipe, run, weights)
    spec = read_manifest(weights)
    assert spec.generator.sha256 == hashlib.sha256(spec.weights_path.read_bytes()).hexdigest()
    measured = json.loads((weights / "metrics.json").read_text(encoding="utf-8"))["held_out"]["methods"]
    assert measured["generator"]["mean_kept_hu"]["mean"] < 0.1 < measured["linear"]["mean_kept_hu"]["mean"]
    assert measured["cubic"]["rmse_hu"]["mean"] > 1
    assert f"{measured['cubic']['psnr_db']['mean']:.2f}" in (weights / "card.md").read_text(encoding="utf-8")


def test_the_recipe_that_ships_is_one_of_this_kind() -> None:
    shipped = read_recipe(RECIPES / "ct-thin-slice.toml")
    assert isinstance(shipped, ThinSliceRecipe)
    assert task_of(shipped) is THIN_SLICE
    assert THIN_SLICE.half_precision_limit * 2047.5 < 2


def test_the_released_card_shows_the_released_metrics() -> None:
    metrics = json.loads((WEIGHTS / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["version"] == read_manifest(WEIGHTS).version
    for name in ("held_out", "shifted"):
        measured = metrics[name]
        assert measured["patients"] >= 30
        for baseline in BASELINES:
            assert measured["generator_minus"][baseline]["psnr_db"]["low"] > 0
            assert baseline == "linear" or measured["generator_minus"][baseline]["ssim"]["low"] > 0
            assert measured["generator_minus"][baseline]["rmse_hu"]["high"] < 0
