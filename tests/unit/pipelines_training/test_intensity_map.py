"""Grey values to [-1, 1] and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.intensity import IntensityMap, fit


@given(low=st.floats(-1000, 1000), span=st.floats(1, 5000), share=st.floats(0, 1))
def test_there_and_back(low: float, span: float, share: float) -> None:
    scale = IntensityMap(low, low + span)
    value = np.array([low + share * span], dtype=np.float32)
    back = scale.from_unit(scale.to_unit(value))
    assert abs(float(back[0]) - float(value[0])) <= 1e-6 * (abs(low) + span) + 1e-4


def test_ends_are_exact() -> None:
    scale = IntensityMap(0.0, 1250.0)
    assert scale.to_unit(np.array([0, 625, 1250], dtype=np.float32)).tolist() == [-1, 0, 1]
    assert scale.from_unit(np.array([-1, 0, 1], dtype=np.float32)).tolist() == [0, 625, 1250]


def test_spikes_and_holes_do_not_set_the_scale() -> None:
    rng = np.random.default_rng(0)
    voxels = rng.uniform(0, 1000, (4, 50, 50)).astype(np.float32)
    clean = fit(voxels)
    voxels[0, 0, :5] = 1e6
    voxels[1, 0, :5] = np.nan
    voxels[2, 0, 0] = np.inf
    spiked = fit(voxels)
    assert spiked.high == pytest.approx(clean.high, rel=0.01)
    unit = spiked.to_unit(voxels)
    assert np.isfinite(unit).all()
    assert unit[1, 0, 0] == -1
    assert unit[2, 0, 0] == 1
    assert unit[0, 0, 0] == 1


def test_scale_of_the_scanner_does_not_matter() -> None:
    voxels = np.random.default_rng(1).uniform(0, 100, (2, 20, 20)).astype(np.float32)
    np.testing.assert_allclose(fit(voxels).to_unit(voxels), fit(voxels * 37).to_unit(voxels * 37), atol=1e-4)


@pytest.mark.parametrize("voxels", [np.full((2, 4, 4), np.nan, np.float32), np.ones((2, 4, 4), np.float32)])
def test_an_image_of_nothing_is_refused(voxels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        fit(voxels)
