"""A text of a peer is kept only when it does not name the patient of the instance."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_series import write_small_series

from gateway.dicom.patient_words import names_patient


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient")
    values = {"PatientName": "Zyxwvut^Quentin^Q", "PatientID": "PID-4711", "PatientBirthDate": "19610523"}
    (path,) = write_small_series(folder, 1, 1, AccessionNumber="A0815", **values)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "unknown patient Zyxwvut^Quentin",
        "patient QUENTIN is locked",
        "no order for pid 4711",
        "born 19610523?",
        "A0815",
    ],
)
def test_a_text_that_names_the_patient_is_found(text: str, file: Path) -> None:
    assert names_patient(text, file)


@pytest.mark.parametrize(
    "text", ["storage quota exceeded", "Q", "error 471", "", "SOP class 1.2.840.10008.5.1.4.1.1.4"]
)
def test_any_other_text_is_kept(text: str, file: Path) -> None:
    assert not names_patient(text, file)
