"""The self-test: the shipped models pass, and what is broken is named."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import pipelines
from pipelines import inference
from pipelines.catalog import Catalog
from pipelines.released import card_of, digest_problem, metrics_of
from pipelines.result import Progress, Result
from pipelines.self_test import self_test
from pipelines.spec import PipelineSpec, read_manifest
from pipelines.volume import Volume

SHIPPED = Catalog.read(Path(pipelines.__file__).resolve().parents[1] / "weights")
STIR = SHIPPED["t2-to-stir"]


@pytest.mark.parametrize("pipeline_id", SHIPPED)
def test_a_shipped_model_passes(pipeline_id: str) -> None:
    steps = list(self_test(SHIPPED[pipeline_id], inference.load))
    assert [(step.name, step.passed) for step in steps] == [("weights", True), ("result", True), ("repeated", True)]


def test_other_weights_are_named_and_nothing_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "t2-to-stir"
    shutil.copytree(STIR.path, folder)
    spec = read_manifest(folder)
    assert digest_problem(spec) is None
    spec.weights_path.write_bytes(b"other weights")
    (step,) = self_test(spec, inference.load)
    assert not step.passed
    assert "sha256: found" in step.found
    assert "sha256: found" in str(digest_problem(spec))
    spec.weights_path.unlink()
    assert "cannot be read" in str(digest_problem(spec))


class Fake:
    """A model that gives what it is told."""

    def __init__(self, spec: PipelineSpec, *values: float) -> None:
        self.spec = spec
        self._values = iter(values)

    def __call__(self, volumes: Mapping[str, Volume], progress: Progress) -> Result:
        (volume,) = volumes.values()
        voxels = volume.voxels * np.float32(next(self._values))
        return Result(volume.with_voxels(voxels), (), {})

    def warm_up(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("values", "name", "words"),
    [
        ((float("nan"), 1.0), "result", "no numbers"),
        ((100.0, 1.0), "result", "expected 0 to 1250"),
        ((0.0, 0.0), "result", "one value everywhere"),
        ((1.0, 0.5), "repeated", "other voxels"),
    ],
)
def test_a_result_that_cannot_be_right_fails(values: tuple[float, ...], name: str, words: str) -> None:
    *_, last = self_test(STIR, lambda spec: Fake(spec, *values))
    assert (last.name, last.passed) == (name, False)
    assert words in last.found


def test_what_a_model_brings_is_read_and_what_is_missing_is_nothing(tmp_path: Path) -> None:
    tables = metrics_of(STIR)
    assert [table.data for table in tables] == [
        "held out data, 40 patients",
        "held out data, 40 patients: generator minus baseline",
        "shifted data, 40 patients",
        "shifted data, 40 patients: generator minus baseline",
    ]
    assert tables[0].rows[0] == ("generator", ("0.007597 ± 0.0048", "21.81 ± 2.2", "0.5793 ± 0.097", "0.5771 ± 0.095"))
    assert tables[1].rows[0][1][1] == "+10.4 [+9.47, +11.2]"
    assert [name for name, _ in tables[0].rows] == ["generator", "identity", "histogram", "pixel map"]
    assert card_of(STIR).startswith("# t2-to-stir")
    assert len(metrics_of(SHIPPED["ct-denoise"])) == 6
    folder = tmp_path / "t2-to-stir"
    folder.mkdir()
    shutil.copy(STIR.path / "manifest.toml", folder)
    bare = read_manifest(folder)
    assert (card_of(bare), metrics_of(bare)) == ("", ())
    (folder / "metrics.json").write_text('{"x": {"methods": {"a": {"mse": 3}}}, "y": 1}')
    (table,) = metrics_of(bare)
    assert table.rows == (("a", ("–",)),)
    (folder / "metrics.json").write_text("[1")
    assert metrics_of(bare) == ()
