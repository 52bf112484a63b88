"""Series Description and orientation letters for whatever a source says."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_files import CREATED
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, encode_string
from pydicom.dataset import Dataset

from gateway.dicom.derived_attributes import local_time, patient_orientation, series_description, writable

CHARACTER_SETS = st.sampled_from(
    ["ISO_IR 6", "ISO_IR 100", "ISO_IR 101", "ISO_IR 144", "ISO_IR 192", "GB18030", "GBK", "ISO_IR 13"]
)


@given(st.text(max_size=120), CHARACTER_SETS)
def test_descriptions_fit_an_lo_and_lead_with_the_marker(text: str, character_set: str) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = character_set
    ds.SeriesDescription = text.replace("\\", "")
    described = series_description("SYNTH-AI", "STIR", ds)
    assert described.startswith("SYNTH-AI STIR <-")
    assert len(described) <= 64
    assert described.isprintable()


@given(st.text(max_size=80), CHARACTER_SETS)
def test_our_own_texts_can_be_written(text: str, character_set: str) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = character_set
    fitting = writable(text, ds)
    encodings = convert_encodings(character_set)
    assert encode_string(fitting, encodings).decode(encodings[0]) == fitting
    if text.isascii():
        assert fitting == text


def test_a_source_without_description_is_named_by_its_number() -> None:
    ds = Dataset()
    ds.SeriesNumber = 7
    assert series_description("AI", "STIR", ds) == "AI STIR <- series 7"


@pytest.mark.parametrize(
    ("orientation", "letters"),
    [
        ([1, 0, 0, 0, 1, 0], ["L", "P"]),
        ([0, 1, 0, 0, 0, -1], ["P", "F"]),
        ([1, 0, 0, 0, 0, -1], ["L", "F"]),
        ([0.8, 0.6, 0, -0.6, 0.8, 0], ["LP", "PR"]),
        ([0, 0.999, 0.01, 0, 0.01, -0.999], ["P", "F"]),  # less than three degrees of tilt is not said
    ],
)
def test_patient_orientation(orientation: list[float], letters: list[str]) -> None:
    assert patient_orientation(orientation) == letters


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_patient_orientation_never_names_a_direction_twice(orientation: list[float]) -> None:
    for letters in patient_orientation(list(np.asarray(orientation))):
        assert len({axis for letter in letters for axis in ("RL", "AP", "FH") if letter in axis}) == len(letters) <= 3


@pytest.mark.parametrize("offset", ["", "0100", "+1", "+01:00", "none", "+9900"])
def test_offsets_that_are_none_leave_the_time_alone(offset: str) -> None:
    ds = Dataset()
    ds.add_new("TimezoneOffsetFromUTC", "SH", offset)
    assert local_time(CREATED, ds) == CREATED
