"""Training on radiographs: pairs of one patient, a loss that falls, and a run that goes on as if it had not stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.training.recipe import RECIPES, Contrasts, TranslationRecipe, read_recipe
from pipelines.training.tasks import task_of
from pipelines.training.trainer import Trainer


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the painted patients of these tests are kept."""
    return tmp_path_factory.mktemp("radiographs")


@pytest.fixture
def recipe(tiny_recipe: TranslationRecipe) -> TranslationRecipe:
    schedule = replace(tiny_recipe.schedule, steps=50, validate_every=10, gan_weight=0.1)
    return replace(tiny_recipe, id="xray-to-t2", kind="radiograph", contrasts=Contrasts(("X-ray",), "T2W"),
                   schedule=schedule)  # fmt: skip


def trainer(recipe: TranslationRecipe, cache: Path) -> Trainer:
    return task_of(recipe).trainer(recipe, cache, "cpu")


def test_a_pair_is_in_range_and_another_one_each_day(recipe: TranslationRecipe, cache: Path) -> None:
    draw = trainer(recipe, cache).draw
    rng = np.random.default_rng(1)
    pairs = [draw(rng) for _ in range(2)]
    for real_a, real_b in pairs:
        assert (real_a.shape, real_b.shape) == ((1, 64, 64), (64, 64))
        assert min(real_a.min(), real_b.min()) >= -1.0
        assert max(real_a.max(), real_b.max()) <= 1.0
        assert real_b.std() > 0.05
    assert not np.array_equal(pairs[0][1], pairs[1][1])
    again = draw(np.random.default_rng(1))
    assert np.array_equal(again[0], pairs[0][0])
    assert np.array_equal(again[1], pairs[0][1])


def test_fifty_steps_bring_the_loss_down(recipe: TranslationRecipe, cache: Path, tmp_path: Path) -> None:
    run = trainer(recipe, cache)
    run.train(tmp_path, minutes=5)
    assert run.step == 50
    assert run.log[-1].validation_l1 < 0.75 * run.log[0].validation_l1


def test_a_resumed_run_equals_one_without_a_break(recipe: TranslationRecipe, cache: Path, tmp_path: Path) -> None:
    def lasting(steps: int) -> TranslationRecipe:
        return replace(recipe, schedule=replace(recipe.schedule, steps=steps, decay_from=100, validate_every=4))

    whole = trainer(lasting(8), cache)
    whole.train(tmp_path / "whole", minutes=5)
    trainer(lasting(3), cache).train(tmp_path / "broken", minutes=5)
    resumed = trainer(lasting(8), cache)
    resumed.resume(tmp_path / "broken")
    assert resumed.step == 3
    resumed.train(tmp_path / "broken", minutes=5)
    for name, value in whole.generator.state_dict().items():
        torch.testing.assert_close(value, resumed.generator.state_dict()[name], rtol=0, atol=0)


def test_the_recipe_that_ships_is_measured_on_thirty_patients_of_its_own() -> None:
    shipped = read_recipe(RECIPES / "xray-to-t2.toml")
    assert isinstance(shipped, TranslationRecipe)
    sets = shipped.phantoms
    ranges = [
        set(range(first, first + count))
        for first, count in (
            (sets.train_first_seed, sets.train_patients),
            (sets.validation_first_seed, sets.validation_patients),
            (sets.test_first_seed, sets.test_patients),
        )
    ]
    assert len(set.union(*ranges)) == sum(map(len, ranges))
    assert sets.test_patients >= 30
