"""Thin slices through the pipeline: five for one on a finer grid, their mean kept, tiles exact, bad input refused."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomlkit
import torch
from model_files import write_thin_slices

from pipelines.errors import Unsuitable, WeightsError
from pipelines.inference import Pipeline, load
from pipelines.kinds import thin_slice
from pipelines.networks import Denoiser
from pipelines.networks.thin_slices import cubic
from pipelines.self_test import self_test
from pipelines.spec import SeriesFacts, read_manifest
from pipelines.volume import Volume


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load(read_manifest(write_thin_slices(tmp_path_factory.mktemp("weights"))))


def ct(voxels: np.ndarray, unit: str = "HU") -> Volume:
    return Volume(voxels.astype(np.float32), (5.0, 0.7, 0.7), (10.0, 20.0, 30.0), np.eye(3), unit)


def body(slices: int = 4, size: int = 96) -> np.ndarray:
    """A round body of 50 HU in air that grows from slice to slice, with noise."""
    offset = np.arange(size) - size / 2
    radius = size * (0.25 + 0.04 * np.arange(slices))
    inside = np.hypot(offset[:, None], offset[None, :]) < radius[:, None, None]
    noise = np.random.default_rng(0).normal(0, 5, (slices, size, size))
    return np.where(inside, 50.0, -1000.0) + noise


def run(pipeline: Pipeline, volume: Volume) -> tuple[np.ndarray, dict[str, bool]]:
    result = pipeline({"CT": volume}, lambda done, of: None)
    assert result.volume.unit == "HU"
    return result.volume.voxels, {check.name: check.flagged for check in result.checks}


def test_the_result_fills_the_same_body_with_thinner_slices(pipeline: Pipeline) -> None:
    volume = ct(body())
    done: list[tuple[int, int]] = []
    result = pipeline({"CT": volume}, lambda so_far, of: done.append((so_far, of))).volume
    assert result.shape == (20, 96, 96)
    assert result.spacing_mm == (1.0, 0.7, 0.7)
    assert result.position_mm(2) == pytest.approx(volume.position_mm(0))  # the middle one of the first five
    assert result.position_mm(17) == pytest.approx(volume.position_mm(3))
    assert done[-1] == (4, 4)


def test_the_mean_of_five_is_the_slice_that_was_measured(pipeline: Pipeline) -> None:
    voxels = body()
    thin, _ = run(pipeline, ct(voxels))
    fives = thin.reshape(4, 5, 96, 96)
    assert np.ptp(fives, axis=1).max() > 20  # something was done
    np.testing.assert_allclose(fives.mean(axis=1), voxels, atol=0.05)


def test_tiles_give_what_the_whole_slice_gives(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = ct(body())
    whole, _ = run(pipeline, volume)
    monkeypatch.setattr(thin_slice, "TILE", 32)
    tiled, _ = run(pipeline, volume)
    np.testing.assert_allclose(tiled, whole, atol=2e-3)


def test_the_same_voxels_at_every_run_and_wherever_the_series_goes_on(pipeline: Pipeline) -> None:
    voxels = body(7)
    whole, _ = run(pipeline, ct(voxels))
    again, _ = run(pipeline, ct(voxels))
    np.testing.assert_array_equal(whole, again)
    part, _ = run(pipeline, ct(voxels[:5]))
    np.testing.assert_array_equal(part[:15], whole[:15])  # the third slice looks two further


@pytest.mark.parametrize(("slices", "rows", "columns"), [(1, 96, 96), (2, 97, 63), (3, 20, 33)])
def test_any_size_is_given_back(pipeline: Pipeline, slices: int, rows: int, columns: int) -> None:
    thin, _ = run(pipeline, ct(np.random.default_rng(1).normal(40, 20, (slices, rows, columns))))
    assert thin.shape == (5 * slices, rows, columns)


def test_padding_metal_and_air_stay_and_missing_voxels_become_air(pipeline: Pipeline) -> None:
    voxels = body()
    voxels[:, :10, :10] = -2000
    voxels[0, 48, 40:44] = 8000
    voxels[1, 50, 50] = np.nan
    thin, checks = run(pipeline, ct(voxels))
    assert (thin[:, :10, :10] == -2000).all()
    assert (thin[:5, 48, 40:44] == 8000).all()
    assert np.isfinite(thin).all()
    assert checks["non-finite"] is True


def test_an_empty_slice_stays_and_does_not_reach_its_neighbours(pipeline: Pipeline) -> None:
    voxels = body()
    ends, _ = run(pipeline, ct(voxels[:2]))
    for empty in (-1000.0, np.nan):
        voxels[2] = empty
        thin, checks = run(pipeline, ct(voxels[:3]))
        assert (thin[10:] == (-1024 if np.isnan(empty) else empty)).all()
        np.testing.assert_array_equal(thin[:10], ends)
        assert checks["constant-slices"] is True


@pytest.mark.parametrize(
    ("volume", "check"),
    [
        (ct(body(), unit="1"), "unit"),
        (ct(np.full((2, 64, 64), 40.0)), "constant"),
        (ct(1e6 + body()), "hounsfield"),
        (ct(np.full((1, 64, 64), np.nan)), "constant"),
    ],
)
def test_what_is_no_ct_is_refused(pipeline: Pipeline, volume: Volume, check: str) -> None:
    with pytest.raises(Unsuitable) as caught:
        run(pipeline, volume)
    assert caught.value.check == check


@pytest.mark.parametrize(
    ("thickness_mm", "violations"), [(5.0, []), (None, []), (2.5, ["slice-gap-mm"]), (7.5, ["slice-gap-mm"])]
)
def test_slices_with_gaps_or_overlap_are_refused_where_headers_tell(
    facts: SeriesFacts, tmp_path: Path, thickness_mm: float | None, violations: list[str]
) -> None:
    path = write_thin_slices(tmp_path) / "manifest.toml"
    manifest = tomlkit.parse(path.read_text(encoding="utf-8"))
    manifest["inputs"] = [
        {
            "role": "CT",
            "modality": "MR",
            "may_be_missing": ["slice_gap_mm"],
            "ranges": {"slice_spacing_mm": [3.9, 6.1], "slice_gap_mm": [-0.3, 0.3]},
        }
    ]
    path.write_text(tomlkit.dumps(manifest), encoding="utf-8")
    (contract,) = read_manifest(path.parent).inputs
    series = replace(facts, spacing_mm=(5.0, 0.7, 0.7), slice_thickness_mm=thickness_mm)
    assert [violation.check for violation in contract.check(series)] == violations


def test_a_network_that_takes_no_stack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="stack of slices"):
        thin_slice.ThinSlice(read_manifest(write_thin_slices(tmp_path)), Denoiser(width=4, depth=2))


def test_the_self_test_passes(tmp_path: Path) -> None:
    steps = list(self_test(read_manifest(write_thin_slices(tmp_path)), load))
    assert [step.name for step in steps if step.passed] == ["weights", "result", "repeated"]


def test_the_cubic_interpolation_is_exact_on_a_parabola_and_keeps_the_slices_own_place() -> None:
    places = torch.arange(-2.0, 3.0)
    thin = cubic((1.0 + places + places**2)[None, :, None, None].expand(1, 5, 2, 2))[0, :, 0, 0]
    z = torch.tensor([-0.4, -0.2, 0.0, 0.2, 0.4])
    torch.testing.assert_close(thin, 1.0 + z + z**2)


_MEMORY = """
import sys
import numpy as np, torch
from pathlib import Path
from pipelines.inference import load
from pipelines.spec import read_manifest
from pipelines.volume import Volume
torch.set_num_threads(1)
voxels = np.full((60, 512, 512), -1000.0, np.float32)  # empty slices cost no time, but all of their memory
voxels[:2] = np.random.default_rng(0).normal(0, 20, (512, 512))
volume = Volume(voxels, (5.0, 0.7, 0.7), (0.0, 0.0, 0.0), np.eye(3), "HU")
load(read_manifest(Path(sys.argv[1])))({"CT": volume}, lambda done, of: None)
# not ru_maxrss, which begins with the peak of the process that started this one
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_sixty_slices_take_less_than_a_gib_and_a_half(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(write_thin_slices(tmp_path))], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 1536  # 63 MiB came in, 315 MiB come out
