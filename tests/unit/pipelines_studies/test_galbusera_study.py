"""The study by its command: measured with a model of a few thousand parameters, gone on with, written down."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomlkit
import torch
from athanor_command import athanor, write_settings
from PIL import Image
from safetensors.torch import save_file

from gateway.settings import Settings
from pipelines.catalog import Catalog
from pipelines.networks import GENERATORS
from pipelines.studies.galbusera.cases import scan
from pipelines.studies.galbusera.cohort import TASKS, splits
from pipelines.studies.galbusera.methods import methods_of
from pipelines.studies.galbusera.report import empty, with_tables
from pipelines.studies.galbusera.tables import kappa_words, tables


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model: t2-to-stir, untrained and small."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "t2-to-stir").mkdir()
    manifest = tomlkit.parse((Settings().models_dir / "t2-to-stir" / "manifest.toml").read_text(encoding="utf-8"))
    sizes = {"in_channels": 1, "out_channels": 1, "ngf": 8, "downs": 3}
    torch.manual_seed(1)
    network = GENERATORS["unet"](**sizes)
    save_file(
        {name: value.half() for name, value in network.state_dict().items()},
        folder / "t2-to-stir" / "generator.safetensors",
    )
    digest = hashlib.sha256((folder / "t2-to-stir" / "generator.safetensors").read_bytes()).hexdigest()
    manifest["generator"] = {
        "architecture": "unet", "file": "generator.safetensors", "sha256": digest, "parameters": sizes,
    }  # fmt: skip
    (folder / "t2-to-stir" / "manifest.toml").write_text(tomlkit.dumps(manifest), encoding="utf-8")
    return folder


def test_the_study_is_measured_written_and_gone_on_with(weights: Path, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "node")
    settings.write_text(f'weights_dir = "{weights}"\n{settings.read_text()}', encoding="utf-8")
    out = tmp_path / "study"
    command = ("--settings", settings, "study", "galbusera", "--quick", "--out", out, "--task", "t2-to-stir")
    ran = athanor(*command)
    assert ran.code == 0, ran.err
    assert "T2W to STIR: 2 patients, 1.0.0" in ran.out
    assert "X-ray to T2W: 0 patients, no weights ship" in ran.out
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    cases = results["tasks"]["t2-to-stir"]["cases"]
    assert [int(seed) for seed in cases] == list(splits()["t2-to-stir"].test[:2])
    for case in cases.values():
        assert set(case["scores"]) == {"target", "generator", "l1_only", "pixel_map", "histogram", "identity"}
        assert case["scores"]["l1_only"]["ssim"] > case["scores"]["generator"]["ssim"]
        assert set(case["answers"]) == {*case["scores"], "truth"}
    text = (out / "README.md").read_text(encoding="utf-8")
    assert text.count("no weights ship") >= 5
    with Image.open(out / "t2-to-stir.png") as picture:
        assert picture.size == (2 * 3 * 192 + 8, 192)
    assert {path.name for path in out.glob("*.png")} == {"t2-to-stir.png", "translation.png", "super-resolution.png"}

    first, second = cases
    shortened = {first: cases[first] | {"scores": {**cases[first]["scores"], "generator": {"mse": 0.125}}}}
    results["tasks"]["t2-to-stir"]["cases"] = shortened  # stopped after the first patient, who bears a mark
    (out / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (out / "README.md").write_text(text.replace("## Image quality", "## Image quality\n\nSeen with own eyes."))
    assert athanor(*command).code == 0
    again = json.loads((out / "results.json").read_text(encoding="utf-8"))["tasks"]["t2-to-stir"]["cases"]
    assert again[first]["scores"]["generator"] == {"mse": 0.125}
    assert again[second] == cases[second]
    assert "## Image quality\n\nSeen with own eyes." in (out / "README.md").read_text(encoding="utf-8")


def test_a_task_that_the_study_does_not_have_is_named(tmp_path: Path) -> None:
    ran = athanor("study", "galbusera", "--out", tmp_path, "--task", "ct-denoise")
    assert ran.code == 2
    assert "found 'ct-denoise'; expected one of: t2-super-resolution" in ran.err
    assert not list(tmp_path.iterdir())


def test_enlarging_gives_the_grid_of_the_target() -> None:
    task = replace(TASKS[0], matrix=128)
    case = scan(task, splits()[task.id].test[0])
    methods = methods_of(task, Catalog({}), ())
    assert list(methods) == ["cubic", "linear"]
    errors = {name: float(np.mean((method(case) - case.target.voxels) ** 2)) for name, method in methods.items()}
    assert max(errors.values()) < 0.5 * float(case.target.voxels.var())


def test_tables_replace_what_stands_between_their_markers_only() -> None:
    with pytest.raises(ValueError, match="cohort: begin"):
        with_tables("# A document without markers\n", {"cohort": "x"})
    document = with_tables(
        empty().replace("## The virtual reader", "## The virtual reader\n\nWords."), {"clinical": "A"}
    )
    assert "Words." in with_tables(document, {"clinical": "B"})
    assert with_tables(with_tables(document, {"clinical": "B"}), {"clinical": "A"}) == document


def test_agreement_is_told_in_the_words_of_the_paper() -> None:
    def measured(*pairs: tuple[bool, bool]) -> dict[str, object]:
        return {
            "cases": {
                str(n): {"answers": {"generator": {"q": a}, "target": {"q": b}}} for n, (a, b) in enumerate(pairs)
            }
        }

    mixed = measured(*[(True, True)] * 6, *[(False, False)] * 6, (True, False))
    assert kappa_words(mixed, "q", "generator", "target").startswith("0.847 (excellent) [")
    assert kappa_words(measured((True, True), (True, True)), "q", "generator", "target").startswith("undefined")
    assert kappa_words(mixed, "q", "l1_only", "target") == ""


def test_a_study_that_nobody_has_run_has_tables_too() -> None:
    nothing = {task.id: {"weights": {"generator": None, "l1_only": None}, "cases": {}} for task in TASKS}
    shares = dict.fromkeys(
        ("l4_l5_disc_disease", "l5_s1_disc_disease", "l4_s1_modic", "protrusion", "lumbar_fracture", "not_five_lumbar"),
        0.5,
    )
    found = tables({"cohort": {"patients": 2, "age_years": 50.0, **shares}, "tasks": nothing})
    assert found["quality"].count("not measured") == len(TASKS)
    assert found["differences"].count("no weights ship") == len(TASKS)
