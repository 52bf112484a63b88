"""In-plane geometry: to the trained spacing, padded, and back on the very grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.geometry import InPlane
from pipelines.spec import GeometrySpec

SPEC = GeometrySpec(pixel_spacing_mm=1.0, tolerance=0.1, multiple=16)


def smooth(rows: int, columns: int) -> torch.Tensor:
    """(1, 1, rows, columns) in [-1, 1] without edges, the same field of view whatever the matrix."""
    row, column = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows * 6.0, (torch.arange(columns) + 0.5) / columns * 5.0, indexing="ij"
    )
    return (0.9 * torch.sin(row) * torch.cos(column))[None, None]


@settings(max_examples=60)
@given(rows=st.integers(1, 90), columns=st.integers(1, 90), row_mm=st.floats(0.3, 2.0), column_mm=st.floats(0.3, 2.0))
def test_the_way_back_ends_on_the_source_grid(rows, columns, row_mm, column_mm):
    plan = InPlane.plan((rows, columns), (row_mm, column_mm), SPEC)
    there = plan.to_trained(torch.rand(2, 1, rows, columns) * 2 - 1)
    assert there.shape == (2, 1, *plan.padded)
    assert all(length % 16 == 0 for length in plan.padded)
    assert float(there.abs().max()) <= 1.0
    back = plan.to_source(there)
    assert back.shape == (2, 1, rows, columns)
    assert float(back.abs().max()) <= 1.0


@given(rows=st.integers(1, 70), columns=st.integers(1, 70), spacing=st.floats(0.91, 1.09))
@settings(max_examples=40)
def test_within_the_tolerance_nothing_changes(rows, columns, spacing):
    plan = InPlane.plan((rows, columns), (spacing, 1.0), SPEC)
    slices = torch.rand(1, 2, rows, columns) * 2 - 1
    assert not plan.resamples
    assert torch.equal(plan.to_source(plan.to_trained(slices)), slices)


def test_sizes_at_the_trained_spacing():
    plan = InPlane.plan((384, 320), (0.7, 0.8), SPEC)
    assert (plan.trained, plan.padded) == ((269, 256), (272, 256))
    assert plan.resamples


@pytest.mark.parametrize(("rows", "spacing"), [(120, 0.5), (30, 2.0), (44, 1.4)])
def test_resampling_and_back_keeps_a_smooth_image(rows, spacing):
    plan = InPlane.plan((rows, rows), (spacing, spacing), SPEC)
    slices = smooth(rows, rows)
    assert float((plan.to_source(plan.to_trained(slices)) - slices).abs().max()) < 0.03


@pytest.mark.parametrize("spacing", [0.5, 0.7, 1.7])
def test_resampling_moves_nothing(spacing):
    rows = round(60 / spacing)
    plan = InPlane.plan((rows, rows), (spacing, spacing), SPEC)
    there = plan.to_trained(smooth(rows, rows))
    (top, left), (height, width) = ((plan.padded[i] - plan.trained[i]) // 2 for i in (0, 1)), plan.trained
    assert torch.allclose(there[..., top : top + height, left : left + width], smooth(height, width), atol=0.03)


def test_padding_continues_the_image_by_its_mirror():
    plan = InPlane((1, 3), (1, 3), (1, 9))
    padded = plan.to_trained(torch.tensor([[[[0.1, 0.2, 0.3]]]]))
    assert np.allclose(padded[0, 0, 0], [0.3, 0.2, 0.1, 0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
