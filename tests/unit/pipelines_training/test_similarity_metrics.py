"""The metrics against hand numbers, and the bootstrap against what theory says."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from pipelines.metrics.paired import paired_difference
from pipelines.metrics.similarity import compare


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-1, 1, (40, 40)).astype(np.float32)
    return truth + rng.normal(0, 0.1, truth.shape).astype(np.float32), truth


def test_a_constant_error_gives_the_hand_numbers() -> None:
    truth = np.zeros((16, 16), dtype=np.float32)
    score = compare(truth + np.float32(0.2), truth, data_range=2.0)
    assert score.mse == pytest.approx(0.01)
    assert score.psnr_db == pytest.approx(20.0, abs=1e-4)
    # no variance anywhere: SSIM is (2 mu1 mu2 + c1) / (mu1^2 + mu2^2 + c1) with mu2 = 0 and c1 = (0.01 * 2)^2
    assert score.ssim == pytest.approx(4e-4 / (0.04 + 4e-4), rel=1e-4)


def test_equal_images_are_perfect() -> None:
    _, truth = images()
    score = compare(truth, truth, data_range=2.0)
    assert (score.mse, score.psnr_db) == (0.0, float("inf"))
    assert score.ssim == pytest.approx(1.0)
    assert score.ssim_7x7 == pytest.approx(1.0)


def test_ssim_has_the_settings_that_its_name_says() -> None:
    result, truth = images()
    score = compare(result, truth, data_range=2.0)
    assert score.ssim_7x7 == pytest.approx(structural_similarity(result, truth, data_range=2.0, win_size=7))
    assert score.ssim == pytest.approx(
        structural_similarity(
            result, truth, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )
    assert score.ssim != pytest.approx(score.ssim_7x7, abs=1e-4)


def test_a_volume_is_the_mean_of_its_slices() -> None:
    pairs = [images(seed) for seed in range(3)]
    whole = compare(np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs]), 2.0)
    single = [compare(*pair, 2.0) for pair in pairs]
    assert whole.ssim == pytest.approx(np.mean([score.ssim for score in single]))
    assert whole.mse == pytest.approx(np.mean([score.mse for score in single]))


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected equal"):
        compare(np.zeros((8, 8), np.float32), np.zeros((8, 9), np.float32), 2.0)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(100):
        difference = rng.normal(0.3, 1.0, 40)
        interval = paired_difference(list(difference + 5), [5.0] * 40, seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 87 <= covered <= 100


def test_pairs_cancel_what_patients_share() -> None:
    rng = np.random.default_rng(1)
    patients = rng.normal(0, 100, 30)
    interval = paired_difference(list(patients - 1), list(patients))
    assert interval.mean == pytest.approx(-1)
    assert interval.high == pytest.approx(-1)
