"""From a file of another code base to a pipeline that can be tested, enabled and used; and its check afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
import torch
from athanor_command import athanor, write_settings
from reference_layout import Reference, resnet_checkpoint

from pipelines import inference
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError, WeightsError
from pipelines.importing.pix2pix_checkpoint import recognise
from pipelines.importing.release import release, template
from pipelines.spec import read_manifest
from pipelines.volume import Volume

SOURCE = Path("latest_net_G.pth")


def fill(text: str, change: Callable[[Any], None] = lambda _: None) -> str:
    """The template with everything answered, then changed."""
    answers = tomlkit.parse(text)
    for key in ("title", "summary", "method", "licence", "intended_use"):
        answers[key] = "Stated here"
    answers["id"] = "t1-to-t2-theirs"
    answers["inputs"][0].update(role="T1W", modality="MR")
    answers["geometry"].update(pixel_spacing_mm=1.0)
    answers["output"].update(contrast="T2W", modality="MR", marker="T2W")
    change(answers)
    return tomlkit.dumps(answers)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def to_window(answers: Any) -> None:
    """Grey values as the network takes and gives them."""
    del answers["intensity"]["percentiles"]
    answers["intensity"]["window"] = [-1.0, 1.0]
    answers["output"]["range"] = [-1.0, 1.0]
    answers["generator"].update(seed=7)


def test_a_checkpoint_becomes_a_pipeline(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    settings = write_settings(tmp_path / "site", process={"threads": 1})
    settings.write_text(f'weights_dir = "{models}"\n' + settings.read_text())
    state, source = resnet_checkpoint("batch", dropout=True), tmp_path / SOURCE
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, source)

    looked = athanor("--settings", settings, "weights", "import", source)
    assert (looked.code, looked.err, names(models)) == (0, "", [])
    assert "# ResNet generator with 2 blocks, 4 filters, batch norm, 1 channels in and 1 out" in looked.out
    answers = tmp_path / "answers.toml"
    answers.write_text(fill(looked.out, to_window))
    made = athanor("--settings", settings, "weights", "import", source, "--answers", answers, "--json")
    folder = models / "t1-to-t2-theirs"
    assert made.json["folder"] == str(folder)
    assert names(models) == ["t1-to-t2-theirs"]
    assert names(folder) == ["card.md", "generator.safetensors", "manifest.toml"]
    assert "**What it has seen: unknown.**" in (folder / "card.md").read_text()
    assert "- the prefix module. was taken off every name" in (folder / "card.md").read_text()
    spec = Catalog.read(models)["t1-to-t2-theirs"]
    assert not spec.enabled
    assert athanor("--settings", settings, "pipelines", "test", spec.id).code == 0
    assert_translates_as_the_reference(spec.path, state)

    verified = athanor("--settings", settings, "weights", "verify", "--json")
    assert (verified.code, [row["problem"] for row in verified.json]) == (0, [None])
    with pytest.raises(WeightsError, match="found a model of that id"):
        release(source, recognise(source, state), answers, models)


def assert_translates_as_the_reference(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """The whole pipeline on a volume, which needs neither resampling nor padding, and that code slice by slice."""
    z, y, x = np.mgrid[:6, :24, :24]
    voxels = (0.9 * np.sin(0.3 * y + 0.2 * z) * np.cos(0.25 * x)).astype(np.float32)
    given = Volume(voxels, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    result = inference.load(read_manifest(folder))({"T1W": given}, lambda done, of: None).volume.voxels
    reference = Reference(state, "batch", drops=True)
    with torch.inference_mode():
        for found, one in zip(result, voxels, strict=True):
            torch.manual_seed(7)
            expected = reference.resnet(torch.from_numpy(one)[None, None], 2, True)[0, 0].numpy()
            np.testing.assert_allclose(found, expected, atol=1e-4)


ANSWERS: dict[str, tuple[Callable[[Any], object], str]] = {
    "untouched": (lambda a: a.update(id=""), "id: found '', expected lower-case words"),
    "path": (lambda a: a.update(id="../elsewhere"), "id: found '../elsewhere', expected lower-case words"),
    "enabled": (lambda a: a.update(enabled=True), "enabled: unknown key"),
    "kind": (lambda a: a.update(kind="denoise"), "kind: found 'denoise', expected 'translate'"),
    "blank": (lambda a: a.update(licence=""), "answers.toml: licence: found '', expected text"),
    "spacing": (lambda a: a["geometry"].update(pixel_spacing_mm=0), "geometry.pixel_spacing_mm: found 0, expected"),
    "role": (lambda a: a["inputs"][0].update(role=""), "inputs[0].role: found '', expected text"),
    "digest": (lambda a: a["generator"].update(sha256="0"), "generator.sha256: unknown key; the file itself says it"),
    "choice": (lambda a: a["generator"].update(norm_mode="eval"), "norm_mode: found 'eval', expected 'batch', 'run"),
    "flag": (lambda a: a["generator"].update(dropout=1), "generator.dropout: found 1, expected True, False"),
    "unanswered": (lambda a: a["generator"].pop("dropout"), "generator.dropout: missing, expected an answer"),
    "misspelt": (lambda a: a.update(licens="x"), "licens: unknown key"),
    "multiple": (lambda a: a["geometry"].update(multiple=3), "slice: found 6 x 6, expected multiples of 4"),
    "inputs": (lambda a: a["inputs"].append({"role": "B", "modality": "MR"}), "found 2 images in, expected 1"),
}


@pytest.mark.parametrize("which", ANSWERS)
def test_an_answer_that_does_not_fit_is_named_and_leaves_nothing(tmp_path: Path, which: str) -> None:
    change, words = ANSWERS[which]
    found = recognise(SOURCE, resnet_checkpoint("batch", dropout=True))
    answers, models = tmp_path / "answers.toml", tmp_path / "models"
    models.mkdir()
    answers.write_text(fill(template(SOURCE, found), change))
    with pytest.raises(PipelineError) as caught:
        release(SOURCE, found, answers, models)
    assert words in str(caught.value)
    assert ".import-" not in str(caught.value)
    assert names(models) == []


def test_verify_names_what_is_wrong_with_each(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    settings = write_settings(tmp_path / "site", process={"threads": 1})
    settings.write_text(f'weights_dir = "{models}"\n' + settings.read_text())
    found = recognise(SOURCE, resnet_checkpoint())
    answers = tmp_path / "answers.toml"
    for name in ("digest", "fits", "manifest", "shapes"):
        answers.write_text(fill(template(SOURCE, found), lambda a, name=name: a.update(id=name)))
        release(SOURCE, found, answers, models)
    with (models / "digest" / "generator.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    change_manifest(models / "manifest", lambda m: m.pop("title"))
    change_manifest(models / "shapes", lambda m: m["generator"]["parameters"].update(blocks=3))
    ran = athanor("--settings", settings, "weights", "verify", "--json")
    assert ran.code == 1
    problems = {row["id"]: row["problem"] for row in ran.json}
    assert problems["fits"] is None
    assert "generator.safetensors: sha256: found " in problems["digest"]
    assert "title: missing, expected text" in problems["manifest"]
    assert "tensors missing: model.12.conv_block" in problems["shapes"]
    only = athanor("--settings", settings, "weights", "verify", "fits")
    assert (only.code, only.out.split()[-4:]) == (0, ["fits", "1.0.0", "pix2pix-resnet", "verified"])
    assert athanor("--settings", settings, "weights", "verify", "no-such").code == 3


def change_manifest(folder: Path, change: Callable[[Any], object]) -> None:
    manifest = tomlkit.parse((folder / "manifest.toml").read_text())
    change(manifest)
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest))
