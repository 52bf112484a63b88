"""``athanor run``: folders in, folders out, and each series that was refused with its reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from athanor_command import athanor
from small_series import AXIAL, instance_uids, series_uid, write_small_series

import pipelines
from gateway.dicom.secondary_capture import require_marks

REPORT_KEYS = {"series", "refused", "folder", "instances", "seconds"}


class Run:
    """One call on a folder with a good series, one of the wrong plane, a synthetic one, and papers."""

    def __init__(self, folder: Path) -> None:
        self.good = write_small_series(folder / "in" / "patient" / "t2", 1, 3)
        self.axial = write_small_series(folder / "in" / "axial", 2, 3, direction=AXIAL)
        self.synthetic = write_small_series(folder / "in" / "synthetic", 3, 3, SyntheticData="YES")
        self.letter = folder / "in" / "letter.txt"
        self.letter.write_text("Dear colleague")
        self.index = folder / "in" / "index"
        ds = pydicom.dcmread(self.good[0])
        del ds.SeriesInstanceUID
        ds.save_as(self.index)
        self.out = folder / "out"
        command = [sys.executable, "-m", "gateway", "run", "t2-to-stir", folder / "in", self.out, "--json"]
        root = Path(__file__).parents[3]
        self.ran = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
        self.report: dict[str, Any] = {one["series"]: one for one in json.loads(self.ran.stdout)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def test_there_are_as_many_results_as_sources(run: Run) -> None:
    one = run.report[series_uid(run.good)]
    assert one["refused"] is None
    assert one["instances"] == 3
    made = sorted(Path(one["folder"]).glob("*.dcm"))
    named = {str(pydicom.dcmread(path).SourceImageSequence[0].ReferencedSOPInstanceUID) for path in made}
    assert named == set(instance_uids(run.good))
    assert Path(one["folder"]).parent == run.out


def test_each_result_is_marked_and_is_a_picture_of_its_own(run: Run) -> None:
    made = sorted(Path(run.report[series_uid(run.good)]["folder"]).glob("*.dcm"))
    for path in made:
        require_marks(path)
    assert {str(pydicom.dcmread(path).SeriesInstanceUID) for path in made} == {Path(made[0]).parent.name}
    pixels = [pydicom.dcmread(path).pixel_array for path in made]
    assert all(float(np.std(one)) > 0 for one in pixels)


def test_a_series_that_does_not_fit_is_refused_with_what_was_found_and_expected(run: Run) -> None:
    refused = run.report[series_uid(run.axial)]["refused"]
    assert "plane" in refused
    assert "found" in refused
    assert "sagittal" in refused


def test_a_synthetic_series_is_never_a_source(run: Run) -> None:
    refused = run.report[series_uid(run.synthetic)]["refused"]
    assert refused.startswith("synthetic: found Synthetic Data")
    assert refused.endswith("expected an acquired series; choose the source series")


def test_nothing_is_written_for_what_was_refused(run: Run) -> None:
    assert [path.name for path in run.out.iterdir()] == [Path(run.report[series_uid(run.good)]["folder"]).name]
    for one in (run.axial, run.synthetic):
        report = run.report[series_uid(one)]
        assert (report["folder"], report["instances"]) == (None, 0)


def test_exit_code_tells_that_something_was_refused(run: Run) -> None:
    assert run.ran.returncode == 1


def test_what_is_no_series_is_named_and_left_out(run: Run) -> None:
    assert f"not DICOM, left out: {run.letter}\n" in run.ran.stderr
    assert f"no Series Instance UID, left out: {run.index}\n" in run.ran.stderr
    assert len(run.report) == 3


def test_standard_output_is_the_report_alone(run: Run) -> None:
    assert all(set(one) == REPORT_KEYS for one in run.report.values())
    assert "\x1b" not in run.ran.stdout + run.ran.stderr
    assert "Traceback" not in run.ran.stderr


def test_a_second_run_makes_the_same_objects(run: Run, tmp_path: Path) -> None:
    ran = athanor("run", "t2-to-stir", run.good[0].parent, tmp_path / "again")
    assert ran.code == 0
    assert ran.out.startswith("✓ 3 instances in ")
    first, again = (sorted(folder.rglob("*.dcm")) for folder in (run.out, tmp_path / "again"))
    assert instance_uids(first) == instance_uids(again)
    for one, other in zip(first, again, strict=True):
        assert pydicom.dcmread(one).PixelData == pydicom.dcmread(other).PixelData


def test_a_pipeline_that_is_not_there(run: Run, tmp_path: Path) -> None:
    ran = athanor("run", "t3-to-stir", run.good[0].parent, tmp_path / "out")
    assert (ran.code, ran.out) == (3, "")
    assert "found no pipeline 't3-to-stir'; expected one of: " in ran.err
    assert "t2-to-stir" in ran.err


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague")
    ran = athanor("run", "t2-to-stir", tmp_path, tmp_path / "out")
    assert (ran.code, ran.out) == (3, "")
    assert "found no DICOM file" in ran.err


def test_a_series_whose_pixels_are_cut_off_is_refused_and_the_next_one_made(run: Run, tmp_path: Path) -> None:
    whole = write_small_series(tmp_path / "in" / "b", 7, 3)
    broken = write_small_series(tmp_path / "in" / "a", 6, 3)
    broken[1].write_bytes(broken[1].read_bytes()[:-5000])
    ran = athanor("run", "t2-to-stir", tmp_path / "in", tmp_path / "out", "--json")
    assert ran.code == 1
    report = {one["series"]: one for one in ran.json}
    assert report[series_uid(broken)]["refused"]
    assert report[series_uid(whole)]["instances"] == 3
    assert "Traceback" not in ran.err


def test_a_model_whose_manifest_or_weights_are_broken(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = Path(pipelines.__file__).resolve().parents[1] / "weights" / "t2-to-stir"
    shutil.copytree(released, tmp_path / "models" / "t2-to-stir")
    monkeypatch.setenv("ATHANOR_WEIGHTS_DIR", str(tmp_path / "models"))
    weights = tmp_path / "models" / "t2-to-stir" / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    ran = athanor("run", "t2-to-stir", run.good[0].parent, tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert "sha256" in ran.err
    (weights.parent / "manifest.toml").write_text("id = 3")
    ran = athanor("run", "t2-to-stir", run.good[0].parent, tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert "manifest.toml" in ran.err
    assert "Traceback" not in ran.err
