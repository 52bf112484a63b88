"""The CT metrics against noise of known power, blur of known transfer and regions of known means."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipelines.metrics.ct import contrast_to_noise, frequency_at, hu_bias, noise_spectrum, task_transfer


def test_the_spectrum_of_white_noise_is_flat_and_holds_its_variance() -> None:
    noise = np.random.default_rng(0).normal(0, 12, (80, 64, 64)).astype(np.float32)
    spectrum = noise_spectrum(noise, spacing_mm=0.7)
    assert spectrum.power[2:] == pytest.approx(144 * 0.7**2, rel=0.1)  # the trend is gone from the lowest
    # the ring up to the limiting frequency holds pi / 4 of the square
    assert spectrum.sigma_hu == pytest.approx(12 * np.sqrt(np.pi / 4), rel=0.03)


def test_coarser_noise_has_a_lower_mean_frequency_and_a_trend_is_none() -> None:
    fine = np.random.default_rng(1).normal(0, 10, (20, 64, 64)).astype(np.float32)
    coarse = np.stack([gaussian_filter(patch, 1.5) for patch in fine])
    assert noise_spectrum(coarse, 0.7).mean_frequency_per_mm < 0.5 * noise_spectrum(fine, 0.7).mean_frequency_per_mm
    slope = np.tile(np.linspace(0, 100, 64, dtype=np.float32), (64, 1))
    assert noise_spectrum([slope], 0.7).sigma_hu < 1e-5
    with pytest.raises(ValueError, match="no patch"):
        noise_spectrum([], 0.7)


def test_bias_is_told_by_tissue() -> None:
    truth = np.zeros((20, 20), np.float32)
    labels = np.repeat(np.array([1, 2], np.uint8), 200).reshape(20, 20)
    result = np.where(labels == 1, 3.0, -1.0).astype(np.float32)
    assert hu_bias(result, truth, labels, {"fat": 1, "liver": 2, "bone": 3}) == {"fat": 3.0, "liver": -1.0}


def test_contrast_to_noise_by_hand() -> None:
    image = np.zeros((10, 10), np.float32)
    image[:5] = 20
    image[5:, ::2], image[5:, 1::2] = 2, -2
    lesion = np.zeros((10, 10), bool)
    lesion[:5] = True
    assert contrast_to_noise(image, lesion, ~lesion) == pytest.approx(20 / 2, rel=0.02)


def test_the_transfer_of_a_gaussian_blur_is_that_gaussian() -> None:
    rows, columns = np.indices((128, 128)) - 63.5
    disc = np.clip(30.5 - np.hypot(rows, columns), 0, 1) * 60
    sigma_px, spacing_mm = 2.0, 0.7
    frequency, transfer = task_transfer(
        gaussian_filter(disc, sigma_px).astype(np.float32), (63.5, 63.5), 30, spacing_mm
    )
    expected = np.exp(-2 * (np.pi * frequency * sigma_px * spacing_mm) ** 2)
    low = frequency < 0.25
    assert transfer[low] == pytest.approx(expected[low], abs=0.06)
    half = np.sqrt(np.log(2) / 2) / np.pi / sigma_px / spacing_mm
    assert frequency_at(frequency, transfer) == pytest.approx(half, rel=0.08)
