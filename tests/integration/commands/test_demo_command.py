"""``athanor demo``: the whole of it, and what it must never touch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from athanor_command import athanor, write_settings


def test_demo_ends_with_a_synthetic_series_and_says_where_everything_lies(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--slices", "3", "--folder", tmp_path / "demo"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    (tmp_path / "demo" / "scanner").mkdir(parents=True)
    (tmp_path / "demo" / "scanner" / "0004.dcm").touch()  # of an earlier demonstration
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert "3 instances sent, 3 synthetic instances in the PACS\n" in ran.stdout
    places = dict(re.findall(r"(?m)^  (\S.*?)  +(/\S+)$", ran.stdout))
    places |= dict(re.findall(r"(?m)^  (synthetic series) (/\S+)$", ran.stdout))
    assert set(places) >= {"source series", "synthetic series", "side by side", "settings", "log", "state"}
    assert all(Path(place).exists() for place in places.values())
    for made in Path(places["synthetic series"]).glob("*.dcm"):
        assert pydicom.dcmread(made, stop_before_pixels=True).SyntheticData == "YES"
    assert len(list(Path(places["source series"]).glob("*.dcm"))) == 3
    again = athanor("--settings", places["settings"], "jobs", "show", "1")
    assert again.code == 0
    assert "SUCCEEDED" in again.out


@pytest.mark.parametrize("entries", [{"thesis.txt"}, {"settings.toml", "rules.toml"}, {"scanner", "thesis.txt"}])
def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path, entries: set[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in entries:
        (folder / name).write_text("mine")
    ran = athanor("demo", "--folder", folder)
    assert (ran.code, ran.out) == (2, "")
    assert "found what no demonstration left there; choose another --folder" in ran.err
    assert {path.name for path in folder.iterdir()} == entries
    assert all(path.read_text() == "mine" for path in folder.iterdir())


def test_the_database_of_a_real_node_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_DATABASE__URL", f"sqlite:///{tmp_path}/real.sqlite")
    ran = athanor("demo", "--folder", tmp_path / "demo", "--slices", "3")
    assert (ran.code, ran.out) == (2, "")
    assert "environment: found ATHANOR_DATABASE__URL; expected none" in ran.err
    assert not (tmp_path / "real.sqlite").exists()


def test_phantom_writes_series_that_a_rule_can_tell_apart(tmp_path: Path) -> None:
    for sequence in ("t2w", "stir"):
        ran = athanor(
            "phantom", tmp_path / sequence, "--sequence", sequence, "--slices", 2, "--matrix", 64, "--seed", 5
        )
        assert ran.code == 0
        assert ran.out == f"2 files of virtual patient 5 in {tmp_path / sequence}\n"
    t2w, stir = (pydicom.dcmread(tmp_path / name / "0001.dcm") for name in ("t2w", "stir"))
    assert t2w.PatientID == stir.PatientID
    assert t2w.SeriesInstanceUID != stir.SeriesInstanceUID
    assert "IR" in stir.ScanningSequence
    assert "IR" not in t2w.ScanningSequence
    rules = (Path(__file__).parents[3] / "rules.toml").resolve()
    command = ("--settings", write_settings(tmp_path / "node"), "rules", "test", "--rules", rules)
    assert athanor(*command, tmp_path / "t2w").code == 0
    assert athanor(*command, tmp_path / "stir").code == 1
