"""Training without pairs and with some: it learns, goes on as if never stopped, and sees as many lesions in both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import run_and_resume

from pipelines.networks import GENERATORS, ResNet
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.training.card import END, START, with_measurements
from pipelines.training.ct_bank import build_ct_bank, ct_visit, deal, has_lesion, shifted_ct_visit
from pipelines.training.cyclegan import POOL, CycleGan, ImagePool, edges_apart, make_translator
from pipelines.training.recipe import RECIPES, CycleRecipe, read_recipe
from pipelines.training.tasks import task_of
from pipelines.training.trainer import BEST, Pair, save_generator

Draw = Callable[[np.random.Generator], Pair]


@pytest.fixture
def recipe() -> CycleRecipe:
    shipped = read_recipe(RECIPES / "mr-to-ct.toml")
    assert isinstance(shipped, CycleRecipe)
    return replace(
        shipped,
        networks=replace(shipped.networks, architecture="resnet", ngf=4, depth=1, ndf=4, layers=1, start=""),
        schedule=replace(
            shipped.schedule, steps=50, decay_from=40, batch=2, learning_rate=4e-3, ema=0.8, validate_every=10,
            paired_share=0.5,
        ),
        phantoms=replace(shipped.phantoms, train_patients=4, train_slices=1, validation_patients=1, test_patients=2,
                         crop=64),
    )  # fmt: skip


def test_the_generator_keeps_the_size_and_refuses_what_does_not_halve_twice() -> None:
    network = GENERATORS["resnet"](ngf=4, blocks=1)
    assert network(torch.zeros(2, 1, 32, 44)).shape == (2, 1, 32, 44)
    with pytest.raises(ValueError, match="multiples of 4"):
        network(torch.zeros(1, 1, 30, 32))


def test_an_absolute_grey_value_reaches_the_blocks() -> None:
    torch.manual_seed(0)
    network = ResNet(ngf=4, blocks=1)
    images = torch.zeros(2, 1, 32, 32)
    images[:, :, 8:24, 8:24] = 0.2
    images[1] += 0.5
    assert not torch.allclose(*network.first(images).mean(dim=(2, 3)))


def test_gradients_agree_where_edges_do() -> None:
    square = torch.full((1, 1, 32, 32), -0.5)
    square[..., 8:20, 8:20] = 0.5
    assert float(edges_apart(square, square)) == pytest.approx(0.0, abs=1e-5)
    assert float(edges_apart(square, -0.3 * square)) == pytest.approx(0.0, abs=1e-5)
    assert float(edges_apart(square, square.roll(5, dims=-1))) > 0.3


def test_a_pool_gives_old_images_back_half_the_time() -> None:
    pool, rng = ImagePool(), np.random.default_rng(0)
    for number in range(POOL):
        assert float(pool.exchange(torch.full((1, 1, 1, 1), float(number)), rng)) == number
    later = [float(pool.exchange(torch.full((1, 1, 1, 1), float(number)), rng)) for number in range(POOL, 3 * POOL)]
    old = sum(value != number for number, value in enumerate(later, POOL))
    assert 0.35 * len(later) < old < 0.65 * len(later)
    assert len(pool.images) == POOL


def test_with_pairs_in_half_of_the_steps_it_learns_and_a_break_leaves_no_trace(
    recipe: CycleRecipe, draw: Draw, blocks: list[Pair], tmp_path: Path
) -> None:
    trainer, resumed = (CycleGan(recipe, draw, draw, blocks) for _ in range(2))
    run_and_resume(trainer, resumed, tmp_path)
    assert len(trainer.pools["b"].images) == POOL  # full at the break: what it held then comes back after it
    assert trainer.log[-1].l1 < 0.5 * trainer.log[0].l1
    assert trainer.log[-1].validation_l1 < 0.75 * trainer.log[0].validation_l1


def test_without_pairs_the_cycle_closes(recipe: CycleRecipe, draw: Draw, blocks: list[Pair], tmp_path: Path) -> None:
    recipe = replace(recipe, schedule=replace(recipe.schedule, paired_share=0.0))

    def never(rng: np.random.Generator) -> Pair:
        raise AssertionError("asked for a pair")

    trainer = CycleGan(recipe, draw, never, blocks)
    trainer.train(tmp_path, minutes=5)
    assert trainer.log[-1].l1 < 0.5 * trainer.log[0].l1
    assert trainer.log[-1].generator < trainer.log[0].generator


@pytest.mark.parametrize("rate", [0.3, 1.8])
def test_both_domains_see_lesions_as_often(rate: float) -> None:
    patients = [virtual_patient(seed, rate) for seed in range(1000, 1024)]
    first, second = deal(patients)
    assert not set(first) & set(second)
    assert abs(len(first) - len(second)) <= 1
    with_lesions = [sum(has_lesion(patients[index]) for index in half) for half in (first, second)]
    assert with_lesions[0] > 0
    assert abs(with_lesions[0] - with_lesions[1]) <= 1


def test_draws_follow_their_generator_and_pairs_share_their_edges(recipe: CycleRecipe, tmp_path: Path) -> None:
    bank = build_ct_bank(recipe, tmp_path)
    for draw in (bank.paired, bank.unpaired):
        first, again = draw(np.random.default_rng(5)), draw(np.random.default_rng(5))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert first[0].shape == (1, 64, 64)
        assert np.abs(np.concatenate([first[0].ravel(), first[1].ravel()])).max() <= 1
    rng = np.random.default_rng(2)
    distance = {
        draw.__name__: np.mean([
            float(edges_apart(torch.from_numpy(mr)[None], torch.from_numpy(ct)[None, None]))
            for mr, ct in (draw(rng) for _ in range(12))
        ])
        for draw in (bank.paired, bank.unpaired)
    }  # fmt: skip
    assert distance["paired"] < distance["unpaired"] - 0.1


def test_a_visit_is_the_same_patient_in_mr_and_ct(recipe: CycleRecipe) -> None:
    one, shifted = ct_visit(9000, recipe, slices=1), shifted_ct_visit(9000, recipe, slices=1)
    assert one.real_a.shape == (1, 1, 256, 256)
    assert one.real_b.shape == one.tissues.shape == (1, 256, 256)
    assert np.corrcoef(one.real_a.ravel(), shifted.real_a.ravel())[0, 1] < 0.99


def test_an_evaluation_fills_the_card(recipe: CycleRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, phantoms=replace(recipe.phantoms, train_patients=1))
    generator = make_translator(recipe)
    save_generator(generator, tmp_path / BEST)
    (tmp_path / "rivals").mkdir()
    unpaired = read_recipe(RECIPES / "mr-to-ct-unpaired.toml")
    assert isinstance(unpaired, CycleRecipe)
    save_generator(make_translator(unpaired), tmp_path / "rivals" / "mr-to-ct-unpaired.safetensors")
    task_of(recipe).evaluate(recipe, tmp_path)
    measured = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    held_out = measured["held_out"]
    assert held_out["patients"] == 2
    assert set(held_out["methods"]) == {"generator", "mr-to-ct-unpaired", "pixel_map", "histogram", "linear"}
    assert held_out["methods"]["pixel_map"]["mae_hu"]["mean"] < held_out["methods"]["generator"]["mae_hu"]["mean"]
    card = with_measurements(f"{START}\n{END}", measured)
    assert "| CycleGAN, without pairs |" in card
    assert "| muscle | 2 |" in card
