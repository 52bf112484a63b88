"""``athanor run`` and ``athanor rules test`` with a pipeline that takes T1W and T2W."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import tomlkit
from athanor_command import Athanor, athanor
from several_series import RULES, write_models, write_series
from small_series import instance_uids, series_uid


@pytest.fixture
def with_models(tmp_path: Path) -> Athanor:
    """``athanor`` with the settings of a node whose models are tiny."""
    file = tmp_path / "settings.toml"
    models = write_models(tmp_path / "models")
    process = {"device": "cpu", "threads": 1}
    file.write_text(tomlkit.dumps({"weights_dir": str(models), "node": {"state_dir": "state"}, "process": process}))
    return lambda *arguments: athanor("--settings", file, *arguments)


def study_of(paths: list[Path]) -> str:
    return str(pydicom.dcmread(paths[0]).StudyInstanceUID)


def test_the_series_of_each_study_are_paired_by_the_roles_that_they_fit(with_models: Athanor, tmp_path: Path) -> None:
    t1 = write_series(tmp_path / "in" / "a", "T1W")
    write_series(tmp_path / "in" / "b", "T2W")
    again = write_series(tmp_path / "in" / "c", "T2W", number=8)
    alone = write_series(tmp_path / "in" / "d", "T2W", seed=2)
    ran = with_models("run", "t1t2-to-stir", tmp_path / "in", tmp_path / "out", "--json")
    assert ran.code == 1, ran.err
    report = {one["series"]: one for one in ran.json}
    assert report.keys() == {study_of(t1), study_of(alone)}
    made, refused = report[study_of(t1)], report[study_of(alone)]
    assert (made["refused"], made["instances"]) == (None, 3)
    derived = [pydicom.dcmread(file) for file in sorted(Path(made["folder"]).glob("*.dcm"))]
    assert {ds.SeriesNumber for ds in derived} == {801}, "what is repeated is taken"
    for ds in derived:
        of_t2, of_t1 = (str(one.ReferencedSOPInstanceUID) for one in ds.SourceImageSequence)
        assert of_t2 in instance_uids(again)
        assert of_t1 in instance_uids(t1)
        assert [one.SpatialLocationsPreserved for one in ds.SourceImageSequence] == ["YES", "YES"]
        assert [one.SeriesInstanceUID for one in ds.ReferencedSeriesSequence] == [series_uid(again), series_uid(t1)]
    assert refused["refused"].startswith("inputs: found no series for T1W (series 4: ")
    assert "te-ms 100" in refused["refused"]
    assert refused["folder"] is None


def test_rules_test_says_which_role_and_what_is_waited_for(with_models: Athanor, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text(RULES)
    ran = with_models("rules", "test", write_series(tmp_path / "t2", "T2W")[0], "--rules", rules)
    assert ran.code == 0
    assert "t1t2-to-stir waits up to 60 s for T1W of the same study" in " ".join(ran.out.split())
    assert ran.out.rstrip().endswith("winner: t1t2-to-stir as T2W")
