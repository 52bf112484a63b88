"""``athanor bench inference``: what it prints, and the choice that it records; and the memory of a whole job."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tomlkit
import torch
from athanor_command import athanor, write_settings
from pydicom.dataset import Dataset
from safetensors.torch import save_file
from small_series import AXIAL, write_small_series

import pipelines
from pipelines.catalog import Catalog
from pipelines.networks import Denoiser
from pipelines.runtime_choices import Machine, read

ROOT = Path(pipelines.__file__).resolve().parents[1]
MATRIX = 256
# a process begins with the peak of the one that starts it, so a small one has to
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, end="", flush=True)
sys.exit(code)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings of a node with one model, ct-denoise with a network of a few weights, that works with one thread."""
    folder = tmp_path / "weights" / "ct-denoise"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(Denoiser(width=8, depth=3).state_dict(), folder / "generator.safetensors")
    manifest = tomlkit.parse((ROOT / "weights" / "ct-denoise" / "manifest.toml").read_text())
    manifest["inputs"][0]["ranges"]["pixel_spacing_mm"] = [0.5, 2.0]
    manifest["inputs"][0]["ranges"]["field_of_view_mm"] = [100, 540]
    manifest["generator"]["parameters"] = {"width": 8, "depth": 3}
    manifest["generator"]["sha256"] = hashlib.sha256((folder / "generator.safetensors").read_bytes()).hexdigest()
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest))
    path = write_settings(tmp_path, process={"threads": 1})
    path.write_text(f'weights_dir = "{tmp_path / "weights"}"\n' + path.read_text())
    return path


def command(settings: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "--settings", settings, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def test_each_pipeline_is_measured_and_its_runtime_recorded(settings: Path, tmp_path: Path) -> None:
    ran = command(settings, "bench", "inference", "--rounds", "1", "--record", "--json")
    out, err = ran.communicate(timeout=170)
    assert (ran.returncode, err) == (0, "")
    answer = json.loads(out)
    (row,) = answer["pipelines"]
    assert row["pipeline"] == "ct-denoise"
    assert row["eager_network_slices_per_s"] == row["network_slices_per_s"]["eager"]
    assert set(row["network_slices_per_s"]) == set(row["pipeline_slices_per_s"]) == {"eager", "onnxruntime"}
    assert row["difference_of_range"]["onnxruntime"] < 1e-3
    assert row["unfit"] == {}
    assert row["gflop_per_slice"] > 0.1
    assert 100e6 < row["peak_rss_bytes"] < 3e9
    (recorded,) = read(tmp_path / "state" / "runtimes.json")
    assert recorded.machine == Machine.here(1)
    assert recorded.runtime == row["runtime"]
    assert recorded.weights_sha256 == Catalog.read(tmp_path / "weights")["ct-denoise"].generator.sha256


def test_a_pipeline_that_is_not_there_is_named(settings: Path) -> None:
    ran = athanor("--settings", settings, "bench", "inference", "t2-to-colour")
    assert (ran.code, ran.err) == (3, "found no pipeline 't2-to-colour'; expected one of: ct-denoise\n")


def test_a_job_takes_the_memory_of_its_volumes_and_no_more(settings: Path, tmp_path: Path) -> None:
    few, many = 4, 124
    peaks = {slices: peak_bytes_of_job(settings, tmp_path, slices) for slices in (few, many)}
    for_each_slice = (peaks[many] - peaks[few]) / (many - few)
    # source and result in float32, stored values and files of 16 bits are 12 bytes a pixel; a header takes some 200 kB
    assert 8 * MATRIX**2 < for_each_slice < 15 * MATRIX**2 + 250_000, peaks


def peak_bytes_of_job(settings: Path, folder: Path, slices: int) -> int:
    """The most memory that a process had which denoised a CT series of so many slices, from file to file."""

    def as_ct(index: int, ds: Dataset) -> None:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        ds.Modality, ds.BodyPartExamined, ds.ImageType = "CT", "CHEST", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.PixelData = np.kron(ds.pixel_array, np.ones((2, 2), np.uint16)).tobytes()
        ds.Rows = ds.Columns = MATRIX
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"

    write_small_series(folder / f"in-{slices}", 1, slices, direction=AXIAL, edit=as_ct)
    job = [sys.executable, "-m", "gateway", "--settings", str(settings)]
    job += ["run", "ct-denoise", str(folder / f"in-{slices}"), str(folder / "out"), "--json"]
    ran = subprocess.run([sys.executable, "-c", MEASURED, *job], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    said, peak = ran.stdout.rsplit("\n", 1)
    answer = json.loads(said)
    assert answer[0]["refused"] is None, answer
    assert answer[0]["instances"] == slices
    return int(peak) * 1024
