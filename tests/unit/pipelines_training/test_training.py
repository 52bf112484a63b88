"""Losses at hand numbers, a deadline, released weights to begin with; recipes say what they need."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.phantoms.sequences import DRAWN
from pipelines.training.losses import adversarial_loss, discriminator_loss, lesion_l1
from pipelines.training.pix2pix import Pix2Pix
from pipelines.training.recipe import RECIPES, RELEASED, TranslationRecipe, read_recipe
from pipelines.training.release import load_generator
from pipelines.training.tasks import task_of
from pipelines.training.trainer import BEST, WEIGHTS, Pair, read_generator, translate

Draw = Callable[[np.random.Generator], Pair]
TRANSLATIONS = sorted(path for path in RECIPES.glob("*.toml") if isinstance(read_recipe(path), TranslationRecipe))


def test_losses_at_hand_numbers() -> None:
    undecided = torch.zeros(1, 1, 3, 3)  # a logit of 0 is a probability of one half: ln 2 each
    assert float(discriminator_loss(undecided, undecided)) == pytest.approx(np.log(2))
    assert float(adversarial_loss(undecided)) == pytest.approx(np.log(2))
    lesions = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    distance = lesion_l1(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.3), lesions, 21.0)
    assert float(distance) == pytest.approx(0.3 * (3 + 21) / 4)


def test_a_deadline_leaves_a_state_to_resume(
    tiny_recipe: TranslationRecipe, draw: Draw, blocks: list[Pair], tmp_path: Path
) -> None:
    trainer = Pix2Pix(tiny_recipe, draw, blocks)
    trainer.train(tmp_path, minutes=0)
    assert trainer.step == 0
    resumed = Pix2Pix(tiny_recipe, draw, blocks)
    resumed.resume(tmp_path)
    assert resumed.step == 0


@pytest.mark.parametrize(("lesion_weight", "kept"), [(1.0, "best"), (20.0, "last")])
def test_which_generator_is_kept(
    lesion_weight: float, kept: str, tiny_recipe: TranslationRecipe, draw: Draw, blocks: list[Pair], tmp_path: Path
) -> None:
    schedule = replace(tiny_recipe.schedule, steps=24, decay_from=24, validate_every=4, lesion_weight=lesion_weight)
    opposite = [(real_a, -real_b) for real_a, real_b in blocks]  # the more is learned, the worse it gets on these
    no_lesion = np.zeros(blocks[0][1].shape, dtype=np.float32)
    trainer = Pix2Pix(replace(tiny_recipe, schedule=schedule), lambda rng: (*draw(rng), no_lesion), opposite)
    trainer.train(tmp_path, minutes=5)
    distances = [line.validation_l1 for line in trainer.log]
    assert trainer.best_l1 == min(distances) < distances[-1]
    generator = load_generator(tiny_recipe, tmp_path / BEST)
    found = float(np.mean([np.abs(translate(generator, real_a) - real_b).mean() for real_a, real_b in opposite]))
    assert found == pytest.approx(min(distances) if kept == "best" else distances[-1], rel=1e-4)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_keeps_its_patients_apart(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.id == path.stem
    sets = recipe.phantoms
    training = range(sets.train_first_seed, sets.train_first_seed + sets.train_patients)
    validation = range(sets.validation_first_seed, sets.validation_first_seed + sets.validation_patients)
    test = range(sets.test_first_seed, sets.test_first_seed + sets.test_patients)
    assert not set(training) & set(validation)
    assert not set(training) & set(test)
    assert not set(validation) & set(test)
    assert sets.test_patients >= 30
    network = task_of(recipe).network(recipe)
    assert sum(parameter.numel() for parameter in network.parameters()) * 2 < 10e6  # bytes of the weights that ship


@pytest.mark.parametrize("path", TRANSLATIONS, ids=lambda path: path.stem)
def test_every_translation_is_the_papers_but_for_what_the_cards_name(path: Path) -> None:
    recipe = read_recipe(path)
    assert isinstance(recipe, TranslationRecipe)
    assert (recipe.schedule.gan_weight, recipe.schedule.l1_weight) == (1.0, 100.0)
    assert recipe.schedule.betas == (0.5, 0.999)
    assert recipe.networks.layers == 3  # 70 x 70 patches
    assert set(recipe.contrasts.sources) | {recipe.contrasts.target} <= {*DRAWN, "X-ray"}


def test_training_can_go_on_from_released_weights(draw: Draw, blocks: list[Pair]) -> None:
    recipe = read_recipe(RECIPES / "t2-to-tirm.toml")
    assert isinstance(recipe, TranslationRecipe)
    started = Pix2Pix(recipe, draw, blocks).generator.state_dict()
    for name, value in read_generator(RELEASED / "t2-to-stir" / WEIGHTS).items():
        torch.testing.assert_close(started[name], value, rtol=0, atol=0)


def test_a_source_more_changes_nothing_at_first(draw: Draw, blocks: list[Pair]) -> None:
    one, two = (read_recipe(RECIPES / f"{name}.toml") for name in ("t2-to-tirm", "t1t2-to-stir"))
    assert isinstance(one, TranslationRecipe)
    assert isinstance(two, TranslationRecipe)
    assert two.contrasts.sources[-1:] == one.contrasts.sources
    assert two.networks.start == one.networks.start
    rng = np.random.default_rng(3)
    t1w, t2w = rng.uniform(-1.0, 1.0, (2, 64, 64)).astype(np.float32)
    alone = translate(Pix2Pix(one, draw, blocks).generator, t2w[None])
    np.testing.assert_allclose(translate(Pix2Pix(two, draw, blocks).generator, np.stack((t1w, t2w))), alone, atol=1e-6)


def test_a_recipe_of_no_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text('id = "odd"\nkind = "conjure"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"kind: found 'conjure', expected one of translate, "):
        read_recipe(path)


@pytest.mark.parametrize(
    ("change", "complaint"), [(("ngf = ", "nfg = "), "networks.nfg"), (('version = "', 'vision = "'), "version")]
)
def test_a_misspelt_key_is_named(change: tuple[str, str], complaint: str, tmp_path: Path) -> None:
    text = (RECIPES / "t2-to-stir.toml").read_text(encoding="utf-8").replace(*change)
    path = tmp_path / "broken.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"missing|unknown key") as caught:
        read_recipe(path)
    assert "broken.toml" in str(caught.value)
    assert complaint in str(caught.value) or "ngf" in str(caught.value)
