"""The Compare page over HTTP: frames as they are stored, slices beside their sources, feedback and its export."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless
from small_series import AXIAL, write_small_series
from web_application import Running

from gateway.dicom.encoding import Encoding
from gateway.dicom.marks import Equipment, Marks
from gateway.dicom.secondary_capture import DerivedInstance, derive_series
from gateway.dicom.volume import read_series
from gateway.domain.roles import Role
from gateway.store import tables

JOB = "11111111-2222-3333-4444-555555555555"
MARKS = Marks("ct-denoise", "1.0.0", "a denoiser", "CT", "CT DENOISED", "ab" * 32, "CT", (-1024.0, 3071.0), "Smooths.")
HOSTILE = '=HYPERLINK("http://evil","a"), <script>alert(1)</script>'


@dataclass(frozen=True)
class Compared:
    """A signed CT series and what was made of it, as files that tests know."""

    web: Running
    sources: list[Path]
    made: list[DerivedInstance]


def signed_ct(_: int, ds: Dataset) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.Modality, ds.PatientName = "CT", "Doe^Jane"
    ds.PixelData = (ds.pixel_array.astype("<i2") - 1024).tobytes()
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "0", "HU"
    ds.WindowCenter, ds.WindowWidth = "40", "350"


def add(connection: Any, table: sa.Table, **values: Any) -> None:
    """A row; what is not given has some value of its type."""
    fill: dict[type, Any] = {str: "", int: 0, float: 0.0, bool: False, dict: {}}
    row = {
        column.name: {} if isinstance(column.type, sa.JSON) else fill[column.type.python_type]
        for column in table.c
        if not column.nullable and not (column.primary_key and column.autoincrement is True) and column.name != "id"
    }
    connection.execute(sa.insert(table).values({**row, **values}))


@pytest.fixture
def compared(empty_web: Running, tmp_path: Path) -> Compared:
    """Four slices with a result in JPEG-LS, and a fifth that came later."""
    paths = write_small_series(tmp_path / "ct", 3, 5, direction=AXIAL, edit=signed_ct)
    source = read_series(paths[:4])
    encoding, equipment = Encoding(transfer_syntax_uid=JPEGLSLossless), Equipment("Test", "Gateway", "1")
    made = list(
        derive_series(
            source, source.volume, MARKS, encoding, equipment,
            uid_root="", revision=1, options_digest="", series_number=401, created=datetime.now(UTC),
        )
    )  # fmt: skip
    spool = empty_web.settings.spool_dir
    with empty_web.database.write() as connection:
        add(connection, tables.association, id="a")
        add(connection, tables.study, uid="1.2.3", patient_name="Doe^Jane", patient_id="P1")
        add(connection, tables.series, id=1, uid="1.2.3.4", study_uid="1.2.3", modality="CT", series_number=4,
            series_description="<b>CT</b>", state="ROUTED", revision=2, instances=5)  # fmt: skip
        add(connection, tables.rule_version, id=1)
        add(connection, tables.job, id=JOB, series_id=1, revision=1, rule_version_id=1, pipeline_id="ct-denoise",
            pipeline_version="1.0.0", weights_sha256="ab" * 32, state="SUCCEEDED")  # fmt: skip
        for place, path in enumerate(paths):
            ds = pydicom.dcmread(path)
            (spool / f"received/{place}.dcm").write_bytes(path.read_bytes())
            add(connection, tables.instance, sop_instance_uid=ds.SOPInstanceUID, series_id=1, association_id="a",
                path=f"received/{place}.dcm", instance_number=ds.InstanceNumber, number_of_frames=1)  # fmt: skip
        for one in made:
            (spool / f"derived/{one.instance_number}.dcm").write_bytes(one.part10)
            add(connection, tables.derived, job_id=JOB, profile="p", sop_instance_uid=one.sop_instance_uid,
                series_instance_uid=one.series_instance_uid, series_number=401, instance_number=one.instance_number,
                source_sop_instance_uid=one.source_sop_instance_uid,
                path=f"derived/{one.instance_number}.dcm")  # fmt: skip
    return Compared(empty_web, paths, made)


def test_frames_are_the_stored_values_byte_by_byte(compared: Compared) -> None:
    files = [path.read_bytes() for path in compared.sources] + [one.part10 for one in compared.made]
    with compared.web.client(Role.VIEWER) as client:
        for content in files:
            ds = pydicom.dcmread(BytesIO(content))
            answer = client.get(f"/api/v1/instances/{ds.SOPInstanceUID}/frame")
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.content == ds.pixel_array.astype("<i2").tobytes()
            assert {name: answer.headers[f"Frame-{name}"] for name in ("Rows", "Columns", "Type")} == {
                "Rows": "128", "Columns": "128", "Type": "int16",
            }  # fmt: skip
            assert float(answer.headers["Frame-Rescale-Slope"]) == 1.0
            assert answer.headers["Frame-Photometric-Interpretation"] == "MONOCHROME2"
    assert {ds.file_meta.TransferSyntaxUID for ds in map(pydicom.dcmread, compared.sources)} == {ExplicitVRLittleEndian}


def test_each_slice_lies_beside_its_source_and_different_counts_are_said(compared: Compared) -> None:
    with compared.web.client(Role.VIEWER) as client:
        found = client.get(f"/api/v1/jobs/{JOB}/comparison").json()
    both = [one for one in found["slices"] if one["source"] and one["synthetic"]]
    assert {(one["source"]["sop_instance_uid"], one["synthetic"]["sop_instance_uid"]) for one in both} == {
        (one.source_sop_instance_uid, one.sop_instance_uid) for one in compared.made
    }
    assert len(found["slices"]) == 5
    assert found["note"].startswith("The source has 5 slices, the synthetic series 4.")
    assert (found["unit"], found["caution"]) == ("HU", "Smooths.")
    assert found["source"]["windows"] == [{"name": "header 1", "center": 40.0, "width": 350.0}]


def test_a_slice_whose_source_has_another_uid_now_is_found_by_its_place(compared: Compared) -> None:
    ds = pydicom.dcmread(compared.sources[0])
    with compared.web.database.write() as connection:
        of_first = tables.instance.c.sop_instance_uid == ds.SOPInstanceUID
        values = {"sop_instance_uid": "1.2.9", "slice_position_mm": float(ds.ImagePositionPatient[2])}
        connection.execute(sa.update(tables.instance).where(of_first).values(values))
    with compared.web.client(Role.VIEWER) as client:
        found = client.get(f"/api/v1/jobs/{JOB}/comparison").json()["slices"]
    (pair,) = [one for one in found if one["source"] and one["source"]["sop_instance_uid"] == "1.2.9"]
    made = {one.sop_instance_uid: one.source_sop_instance_uid for one in compared.made}
    assert made[pair["synthetic"]["sop_instance_uid"]] == ds.SOPInstanceUID


def test_what_is_not_there_is_said_and_no_path_is_taken_from_the_address(compared: Compared) -> None:
    uid = compared.made[0].sop_instance_uid
    with compared.web.client(Role.VIEWER) as client:
        assert client.get("/api/v1/instances/1.2.3.4.5.6/frame").status_code == 404
        assert client.get(f"/api/v1/instances/{uid}/frame?number=2").status_code == 409
        for odd in ("..", "%2e%2e%2fathanor.sqlite", "1.2/../../x", "1%00"):
            assert client.get(f"/api/v1/instances/{odd}/frame").status_code in {404, 422}
        (compared.web.settings.spool_dir / f"derived/{compared.made[0].instance_number}.dcm").unlink()
        gone = client.get(f"/api/v1/instances/{uid}/frame")
        assert (gone.status_code, "retention" in gone.json()["error"]) == (404, True)
        assert client.get("/api/v1/jobs/nothing/comparison").status_code == 404
        with compared.web.database.write() as connection:
            connection.execute(sa.update(tables.instance).values(number_of_frames=2**31 - 1))
        assert client.get(f"/api/v1/jobs/{JOB}/comparison").status_code == 409
        assert client.get("/compare/nothing").status_code == 404


def test_the_page_says_what_is_synthetic_and_escapes_what_came_in(compared: Compared) -> None:
    with compared.web.client(Role.VIEWER) as client:
        page = client.get(f"/compare/{JOB}")
        assert page.status_code == 200
        assert "SYNTHETIC" in page.text
        assert "not for diagnosis" in page.text
        assert "ct-denoise 1.0.0" in page.text
        assert "&lt;b&gt;CT&lt;/b&gt;" in page.text
        assert "Give feedback" not in page.text
        study = client.get("/studies/1.2.3").text
        assert f'href="/compare/{JOB}"' in study


def test_feedback_by_form_and_by_program_is_listed_counted_and_noted_without_its_words(compared: Compared) -> None:
    web = compared.web
    web.populate()
    with web.browser(Role.OPERATOR) as browser:
        page = browser.get(f"/compare/{JOB}").text
        token = page.split('name="csrf" value="')[1].split('"')[0]
        form = {"csrf": token, "verdict": "misleading", "words": HOSTILE, "slice": "3"}
        assert browser.post(f"/compare/{JOB}/feedback", data=form).status_code == 303
        assert browser.post(f"/compare/{JOB}/feedback", data={**form, "csrf": "x"}).status_code == 403
        assert browser.post(f"/compare/{JOB}/feedback", data={**form, "verdict": "fine"}).status_code == 422
        assert browser.post(f"/compare/{JOB}/feedback", data={**form, "words": "a\0b"}).status_code == 422
        whole = {"csrf": token, "verdict": "agree", "words": "", "slice": ""}
        assert browser.post(f"/compare/{JOB}/feedback", data=whole).status_code == 303
        page = browser.get(f"/compare/{JOB}").text
        assert "&lt;script&gt;" in page
        assert "1 agree, 0 artefact, 1 misleading." in page
    with web.client(Role.OPERATOR) as client:
        answer = client.post(f"/api/v1/jobs/{JOB}/feedback", json={"verdict": "artefact", "words": "-1+1"})
        assert answer.status_code == 200, answer.text
        assert client.post("/api/v1/jobs/none/feedback", json={"verdict": "agree"}).status_code == 404
        assert (
            client.post(f"/api/v1/jobs/{JOB}/feedback", json={"verdict": "agree", "words": "x" * 2001}).status_code
            == 422
        )
        assert client.get("/api/v1/feedback.csv").status_code == 403
    with web.client(Role.VIEWER) as client:
        said = client.get(f"/api/v1/jobs/{JOB}/feedback").json()
        assert [(one["verdict"], one["slice"]) for one in said] == [
            ("artefact", None),
            ("agree", None),
            ("misleading", 3),
        ]
        assert client.get("/api/v1/feedback").json()[0]["misleading"] == 1
        assert client.post(f"/api/v1/jobs/{JOB}/feedback", json={"verdict": "agree"}).status_code == 403
    with web.client(Role.AUDITOR) as client:
        noted = [one for one in client.get("/api/v1/audit").json()["entries"] if one["what"] == "gave feedback"]
        assert {one["subject"] for one in noted} == {JOB}
        assert not any("HYPERLINK" in str(one) for one in noted)
        export = client.get("/api/v1/feedback.csv")
        assert export.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(StringIO(export.text)))
    assert [row["words"] for row in rows] == [f"'{HOSTILE}", "", "'-1+1"]
    assert _formulas(rows) == []


def _formulas(rows: Sequence[dict[str, str]]) -> list[str]:
    return [value for row in rows for value in row.values() if value[:1] in "=+-@\t\r\n" and value]
