"""The denoiser's training: pairs from scans, noise that is taken off, evaluation and release."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.networks import Critic, Denoiser
from pipelines.spec import read_manifest
from pipelines.training.body_bank import BodyBank, build_body_bank
from pipelines.training.dose_baselines import noise_sigma, tuned
from pipelines.training.dose_evaluation import held_out
from pipelines.training.recipe import (
    BodySets,
    DenoiseRecipe,
    DenoiserSizes,
    DenoiseSchedule,
    HounsfieldScale,
)
from pipelines.training.release import release
from pipelines.training.tasks import DENOISE, task_of
from pipelines.training.trainer import BEST, save_generator
from pipelines.training.wgan import WassersteinDenoiser, edge_distance, make_denoiser

WEIGHTS = Path(__file__).parents[3] / "weights" / "ct-denoise"


@pytest.fixture(scope="module")
def recipe() -> DenoiseRecipe:
    return DenoiseRecipe(
        id="ct-denoise",
        version="0.0.1",
        kind="denoise",
        seed=5,
        networks=DenoiserSizes("denoiser", width=8, depth=3, ndf=4),
        schedule=DenoiseSchedule(
            steps=60,
            decay_from=50,
            batch=2,
            learning_rate=3e-3,
            betas=(0.5, 0.9),
            ema=0.9,
            validate_every=10,
            adversarial_from=45,
            critic_steps=1,
            gradient_penalty=10.0,
            pixel_weight=1.0,
            edge_weight=1.0,
            feature_weight=0.1,
            gan_weight=0.001,
        ),
        phantoms=BodySets(
            train_first_seed=1,
            train_patients=3,
            validation_first_seed=11,
            validation_patients=1,
            test_first_seed=21,
            test_patients=2,
            test_size=96,
            bench_scans=2,
            patch=48,
            margin=8,
            doses=(0.1, 0.5),
            cutoffs_per_mm=(0.65, 1.5),
            pixel_spacing_mm=(0.6, 0.98),
        ),
        intensity=HounsfieldScale((-1024.0, 3071.0)),
    )


@pytest.fixture(scope="module")
def bank(recipe: DenoiseRecipe, tmp_path_factory: pytest.TempPathFactory) -> BodyBank:
    return build_body_bank(recipe, tmp_path_factory.mktemp("bank"))


def test_pairs_follow_their_random_generator(bank: BodyBank) -> None:
    (noisy, clean), again = (bank.pair(np.random.default_rng(5)) for _ in range(2))
    assert noisy.shape == (1, 48, 48)
    assert clean.shape == (48, 48)
    np.testing.assert_array_equal(noisy, again[0])
    np.testing.assert_array_equal(clean, again[1])
    assert not np.array_equal(noisy, bank.pair(np.random.default_rng(6))[0])


def test_sixty_steps_take_noise_off(recipe: DenoiseRecipe, bank: BodyBank, tmp_path: Path) -> None:
    rng = np.random.default_rng(99)
    run = WassersteinDenoiser(recipe, bank.pair, [bank.pair(rng) for _ in range(4)])
    untouched = np.mean([np.abs(noisy[0] - clean).mean() for noisy, clean in run.validation])
    run.train(tmp_path, minutes=5)
    assert run.step == 60
    assert run.best_l1 < 0.9 * untouched
    assert run.log[-1].judge != 0.0  # the critic has played its part


def test_edges_are_compared_by_their_differences() -> None:
    flat, step = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 3.0  # one of three differences along each row
    assert float(edge_distance(flat, flat + 7.0)) == 0.0
    assert float(edge_distance(flat, step)) == pytest.approx(1.0)


def test_the_denoiser_keeps_shapes_and_the_mean_of_regions() -> None:
    torch.manual_seed(1)
    noisy = 0.01 * torch.randn(2, 1, 96, 80) - 0.48
    denoised = Denoiser(width=8, depth=4)(noisy)
    assert denoised.shape == noisy.shape
    taken = (noisy - denoised)[..., 32:64, 24:56]
    assert taken.abs().mean().item() > 10 * abs(taken.mean().item())
    with pytest.raises(ValueError, match="odd number"):
        Denoiser(window=16)


def test_a_pixel_further_than_the_halo_has_no_say() -> None:
    network = Denoiser(width=4, depth=3)
    one = torch.zeros(1, 1, 128, 128)
    other = one.clone()
    other[..., 64, 64] = 1.0
    changed = (network(one) - network(other)).abs()[0, 0].nonzero()
    assert int((changed - 64).abs().max()) <= network.halo


def test_the_critic_scores_each_slice_alone() -> None:
    critic, slices = Critic(ndf=4), torch.randn(3, 1, 32, 32)
    scores, features = critic(slices)
    assert scores.shape == (3,)
    assert [feature.shape[-1] for feature in features] == [16, 8, 4]
    torch.testing.assert_close(critic(slices[1:2])[0], scores[1:2])


def test_baselines_take_the_strength_that_errs_least(recipe: DenoiseRecipe) -> None:
    one = held_out(21, 0.1, recipe)
    sigma = noise_sigma(one.noisy, one.clean)
    before = np.mean((one.noisy - one.clean) ** 2)
    for name, method in tuned([(one.noisy, one.clean)]).items():
        assert np.mean((method(one.noisy, sigma) - one.clean) ** 2) < 0.7 * before, name


def test_a_run_is_evaluated_and_released(recipe: DenoiseRecipe, tmp_path: Path) -> None:
    run, weights = tmp_path / "run", tmp_path / "ct-denoise"
    run.mkdir()
    weights.mkdir()
    for name in ("manifest.toml", "card.md"):
        shutil.copy(WEIGHTS / name, weights)
    torch.manual_seed(0)
    save_generator(make_denoiser(recipe), run / BEST)
    task_of(recipe).evaluate(recipe, run)
    release(recipe, run, weights)
    spec = read_manifest(weights)
    assert spec.generator.sha256 == hashlib.sha256(spec.weights_path.read_bytes()).hexdigest()
    assert spec.intensity.hu == spec.output.range == (-1024.0, 3071.0)
    measured = json.loads((weights / "metrics.json").read_text(encoding="utf-8"))
    quarter = measured["quarter"]
    assert quarter["methods"]["nlm"]["psnr_db"]["mean"] > quarter["methods"]["noisy"]["psnr_db"]["mean"] + 2
    assert quarter["methods"]["noisy"]["rmse_hu"]["mean"] < measured["tenth"]["methods"]["noisy"]["rmse_hu"]["mean"]
    assert measured["bench"]["noisy"]["low_contrast_hu"] == pytest.approx(15, abs=4)
    assert f"{quarter['methods']['nlm']['psnr_db']['mean']:.2f}" in (weights / "card.md").read_text(encoding="utf-8")


def test_half_precision_may_not_change_two_hu() -> None:
    assert DENOISE.half_precision_limit * 2047.5 < 2


def test_the_released_card_shows_the_released_metrics() -> None:
    metrics = json.loads((WEIGHTS / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["version"] == read_manifest(WEIGHTS).version
    for name in ("quarter", "tenth"):
        measured = metrics[name]
        assert measured["patients"] >= 30
        for baseline in ("noisy", "nlm", "tv", "bilateral"):
            assert measured["denoiser_minus"][baseline]["psnr_db"]["low"] > 0
            assert measured["denoiser_minus"][baseline]["ssim"]["low"] > 0
