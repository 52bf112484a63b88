"""Super-resolution through the pipeline: where the result lies, that it keeps what was acquired, and bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomlkit
from model_files import write_model, write_super_resolution

from pipelines.degradation import degraded
from pipelines.errors import Unsuitable, WeightsError
from pipelines.inference import Pipeline, load
from pipelines.kinds import super_resolve
from pipelines.result import Result
from pipelines.self_test import self_test
from pipelines.spec import read_manifest
from pipelines.volume import Volume

TURNED = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]).T  # sagittal


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load(read_manifest(write_super_resolution(tmp_path_factory.mktemp("weights"))))


def series(slices: int = 3, rows: int = 40, columns: int = 56, scale: float = 900.0) -> Volume:
    """Rings with soft edges in air, with some noise."""
    row, column = np.mgrid[:rows, :columns]
    radius = np.hypot(row - rows / 2, column - columns / 2)
    body = 0.1 + (1.0 + 0.5 * np.cos(radius / 2.0)) / (1.0 + np.exp(radius - 0.4 * rows))
    noise = np.random.default_rng(4).normal(0.0, 0.02, (slices, rows, columns))
    voxels = scale * np.clip(body + noise, 0.0, None)
    return Volume(voxels.astype(np.float32), (4.4, 2.0, 2.5), (-8.0, -60.0, 35.0), TURNED)


def run(pipeline: Pipeline, volume: Volume) -> Result:
    return pipeline({"T2W": volume}, lambda done, of: None)


def flags(result: Result) -> dict[str, bool]:
    return {check.name: check.flagged for check in result.checks}


def test_the_result_is_four_times_as_fine_with_the_edges_of_the_source(pipeline: Pipeline) -> None:
    volume = series()
    fine = run(pipeline, volume).volume
    assert fine.shape == (3, 160, 224)
    assert fine.spacing_mm == (4.4, 0.5, 0.625)
    corner = np.asarray(volume.origin_mm) - volume.direction @ np.array([0.0, 1.0, 1.25])
    np.testing.assert_allclose(np.asarray(fine.origin_mm) - fine.direction @ np.array([0.0, 0.25, 0.3125]), corner)


def test_made_coarse_again_it_is_the_source(pipeline: Pipeline) -> None:
    volume = series()
    result = run(pipeline, volume)
    interpolated = np.repeat(np.repeat(volume.voxels, 4, axis=1), 4, axis=2)
    assert np.abs(result.volume.voxels - interpolated).max() > 50  # something was done
    for fine, coarse in zip(result.volume.voxels, volume.voxels, strict=True):
        assert np.sqrt(np.mean((degraded(fine, 4) - coarse) ** 2)) < 0.01 * np.ptp(volume.voxels)
    assert flags(result)["consistency"] is False
    again = run(pipeline, volume)
    assert np.array_equal(again.volume.voxels, result.volume.voxels)
    alone = run(pipeline, replace(volume, voxels=volume.voxels[:1]))
    assert alone.volume.shape == (1, 160, 224)


def test_tiles_give_what_the_whole_slice_gives(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(pipeline, series()).volume.voxels
    monkeypatch.setattr(super_resolve, "TILE", 24)
    np.testing.assert_allclose(run(pipeline, series()).volume.voxels, whole, atol=0.02)


def test_what_clipping_takes_is_told(pipeline: Pipeline) -> None:
    volume = series()
    volume.voxels[:, 10:30:2, 10:40] = 3900.0 + 6.0 * np.arange(
        30
    )  # stripes as fine as the matrix: what they overshoot cannot be stored
    volume.voxels[:, 11:30:2, 10:40] = 0.0
    assert flags(run(pipeline, volume))["consistency"] is True


def test_bad_slices_do_not_poison_the_others(pipeline: Pipeline) -> None:
    volume = series()
    clean = run(pipeline, volume).volume.voxels
    spoilt = volume.voxels.copy()
    spoilt[1] = 7.0
    spoilt[2, 3, 4] = np.nan
    result = run(pipeline, replace(volume, voxels=spoilt))
    assert np.isfinite(result.volume.voxels).all()
    assert not result.volume.voxels[1].any()
    assert np.abs(result.volume.voxels[0] - clean[0]).max() < 0.1 * clean.max()
    assert {"constant-slices", "non-finite"} <= flags(result).keys()


@pytest.mark.parametrize("scale", [20.0, 20_000.0])
def test_eight_and_sixteen_bits(pipeline: Pipeline, scale: float) -> None:
    volume = series(scale=scale)
    result = run(pipeline, volume)
    factor = min(1.0, 4095.0 / float(volume.voxels.max()))
    coarse = degraded(result.volume.voxels[0], 4)
    np.testing.assert_allclose(coarse, factor * volume.voxels[0], atol=0.02 * factor * volume.voxels.max())
    assert ("rescaled" in flags(result)) == (factor < 1.0)


def test_what_shows_nothing_or_is_not_there_is_refused(pipeline: Pipeline) -> None:
    volume = series()
    for voxels in (np.full_like(volume.voxels, 5.0), np.full_like(volume.voxels, np.nan)):
        with pytest.raises(Unsuitable, match="constant"):
            run(pipeline, replace(volume, voxels=voxels))
    with pytest.raises(Unsuitable, match="roles"):
        pipeline({"T1W": volume}, lambda done, of: None)


def test_another_architecture_is_refused_and_the_self_test_passes(pipeline: Pipeline, tmp_path: Path) -> None:
    def as_super_resolve(manifest: tomlkit.TOMLDocument) -> None:
        manifest["kind"] = "super-resolve"

    with pytest.raises(WeightsError, match="expected 'edsr'"):
        load(read_manifest(write_model(tmp_path, as_super_resolve)))
    assert pipeline.warm_up() > 0
    assert [step.found for step in self_test(pipeline.spec, load) if not step.passed] == []
