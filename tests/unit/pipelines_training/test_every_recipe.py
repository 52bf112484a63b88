"""Every training recipe there is, made small: fifty steps lower its loss, and a break leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import STEPS, held_out_l1, run_and_resume

from pipelines.intensity import Array
from pipelines.networks.edsr import linear
from pipelines.studies.galbusera.cohort import recipes
from pipelines.training.cyclegan import CycleGan
from pipelines.training.recipe import LateAdversarySchedule, Recipe, TranslationRecipe, read_recipe
from pipelines.training.release import load_generator
from pipelines.training.tasks import task_of
from pipelines.training.trainer import BEST, Trainer

RECIPES = sorted((read_recipe(path) for path in recipes()), key=lambda recipe: recipe.id)

# Sizes of networks and patients that train in seconds. Released weights fit no smaller network: all start from noise.
UNET = {"ngf": 8, "downs": 4, "ndf": 4, "layers": 2, "start": ""}
SMALLER: dict[str, tuple[dict[str, object], dict[str, int]]] = {
    "translate": (UNET, {"train_slices": 1, "crop": 32}),
    "radiograph": (UNET, {"crop": 32}),
    "cycle": ({"ngf": 4, "depth": 3, "ndf": 4, "layers": 2, "start": ""}, {"train_slices": 1, "crop": 32}),
    "denoise": ({"width": 8, "depth": 3, "ndf": 4}, {"patch": 48}),
    "thin-slice": ({"width": 8, "blocks": 1, "ndf": 4}, {"patch": 48, "stored": 64, "thick_slices": 5}),
    "super-resolve": ({"width": 32, "blocks": 1, "ndf": 4}, {"train_patients": 3, "matrix": 256}),
}
BATCH = {"radiograph": 1, "super-resolve": 4}  # a radiograph takes long to draw; elsewhere 2, or 1 as in the recipe
# Held-out L1 after fifty steps may be this share of that before, else 0.9; three seeds of each recipe came to 0.94 and
# 0.82 at most. Super-resolution begins at an image that is hard to better.
SHARE = {"super-resolve": 0.96}
# What there is without the network, where training begins near it: it has to be beaten.
WITHOUT: dict[str, Callable[[Array], Array]] = {
    "thin-slice": lambda thick: thick[len(thick) // 2],
    "super-resolve": lambda coarse: linear(torch.from_numpy(coarse)[None])[0, 0].numpy(),
}


def smaller(recipe: Recipe) -> Recipe:
    """`recipe` with everything that makes it slow made small; its losses, learning rate and scales are its own."""
    networks, patients = SMALLER[recipe.kind]
    schedule = replace(
        recipe.schedule,
        steps=STEPS,
        decay_from=40,
        batch=min(recipe.schedule.batch, BATCH.get(recipe.kind, 2)),
        ema=0.8,
        validate_every=20,
    )
    if isinstance(schedule, LateAdversarySchedule):
        schedule = replace(schedule, adversarial_from=20)
    return replace(
        recipe,
        networks=replace(recipe.networks, **networks),
        schedule=schedule,
        phantoms=replace(recipe.phantoms, **{"train_patients": 2, "validation_patients": 1, **patients}),
    )


def anew(trainer: Trainer, recipe: Recipe) -> Trainer:
    """Another trainer of `recipe` at its first step, which sees the patients of `trainer`: they take long to paint."""
    draws = (trainer.draw, trainer.paired) if isinstance(trainer, CycleGan) else (trainer.draw,)
    return type(trainer)(recipe, *draws, trainer.validation)  # type: ignore[arg-type,call-arg]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where painted patients are kept: recipes of one kind share them."""
    return tmp_path_factory.mktemp("banks")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.id)
def test_fifty_steps_lower_the_loss_and_a_break_leaves_no_trace(recipe: Recipe, cache: Path, tmp_path: Path) -> None:
    recipe = smaller(recipe)
    run = task_of(recipe).trainer(recipe, cache, "cpu")
    before = run_and_resume(run, anew(run, recipe), tmp_path)
    after = run.log[-1].validation_l1
    assert after < SHARE.get(recipe.kind, 0.9) * before
    if recipe.kind in WITHOUT:
        assert after < held_out_l1(run, WITHOUT[recipe.kind])
    by_l1_alone = isinstance(recipe, TranslationRecipe) and recipe.schedule.gan_weight == 0.0
    assert (run.log[-1].judge == 0.0) == by_l1_alone
    assert (tmp_path / "log.csv").read_text(encoding="utf-8").count("\n") == 1 + len(run.log) == 4
    assert run.best_l1 == min(line.validation_l1 for line in run.log)
    keeps_the_last = isinstance(recipe, TranslationRecipe) and recipe.schedule.lesion_weight != 1.0
    kept = load_generator(recipe, tmp_path / BEST)
    kept_l1 = held_out_l1(run, lambda real_a: run.delivered(kept, real_a))
    assert kept_l1 == pytest.approx(after if keeps_the_last else run.best_l1, rel=1e-4)
