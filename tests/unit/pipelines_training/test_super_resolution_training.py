"""Super-resolution: exact back-projection, pairs, a network that begins near interpolation, evaluation and release."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.degradation import back_projected, degradation, degraded, restoration
from pipelines.networks import EDSR
from pipelines.networks.edsr import draw_weights, linear
from pipelines.spec import read_manifest
from pipelines.training.fine_bank import FineBank, build_fine_bank
from pipelines.training.late_adversary import make_residual
from pipelines.training.recipe import (
    FineSets,
    LateAdversarySchedule,
    ResidualSizes,
    SeriesScale,
    SuperResolutionRecipe,
)
from pipelines.training.release import release
from pipelines.training.tasks import task_of
from pipelines.training.trainer import BEST, save_generator

WEIGHTS = Path(__file__).parents[3] / "weights" / "t2-super-resolution"


@pytest.fixture(scope="module")
def recipe() -> SuperResolutionRecipe:
    return SuperResolutionRecipe(
        id="t2-super-resolution",
        version="0.0.1",
        kind="super-resolve",
        seed=5,
        networks=ResidualSizes("edsr", width=8, blocks=1, ndf=4),
        schedule=LateAdversarySchedule(
            steps=60,
            decay_from=50,
            batch=2,
            learning_rate=3e-3,
            betas=(0.5, 0.99),
            ema=0.9,
            validate_every=10,
            adversarial_from=45,
            pixel_weight=1.0,
            edge_weight=0.5,
            gan_weight=0.002,
        ),
        phantoms=FineSets(
            train_first_seed=1,
            train_patients=2,
            train_slices=1,
            validation_first_seed=11,
            validation_patients=1,
            test_first_seed=21,
            test_patients=2,
            matrix=256,
            patch=64,
            margin=8,
            coverage=0.75,
        ),
        intensity=SeriesScale((0.5, 99.5), jitter=0.1),
    )


@pytest.fixture(scope="module")
def bank(recipe: SuperResolutionRecipe, tmp_path_factory: pytest.TempPathFactory) -> FineBank:
    return build_fine_bank(recipe, tmp_path_factory.mktemp("bank"))


def test_a_coarse_pixel_is_a_mean_under_a_triangle() -> None:
    down = degradation(8, 4)
    np.testing.assert_allclose(down.sum(axis=1), 1.0, atol=1e-6)
    weights = down[3][down[3] > 0] * 16
    np.testing.assert_allclose(weights, [0.5, 1.5, 2.5, 3.5, 3.5, 2.5, 1.5, 0.5], atol=1e-5)
    ramp = np.arange(32, dtype=np.float32)
    np.testing.assert_allclose((down @ ramp)[1:-1], 4 * np.arange(1, 7) + 1.5, atol=1e-4)


def test_back_projection_leaves_nothing_over_and_amplifies_little() -> None:
    rng = np.random.default_rng(3)
    fine, coarse = (rng.standard_normal(shape).astype(np.float32) for shape in ((96, 128), (24, 32)))
    exact = back_projected(fine, coarse, 4)
    np.testing.assert_allclose(degraded(exact, 4), coarse, atol=1e-5)
    np.testing.assert_allclose(back_projected(exact, coarse, 4), exact, atol=1e-5)
    assert np.linalg.norm(restoration(64, 4), 2) * np.linalg.norm(degradation(64, 4), 2) < 2


def test_the_bank_is_built_once_and_pairs_follow_their_random_generator(
    recipe: SuperResolutionRecipe, bank: FineBank, tmp_path: Path
) -> None:
    (coarse, fine), again = (bank.pair(np.random.default_rng(5)) for _ in range(2))
    assert (coarse.shape, fine.shape) == ((1, 16, 16), (64, 64))
    np.testing.assert_array_equal(fine, again[1])
    assert not np.array_equal(fine, bank.pair(np.random.default_rng(6))[1])
    assert np.abs(degraded(fine, 4) - coarse[0])[2:-2, 2:-2].mean() < 0.02  # but where values were clipped


def test_the_network_begins_near_the_linear_interpolation_and_sees_no_further_than_its_halo() -> None:
    torch.manual_seed(1)
    network = EDSR(width=8, blocks=2)
    draw_weights(network)
    one = torch.zeros(1, 1, 48, 48)
    other = one.clone()
    other[..., 24, 24] = 1.0
    with torch.no_grad():
        assert float((network(other) - linear(other)).abs().max()) < 0.1
        changed = ((network(one) - network(other)).abs()[0, 0] > 0).nonzero()
    assert int((changed // 4 - 24).abs().max()) <= network.halo
    with pytest.raises(ValueError, match="multiple of 4"):
        EDSR(width=6)


def test_a_run_is_evaluated_and_released(recipe: SuperResolutionRecipe, tmp_path: Path) -> None:
    run, weights = tmp_path / "run", tmp_path / "t2-super-resolution"
    run.mkdir()
    weights.mkdir()
    for name in ("manifest.toml", "card.md"):
        shutil.copy(WEIGHTS / name, weights)
    torch.manual_seed(0)
    network = make_residual(recipe)
    assert isinstance(network, EDSR)
    draw_weights(network)
    save_generator(network, run / BEST)
    task_of(recipe).evaluate(recipe, run)
    release(recipe, run, weights)
    spec = read_manifest(weights)
    assert spec.generator.sha256 == hashlib.sha256(spec.weights_path.read_bytes()).hexdigest()
    measured = json.loads((weights / "metrics.json").read_text(encoding="utf-8"))
    scores = measured["held_out"]["methods"]
    assert scores["lanczos"]["psnr_db"]["mean"] > scores["linear"]["psnr_db"]["mean"]
    assert scores["generator"]["left_over"]["mean"] < 0.01 < scores["linear"]["left_over"]["mean"]
    assert f"{scores['lanczos']['psnr_db']['mean']:.2f}" in (weights / "card.md").read_text(encoding="utf-8")


def test_the_released_model_beats_interpolation() -> None:
    metrics = json.loads((WEIGHTS / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["version"] == read_manifest(WEIGHTS).version
    for name in ("held_out", "shifted"):
        measured = metrics[name]
        assert measured["patients"] >= 30
        assert measured["methods"]["generator"]["left_over"]["mean"] < 0.01
        for baseline in ("linear", "cubic", "lanczos", "lanczos_back_projected"):
            assert measured["generator_minus"][baseline]["psnr_db"]["low"] > 0
            assert measured["generator_minus"][baseline]["ssim"]["low"] > 0
