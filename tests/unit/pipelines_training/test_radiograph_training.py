"""Training on radiographs: pairs of one patient, in range and drawn from seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.training.recipe import Contrasts, TranslationRecipe
from pipelines.training.tasks import task_of


@pytest.fixture
def recipe(tiny_recipe: TranslationRecipe) -> TranslationRecipe:
    return replace(tiny_recipe, id="xray-to-t2", kind="radiograph", contrasts=Contrasts(("X-ray",), "T2W"))


def test_a_pair_is_in_range_and_another_one_each_day(recipe: TranslationRecipe, tmp_path: Path) -> None:
    draw = task_of(recipe).trainer(recipe, tmp_path, "cpu").draw
    rng = np.random.default_rng(1)
    pairs = [draw(rng) for _ in range(2)]
    for real_a, real_b, lesions in pairs:
        assert (real_a.shape, real_b.shape, lesions.shape) == ((1, 64, 64), (64, 64), (64, 64))
        assert set(np.unique(lesions)) <= {0.0, 1.0}
        assert min(real_a.min(), real_b.min()) >= -1.0
        assert max(real_a.max(), real_b.max()) <= 1.0
        assert real_b.std() > 0.05
    assert not np.array_equal(pairs[0][1], pairs[1][1])
    again = draw(np.random.default_rng(1))
    assert np.array_equal(again[0], pairs[0][0])
    assert np.array_equal(again[1], pairs[0][1])
