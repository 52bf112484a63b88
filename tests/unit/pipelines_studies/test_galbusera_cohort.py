"""The cohort of the study: as many patients as in the paper, nobody in two sets, nobody whom a model was trained on."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pipelines.phantoms.radiograph import lowest_lumbar
from pipelines.studies.galbusera.cases import FULL_SCALE, reduced, scan
from pipelines.studies.galbusera.cohort import FIRST_SEED, PATIENTS, TASKS, recipes, require_unseen, splits
from pipelines.training.recipe import RECIPES, TranslationRecipe, read_recipe

TABLE_1 = {
    "t2-super-resolution": (767, 192, 30),
    "t1-to-t2": (767, 192, 30),
    "t2-to-t1": (767, 192, 30),
    "t2-to-stir": (284, 71, 30),
    "t2-to-tirm": (305, 77, 30),
    "xray-to-t2": (363, 91, 30),
}


def test_the_sets_have_the_sizes_of_table_1_and_share_nobody() -> None:
    found = splits()
    assert splits() == found
    assert {name: (len(s.training), len(s.validation), len(s.test)) for name, s in found.items()} == TABLE_1
    everyone = set(range(FIRST_SEED, FIRST_SEED + PATIENTS))
    test = set(found["t2-to-stir"].test)
    for split in found.values():
        sets = [set(split.training), set(split.validation), set(split.test)]
        assert all(one <= everyone for one in sets)
        assert all(not one & other for one, other in combinations(sets, 2))
        assert not test & (sets[0] | sets[1])


def test_no_model_was_trained_on_a_test_patient() -> None:
    paths = recipes()
    assert {"t2-to-stir.toml", "recipe.toml"} <= {path.name for path in paths}
    require_unseen(splits()["t2-to-stir"].test, paths)


def test_a_recipe_that_has_seen_a_test_patient_is_named(tmp_path: Path) -> None:
    text = (RECIPES / "t2-to-stir.toml").read_text(encoding="utf-8")
    path = tmp_path / "greedy.toml"
    path.write_text(text.replace("train_first_seed = 1000", f"train_first_seed = {FIRST_SEED}"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"greedy.toml: found test patients \[2018"):
        require_unseen(splits()["t2-to-stir"].test, [path])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_targets_lie_on_the_scale_of_the_recipe(task) -> None:  # type: ignore[no-untyped-def]
    recipe = read_recipe(RECIPES / f"{task.id}.toml")
    if isinstance(recipe, TranslationRecipe):
        assert (task.reference, FULL_SCALE) == (recipe.intensity.reference, recipe.intensity.full_scale)


def test_source_and_target_lie_on_one_grid_in_one_visit() -> None:
    task = next(one for one in TASKS if one.id == "t2-to-stir")
    case = scan(replace(task, matrix=64), splits()[task.id].test[0])
    assert case.source.shape == case.target.shape == (3, 64, 64)
    assert case.source.origin_mm == case.target.origin_mm
    assert case.source.voxels.max() <= 4095
    np.testing.assert_array_equal(case.source.voxels, np.rint(case.source.voxels))
    assert 0.3 * FULL_SCALE < case.target.voxels.max() <= FULL_SCALE


def test_a_reduced_image_lies_where_the_fine_one_lay() -> None:
    task = TASKS[0]
    case = scan(replace(task, matrix=128), splits()[task.id].test[0])
    assert case.source.shape == (1, 32, 32)
    fine = case.target
    ramp = np.broadcast_to(np.arange(128, dtype=np.float32), fine.shape) * 8.0
    small = reduced(fine.with_voxels(ramp.copy()))
    places = small.origin_mm[1] + np.arange(32) * small.spacing_mm[2]
    columns = (places - fine.origin_mm[1]) / fine.spacing_mm[2]
    np.testing.assert_allclose(small.voxels[0, 8, 1:-1], 8.0 * columns[1:-1], atol=0.5)


def test_a_radiograph_is_registered_on_the_lowest_lumbar_vertebra() -> None:
    task = next(one for one in TASKS if one.id == "xray-to-t2")
    case = scan(replace(task, matrix=64), splits()[task.id].test[0])
    assert case.source.shape == case.target.shape == (1, 64, 64)
    assert case.source.origin_mm == case.target.origin_mm
    y_mm, z_mm = lowest_lumbar(case.patient).centre_mm
    row = round((case.source.origin_mm[2] - z_mm) / case.source.spacing_mm[1])
    column = round((y_mm - case.source.origin_mm[1]) / case.source.spacing_mm[2])
    bone = case.source.voxels[0, row - 2 : row + 3, column - 2 : column + 3]
    assert bone.mean() > np.percentile(case.source.voxels, 75)  # bone is bright
