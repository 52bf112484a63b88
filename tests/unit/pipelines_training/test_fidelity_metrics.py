"""VIFp, CPBD, NMSE and kappa: against torchmetrics where it has them, otherwise against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.classification import MulticlassCohenKappa
from torchmetrics.functional.image import visual_information_fidelity
from torchmetrics.regression import NormalizedRootMeanSquaredError

from pipelines.metrics.agreement import band, cohen_kappa, kappa_interval
from pipelines.metrics.fidelity import vifp
from pipelines.metrics.sharpness import cpbd
from pipelines.metrics.similarity import nmse


def scene(seed: int = 0, size: int = 96) -> np.ndarray:
    """Smooth blobs with edges, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((size, size)), 4)
    return np.clip(np.where(field > 0, 0.5, -0.4) + field, -1, 1).astype(np.float32)


@pytest.mark.parametrize("change", ["noise", "blur", "contrast", "inverted"])
def test_vifp_is_that_of_torchmetrics_on_the_same_scale(change: str) -> None:
    truth = scene()
    result = {
        "noise": truth + np.random.default_rng(1).normal(0, 0.1, truth.shape).astype(np.float32),
        "blur": gaussian_filter(truth, 1.5),
        "contrast": 1.3 * truth,
        "inverted": -truth,
    }[change]
    # torchmetrics leaves it to its caller to bring images to 0..255, for which the noise variance of 2 is meant
    scaled = [torch.from_numpy((image.astype(np.float64) + 1) * 127.5)[None, None] for image in (result, truth)]
    assert vifp(result, truth, 2.0) == pytest.approx(float(visual_information_fidelity(*scaled)), rel=1e-6)


def test_vifp_orders_what_it_sees() -> None:
    truth = scene()
    assert vifp(truth, truth, 2.0) == pytest.approx(1.0, abs=1e-6)
    assert vifp(1.3 * truth, truth, 2.0) > 1.0
    assert vifp(gaussian_filter(truth, 1.0), truth, 2.0) > vifp(gaussian_filter(truth, 3.0), truth, 2.0)
    assert vifp(np.zeros_like(truth), np.zeros_like(truth), 2.0) == 1.0
    with pytest.raises(ValueError, match="at least 41"):
        vifp(truth[:40], truth[:40], 2.0)


def ramp(width: int) -> np.ndarray:
    """Dark to bright and back along the rows over `width` pixels, in the middle of two blocks of 64."""
    starts = (32 - width // 2, 96 - width // 2)
    knots = [starts[0], starts[0] + width, starts[1], starts[1] + width]
    row = np.interp(np.arange(128), knots, [40, 200, 200, 40])
    return np.tile(row, (128, 1)).astype(np.float32)


@pytest.mark.parametrize(("width", "share"), [(1, 1.0), (3, 1.0), (5, 0.0), (9, 0.0)])
def test_cpbd_counts_edges_narrower_than_a_just_noticed_blur(width: int, share: float) -> None:
    # contrast above 50: a blur is just noticed at 3 pixels, where 1 - exp(-1) rounds to 63 %
    assert cpbd(ramp(width), 0, 255) == share


def test_cpbd_falls_with_blur_and_needs_an_edge() -> None:
    image = np.sign(scene(size=192))
    scores = [cpbd(gaussian_filter(image, sigma), -1, 1) for sigma in (0.0, 1.0, 2.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[2] + 0.2
    assert np.isnan(cpbd(np.zeros((128, 128), np.float32), -1, 1))


def test_nmse_is_the_squared_error_over_the_energy() -> None:
    truth = np.abs(scene()) + 0.1
    result = truth + np.float32(0.05)
    root = NormalizedRootMeanSquaredError(normalization="l2")(
        torch.from_numpy(result.ravel()), torch.from_numpy(truth.ravel())
    )
    # torchmetrics divides the root of the mean by the root of the sum
    assert nmse(result, truth) == pytest.approx(float(root) ** 2 * truth.size, rel=1e-4)
    assert nmse(truth, truth) == 0.0
    assert np.isnan(nmse(truth, np.zeros_like(truth)))


def test_kappa_is_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    one = rng.integers(0, 4, 60)
    other = np.where(rng.random(60) < 0.7, one, rng.integers(0, 4, 60))
    expected = MulticlassCohenKappa(num_classes=4)(torch.from_numpy(other), torch.from_numpy(one))
    assert cohen_kappa(list(one), list(other)) == pytest.approx(float(expected), abs=1e-6)
    low, high = kappa_interval(list(one), list(other))
    assert low < float(expected) < high


def test_kappa_by_hand() -> None:
    # 20 + 15 of 50 agree; chance 0.5 * 0.6 + 0.5 * 0.4: (0.7 - 0.5) / 0.5, the example of most textbooks
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert cohen_kappa(one, one) == pytest.approx(1.0)
    assert np.isnan(cohen_kappa(["yes"] * 5, ["yes"] * 5))
    assert [band(kappa) for kappa in (0.051, 0.4, 0.592, 0.8, 0.842)] == [
        "poor",
        "fair",
        "moderate",
        "good",
        "excellent",
    ]
    with pytest.raises(ValueError, match="equally many"):
        cohen_kappa(one, other[1:])
