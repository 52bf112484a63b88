"""One volume on the grid of another: by position, linear, and refused when there is nothing to compare."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import Unsuitable
from pipelines.resampling import on_grid, same_grid
from pipelines.volume import Volume

AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]).T
GRADIENT = np.array([3.0, -2.0, 0.5])  # per mm


def ramp(shape, spacing_mm, origin_mm, direction=AXES):
    """A volume whose value is a linear function of the patient position, so that linear interpolation is exact."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * np.array(spacing_mm)
    place = index @ direction.T + np.array(origin_mm)
    return Volume((500.0 + place @ GRADIENT).astype(np.float32), spacing_mm, origin_mm, direction)


GRID = ramp((5, 20, 24), (4.0, 1.0, 1.0), (-8.0, -10.0, 12.0))


def test_a_volume_on_the_same_grid_is_not_touched():
    assert on_grid("T1W", GRID, GRID) is GRID
    assert same_grid(GRID, GRID)


def test_values_stand_where_they_were_measured():
    wide = ramp((9, 40, 40), (3.1, 0.9, 1.1), (-14.0, -18.0, 20.0))
    found = on_grid("T1W", wide, GRID)
    assert same_grid(found, GRID)
    assert np.abs(found.voxels - GRID.voxels).max() < 1e-3


def test_slices_may_run_the_other_way_and_rows_may_be_columns():
    turned = np.stack((-AXES[:, 0], AXES[:, 2], -AXES[:, 1]), axis=1)
    wide = ramp((12, 60, 60), (3.0, 1.0, 1.0), (16.0, -20.0, -25.0), turned)
    found = on_grid("T1W", wide, GRID)
    assert np.abs(found.voxels - GRID.voxels).max() < 1e-3


def test_a_small_tilt_is_followed_and_a_large_one_refused():
    def tilted(degrees):
        turn = np.radians(degrees)
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]])
        return ramp((15, 60, 60), (4.0, 1.0, 1.0), (-28.0, -30.0, 30.0), rotation @ AXES)

    assert np.abs(on_grid("T1W", tilted(3.0), GRID).voxels - GRID.voxels).max() < 1e-3
    with pytest.raises(Unsuitable, match=r"planes: found T1W tilted by 8.0 degrees; expected at most 5"):
        on_grid("T1W", tilted(8.0), GRID)


def test_beyond_the_volume_stands_its_lowest_value():
    narrow = ramp((5, 12, 24), (4.0, 1.0, 1.0), (-8.0, -10.0, 8.0))  # misses the first four rows and the last four
    found = on_grid("T1W", narrow, GRID).voxels
    assert np.all(found[:, :4] == narrow.voxels.min())
    assert np.all(found[:, 16:] == narrow.voxels.min())
    assert np.abs(found[:, 4:16] - GRID.voxels[:, 4:16]).max() < 1e-3


def test_too_little_overlap_is_refused_by_name():
    beside = ramp((3, 20, 24), (4.0, 1.0, 1.0), (-8.0, -10.0, 12.0))
    with pytest.raises(Unsuitable, match=r"overlap: found T1W that shows 3 of 5 slices; expected at least 80%"):
        on_grid("T1W", beside, GRID)


def test_one_slice_is_enough_for_one_slice():
    one, other = (ramp((1, 20, 24), (4.0, 1.0, 1.0), (x, -10.0, 12.0)) for x in (0.0, 1.0))
    found = on_grid("T1W", other, one)
    assert np.allclose(found.voxels, other.voxels)
