"""Denoising through the pipeline: HU in, HU out, tiles exact, means kept, and what no model should be given refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import write_denoiser

from pipelines.errors import ManifestError, Unsuitable, WeightsError
from pipelines.inference import Pipeline, load
from pipelines.kinds import denoise
from pipelines.spec import read_manifest
from pipelines.volume import Volume


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load(read_manifest(write_denoiser(tmp_path_factory.mktemp("weights"))))


def ct(voxels: np.ndarray, unit: str = "HU") -> Volume:
    return Volume(voxels.astype(np.float32), (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), np.eye(3), unit)


def body(slices: int = 2, size: int = 160) -> np.ndarray:
    """A round body of 50 HU in air, with noise."""
    offset = np.arange(size) - size / 2
    inside = np.hypot(offset[:, None], offset[None, :]) < 0.4 * size
    noise = np.random.default_rng(0).normal(0, 5, (slices, size, size))
    return np.where(inside, 50.0, -1000.0) + noise


def run(pipeline: Pipeline, volume: Volume) -> tuple[np.ndarray, dict[str, bool]]:
    result = pipeline({"CT": volume}, lambda done, of: None)
    assert result.volume.unit == "HU"
    assert result.volume.spacing_mm == volume.spacing_mm
    return result.volume.voxels, {check.name: check.flagged for check in result.checks}


def test_tiles_give_what_the_whole_slice_gives(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = ct(body(1, 110))
    whole, _ = run(pipeline, volume)
    assert np.abs(whole - volume.voxels).max() > 1  # something was done
    monkeypatch.setattr(denoise, "TILE", 48)
    tiled, _ = run(pipeline, volume)
    np.testing.assert_allclose(tiled, whole, atol=2e-3)


def test_the_mean_of_a_region_stays(pipeline: Pipeline) -> None:
    voxels = body()
    denoised, checks = run(pipeline, ct(voxels))
    shifts, allowed = denoise.block_shifts(voxels[0].astype(np.float32), denoised[0])
    assert shifts.size > 10
    assert np.abs(shifts).max() < 0.5 * np.abs(denoised - voxels)[0, 64:96, 64:96].max()
    assert np.abs(shifts).max() < denoise.KEPT_HU <= allowed.min()
    assert checks["hu-shift"] is False


class Brighter(torch.nn.Module):
    """Adds some HU everywhere, as no denoiser may."""

    halo = 2

    def __init__(self, hu: float) -> None:
        super().__init__()
        self.hu = hu

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy + self.hu / 2047.5


@pytest.mark.parametrize(("hu", "flagged"), [(1.5, False), (-3.0, True)])
def test_a_result_whose_hu_moved_is_flagged(pipeline: Pipeline, hu: float, flagged: bool) -> None:
    denoised, checks = run(denoise.Denoise(pipeline.spec, Brighter(hu)), ct(body()))
    assert checks["hu-shift"] is flagged
    assert np.mean(denoised - body()) == pytest.approx(max(hu, -denoise.KEPT_HU), abs=0.1)


@pytest.mark.parametrize("size", [(160, 160), (155, 90), (15, 64)])
def test_no_block_is_left_further_from_the_scan(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    noisy = rng.normal(40, 30, size).astype(np.float32)
    slow = np.kron(rng.normal(0, 6, (10, 10)), np.ones((16, 16)))[: size[0], : size[1]]
    wanted = (noisy + slow + rng.normal(0, 5, size)).astype(np.float32)
    kept = denoise.means_kept(noisy, wanted, (-1024.0, 3071.0))
    if min(size) < denoise.BLOCK:
        np.testing.assert_array_equal(kept, wanted)
        return
    whole = tuple(slice(length // 16 * 16) for length in size)
    means = (kept - noisy)[whole].reshape(size[0] // 16, 16, size[1] // 16, 16).mean(axis=(1, 3))
    before = (wanted - noisy)[whole].reshape(size[0] // 16, 16, size[1] // 16, 16).mean(axis=(1, 3))
    assert np.abs(before).max() > 6
    assert np.abs(means).max() < denoise.KEPT_HU
    near = np.abs(before) < 1.9
    np.testing.assert_allclose(means[near], before[near], atol=1e-3)
    given_back = wanted - kept
    assert np.abs(np.diff(given_back, axis=0)).max() < np.abs(before).max() / 4  # no border shows


def test_blocks_that_may_stay_are_not_touched() -> None:
    noisy = np.random.default_rng(2).normal(40, 30, (64, 64)).astype(np.float32)
    cleaned = noisy + np.float32(1.0)
    np.testing.assert_array_equal(denoise.means_kept(noisy, cleaned, (-1024.0, 3071.0)), cleaned)


def test_noise_in_the_mean_of_a_block_may_go(pipeline: Pipeline) -> None:
    noisy = np.full((64, 64), 40.0, np.float32)
    noisy += np.random.default_rng(4).normal(0, 60, noisy.shape).astype(np.float32)
    shifts, allowed = denoise.block_shifts(noisy, np.full_like(noisy, 40.0))
    assert np.abs(shifts).max() > denoise.KEPT_HU
    assert (np.abs(shifts) < allowed).all()


def test_slices_do_not_depend_on_each_other(pipeline: Pipeline) -> None:
    voxels = body(3)
    together, _ = run(pipeline, ct(voxels))
    alone, _ = run(pipeline, ct(voxels[1:2]))
    np.testing.assert_array_equal(together[1:2], alone)
    again, _ = run(pipeline, ct(voxels))
    np.testing.assert_array_equal(together, again)


@pytest.mark.parametrize(("rows", "columns"), [(96, 96), (97, 63), (20, 33)])
def test_any_size_is_given_back(pipeline: Pipeline, rows: int, columns: int) -> None:
    voxels = np.random.default_rng(1).normal(40, 20, (1, rows, columns))
    denoised, _ = run(pipeline, ct(voxels))
    assert denoised.shape == (1, rows, columns)


def test_padding_and_metal_stay_and_missing_voxels_become_air(pipeline: Pipeline) -> None:
    voxels = body()
    voxels[:, :10, :10] = -2000
    voxels[0, 48, 40:44] = 8000
    voxels[1, 50, 50] = np.nan
    denoised, checks = run(pipeline, ct(voxels))
    assert (denoised[:, :10, :10] == -2000).all()
    assert (denoised[0, 48, 40:44] == 8000).all()
    assert np.isfinite(denoised).all()
    assert checks["non-finite"] is True


def test_an_empty_slice_comes_back_untouched(pipeline: Pipeline) -> None:
    voxels = body()
    voxels[1] = -1000
    denoised, checks = run(pipeline, ct(voxels))
    assert (denoised[1] == -1000).all()
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


def test_a_network_whose_tiles_would_show_is_refused(tmp_path: Path) -> None:
    folder = write_denoiser(tmp_path)
    with pytest.raises(WeightsError, match="tiles are exact"):
        denoise.Denoise(read_manifest(folder), torch.nn.Identity())


def test_a_denoiser_needs_a_fixed_scale(tmp_path: Path) -> None:
    path = write_denoiser(tmp_path) / "manifest.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("hu = [-1024.0, 3071.0]", "percentiles = [0.5, 99.5]"), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"intensity\.hu: missing"):
        read_manifest(path.parent)


_MEMORY = """
import sys
import numpy as np, torch
from pathlib import Path
from pipelines.inference import load
from pipelines.spec import read_manifest
from pipelines.volume import Volume
torch.set_num_threads(1)
voxels = np.zeros((300, 512, 512), np.float32)
voxels += np.random.default_rng(0).normal(0, 20, (512, 512)).astype(np.float32)
voxels[2:] = -1000.0  # empty slices cost no time, but all of their memory
volume = Volume(voxels, (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), np.eye(3), "HU")
load(read_manifest(Path(sys.argv[1])))({"CT": volume}, lambda done, of: None)
# not ru_maxrss, which begins with the peak of the process that started this one
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_three_hundred_slices_take_less_than_three_gib(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(write_denoiser(tmp_path))], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 3000
