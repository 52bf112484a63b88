"""Slices that would mislead a model are found, named and kept from setting the scale."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import Unsuitable
from pipelines.safety.pixels import inspect_slices


def refused(voxels: np.ndarray) -> str:
    with pytest.raises(Unsuitable) as refusal:
        inspect_slices("T2W", voxels.astype(np.float32))
    return refusal.value.check


def test_good_slices(volume):
    quality = inspect_slices("T2W", volume.voxels)
    assert quality.shows.all()
    assert quality.sets_scale.all()
    assert quality.checks == ()


def test_bad_slices_are_told_apart(volume):
    voxels = volume.voxels.copy()
    voxels[0] = 0.0
    voxels[1] = np.nan
    voxels[2, :20] = 1.5 * np.nanmax(voxels)
    voxels[3, 4, 5] = np.inf
    quality = inspect_slices("T2W", voxels)
    assert quality.shows.tolist() == [False, False, True, True, True, True]
    assert quality.sets_scale.tolist() == [False, False, False, True, True, True]
    assert [check.name for check in quality.checks] == ["constant-slices", "saturated-slices", "non-finite"]
    assert all(check.flagged for check in quality.checks)
    assert "2 of 6" in quality.checks[0].detail


def test_a_slice_of_another_scale(volume):
    voxels = volume.voxels.copy()
    voxels[4] *= 100.0
    quality = inspect_slices("T2W", voxels)
    assert quality.shows.all()
    assert quality.sets_scale.tolist() == [True, True, True, True, False, True]
    assert [check.name for check in quality.checks] == ["scale-slices"]


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_a_wholly_constant_series(value):
    assert refused(np.full((3, 20, 20), value)) == "constant"


def test_a_different_constant_in_each_slice():
    assert refused(np.ones((3, 20, 20)) * np.arange(3)[:, None, None]) == "constant"


def test_a_wholly_saturated_series(volume):
    assert refused(np.minimum(volume.voxels, 300.0)) == "saturated"


def test_noise_is_no_anatomy():
    assert refused(np.random.default_rng(1).normal(100.0, 20.0, (4, 64, 64))) == "noise"


@pytest.mark.parametrize("shape", [(1, 20, 1), (2, 1, 20)])
def test_shapes_at_the_edge(shape):
    voxels = np.linspace(0.0, 1.0, int(np.prod(shape))).reshape(shape)
    if shape[2] == 1:
        assert refused(voxels) == "noise"  # nothing beside a pixel to compare it with
    else:
        assert inspect_slices("T2W", voxels.astype(np.float32)).shows.all()
