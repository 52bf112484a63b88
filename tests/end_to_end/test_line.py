"""The whole line with foreign peers: DCMTK sends, Orthanc and a small PACS receive, Clunie's tools judge."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from modality import Orthanc, WritePhantom, detail_of, series_uid, storescu

from gateway.commands.sandbox import Sandbox, SmallPacs
from gateway.store.database import Database

VALIDATORS = Path(sys.executable).parent


def errors_of(file: Path) -> set[str]:
    """The Error lines of dciodvfy."""
    run = subprocess.run([VALIDATORS / "dciodvfy", file], capture_output=True, text=True, check=False)
    return {line for line in (run.stderr + run.stdout).splitlines() if line.startswith("Error")}


def read_volume(files: list[Path]) -> SimpleITK.Image:
    """The series as SimpleITK reads it, slices in the order that their positions give."""
    folder = files[0].parent
    uid = series_uid(files)
    return SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))


@pytest.fixture(scope="module")
def round_trip(
    gateway: Sandbox, gateway_database: Database, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Path], list[Path]]:
    """(source files, result files from Orthanc) of one series that storescu sent."""
    from gateway.commands.phantom import write_phantom

    sources = write_phantom(tmp_path_factory.mktemp("source"), 77, slices=12)
    sent = storescu(gateway.port, sources)
    assert sent.returncode == 0, sent.stderr
    gateway.wait_until_finished(gateway_database, series_uid(sources), 90)
    results = [
        file
        for file in orthanc.instances(tmp_path_factory.mktemp("orthanc-export"))
        if series_uid(sources) in {
            str(item.SeriesInstanceUID)
            for item in pydicom.dcmread(file, stop_before_pixels=True).ReferencedSeriesSequence
        }
    ]  # fmt: skip
    return sources, results


def test_as_many_instances_come_back_as_were_sent(round_trip: tuple[list[Path], list[Path]]) -> None:
    sources, results = round_trip
    assert len(results) == len(sources)
    named = {str(pydicom.dcmread(file).SourceImageSequence[0].ReferencedSOPInstanceUID) for file in results}
    assert named == {str(pydicom.dcmread(file).SOPInstanceUID) for file in sources}


def test_result_cannot_be_mistaken_for_acquired(round_trip: tuple[list[Path], list[Path]]) -> None:
    sources, results = round_trip
    source = pydicom.dcmread(sources[0])
    for file in results:
        ds = pydicom.dcmread(file)
        assert ds.SyntheticData == "YES"
        assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
        assert list(ds.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert ds.ConversionType == "SYN"
        assert ds.ContentQualification == "RESEARCH"
        assert ds.SeriesDescription.startswith("SYNTH-AI STIR")
        assert ds.BurnedInAnnotation == "YES"
        assert ds.SeriesNumber == source.SeriesNumber * 100 + 1
        assert ds.StudyInstanceUID == source.StudyInstanceUID
        assert ds.PatientID == source.PatientID


def test_validators_find_no_error_that_the_source_does_not_have(round_trip: tuple[list[Path], list[Path]]) -> None:
    sources, results = round_trip
    known = set().union(*(errors_of(file) for file in sources))
    for file in results:
        assert errors_of(file) <= known
    together = subprocess.run(
        [VALIDATORS / "dcentvfy", *sources, *results], capture_output=True, text=True, check=False
    )
    assert (together.stdout + together.stderr).strip() == ""


def test_geometry_is_that_of_the_source(round_trip: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    sources, results = round_trip
    source = read_volume(sources)
    alone = [tmp_path / file.name for file in results]
    for file, copy in zip(results, alone, strict=True):
        copy.write_bytes(file.read_bytes())
    result = read_volume(alone)
    assert result.GetSize() == source.GetSize()
    assert np.allclose(result.GetOrigin(), source.GetOrigin(), atol=1e-4)
    assert np.allclose(result.GetSpacing(), source.GetSpacing(), atol=1e-4)
    assert np.allclose(result.GetDirection(), source.GetDirection(), atol=1e-5)


def test_each_destination_gets_its_own_encoding_once(
    round_trip: tuple[list[Path], list[Path]], pacs: SmallPacs
) -> None:
    sources, results = round_trip
    wanted = {str(pydicom.dcmread(file).SOPInstanceUID) for file in sources}
    native = [
        ds for ds in (pydicom.dcmread(file) for _, file in pacs.received)
        if str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID) in wanted
    ]  # fmt: skip
    assert len(native) == len(sources), "each instance arrived once"
    assert {ds.SOPClassUID for ds in native} == {"1.2.840.10008.5.1.4.1.1.4"}
    assert {ds.BurnedInAnnotation for ds in native} == {"NO"}
    assert all(ds.SyntheticData == "YES" for ds in native)
    uids = {str(ds.SOPInstanceUID) for ds in native}
    assert not uids & {str(pydicom.dcmread(file).SOPInstanceUID) for file in results}, "other objects have other UIDs"


def test_evidence_rule_job_and_answers_are_on_record(
    round_trip: tuple[list[Path], list[Path]], gateway_database: Database
) -> None:
    sources, _ = round_trip
    detail = detail_of(gateway_database, series_uid(sources))
    assert "released" in detail["evidence"]["signals"]
    assert detail["selection"]["rules"][0]["outcome"] == "won"
    (job,) = detail["jobs"]
    assert job["state"] == "SUCCEEDED"
    assert re.fullmatch(r"[0-9a-f]{64}", job["weights_sha256"])
    assert {(d["destination"], d["state"], d["accepted"]) for d in job["deliveries"]} == {
        ("pacs", "DELIVERED", len(sources)),
        ("orthanc", "DELIVERED", len(sources)),
    }


def test_guard_stops_what_orthanc_forwards_back(
    round_trip: tuple[list[Path], list[Path]], gateway: Sandbox, gateway_database: Database, orthanc: Orthanc
) -> None:
    _, results = round_trip
    uid = series_uid(results)
    series = [orthanc.get(f"/series/{name}") for name in orthanc.get("/series")]
    (found,) = [one["ID"] for one in series if one["MainDicomTags"]["SeriesInstanceUID"] == uid]
    orthanc.post("/modalities/athanor/store", found)
    gateway.wait_until_finished(gateway_database, uid, 90)
    detail = detail_of(gateway_database, uid)
    assert detail["state"] == "BLOCKED"
    assert "made by this gateway" in detail["reason"]
    assert detail["jobs"] == []


def test_compressed_and_implicit_sources_come_back_too(
    gateway: Sandbox, gateway_database: Database, phantom: WritePhantom, tmp_path: Path
) -> None:
    for codec, options in (("1.2.840.10008.1.2.5", ("-xr",)), (None, ("-xi",))):
        paths = phantom(slices=4)
        if codec:
            for path in paths:
                ds = pydicom.dcmread(path)
                ds.compress(codec, generate_instance_uid=False)
                ds.save_as(path)
        sent = storescu(gateway.port, paths, *options)
        assert sent.returncode == 0, sent.stderr
        gateway.wait_until_finished(gateway_database, series_uid(paths), 90)
        (job,) = detail_of(gateway_database, series_uid(paths))["jobs"]
        assert job["state"] == "SUCCEEDED", job["error"]


def test_stored_bytes_are_those_that_were_sent(
    gateway: Sandbox, gateway_database: Database, phantom: WritePhantom
) -> None:
    from gateway.network.outgoing import OutgoingInstance, data_set_pieces

    paths = phantom(slices=3)
    assert gateway.send(paths).is_delivered
    gateway.wait_until_finished(gateway_database, series_uid(paths), 90)
    stored = {
        str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID): file
        for file in (gateway.settings.spool_dir / "received").rglob("*.dcm")
    }

    def data_set(file: Path) -> bytes:
        instance = OutgoingInstance.read(file)
        return b"".join(data_set_pieces(instance, instance.transfer_syntax_uid, 1 << 20))

    for path in paths:
        assert data_set(stored[str(pydicom.dcmread(path).SOPInstanceUID)]) == data_set(path)
