"""Contracts: physics decides, the description can only contradict, and every violation is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.contract import DescriptionWords, InputContract, Presence, SeriesFacts, Violation
from pipelines.spec import read_manifest


@pytest.fixture
def contract(write_model) -> InputContract:
    return read_manifest(write_model()).inputs[0]


def checks(violations: tuple[Violation, ...]) -> list[str]:
    for violation in violations:
        assert violation.found
        assert violation.expected
    return [violation.check for violation in violations]


def test_a_series_that_fits(contract, facts):
    assert contract.check(facts) == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"modality": "CT"}, ["modality"]),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, ["sop-class"]),
        ({"image_type": ("DERIVED", "PRIMARY")}, ["image-type"]),
        ({"image_type": ()}, ["image-type"]),
        ({"image_type": ("ORIGINAL", "PRIMARY", "PHASE MAP")}, ["image-type"]),
        ({"synthetic": True}, ["synthetic"]),
        ({"burned_in": True}, ["burned-in"]),
        ({"burned_in": False}, []),
        ({"plane": "axial"}, ["plane"]),
        ({"plane": "oblique"}, ["plane"]),
        ({"body_part": "KNEE"}, ["body-part"]),
        ({"body_part": ""}, []),
        ({"contrast_agent": True}, ["contrast-agent"]),
        ({"contrast_agent": False}, []),
        ({"scanning_sequence": ("GR",)}, ["scanning-sequence"]),
        ({"scanning_sequence": ()}, ["scanning-sequence"]),
        ({"scanning_sequence": ("SE", "IR")}, ["inversion"]),
        ({"sequence_variant": ("SK", "MP")}, ["inversion"]),
        ({"ti_ms": 160.0}, ["inversion"]),
        ({"scan_options": ("PFP", "FS")}, ["fat-suppression"]),
        ({"scan_options": ("FSA_GEMS",)}, ["fat-suppression"]),
        ({"scan_options": ("WE",)}, ["fat-suppression"]),
        ({"scan_options": ("FAST_GEMS", "SAT1")}, []),
        ({"tr_ms": 600.0}, ["tr-ms"]),
        ({"tr_ms": None}, ["tr-ms"]),
        ({"te_ms": 12.0}, ["te-ms"]),
        ({"te_ms": None}, ["te-ms"]),
        ({"tr_ms": None, "te_ms": None}, ["tr-ms", "te-ms"]),
        ({"shape": (65, 384, 384)}, ["slices"]),
        ({"shape": (15, 12, 384)}, ["matrix", "field-of-view-mm"]),
        ({"spacing_mm": (4.4, 0.7, 1.7)}, ["pixel-spacing-mm", "field-of-view-mm"]),
        ({"spacing_mm": (9.0, 0.7, 0.7)}, ["slice-spacing-mm"]),
        ({"patient_age_years": 12.0}, ["age-years"]),
        ({"patient_age_years": None}, []),
    ],
)
def test_one_thing_that_does_not_fit(contract, facts, changes, expected):
    assert checks(contract.check(replace(facts, **changes))) == expected


AGAINST = ["STIR SAG", "t2_stir_sag", "T2 TIRM", "T2 FLAIR", "t2_tse_fs", "T2-FS", "T1 SAG", "t1_tse", "T1W", "PD TSE"]
NOT_AGAINST = ["", "SAG LUMBAR", "T2 SAG C7-T1", "T2W_TSE", "Sag T2 T10-S1", "LWS SAG T10", "OFFSET", "SPD", "RESTIR"]


@pytest.mark.parametrize("description", AGAINST)
def test_a_description_that_contradicts_the_physics(contract, facts, description):
    (violation,) = contract.check(replace(facts, series_description=description))
    assert violation.check == "contradictory"
    assert "Series Description" in violation.found


@pytest.mark.parametrize("description", NOT_AGAINST)
def test_a_description_that_does_not_contradict(contract, facts, description):
    assert contract.check(replace(facts, series_description=description)) == ()


def test_the_description_alone_convinces_nobody(contract, facts):
    t1 = replace(facts, series_description="T2 TSE SAG", tr_ms=550.0, te_ms=12.0)
    assert checks(contract.check(t1)) == ["tr-ms", "te-ms"]


def test_every_violation_is_told(contract, facts):
    wrong = replace(
        facts,
        modality="CT",
        plane="axial",
        synthetic=True,
        image_type=("DERIVED",),
        te_ms=None,
        scan_options=("FS",),
        series_description="STIR",
    )
    assert checks(contract.check(wrong)) == [
        "synthetic", "image-type", "modality", "plane", "fat-suppression", "te-ms", "contradictory",
    ]  # fmt: skip


def test_what_must_be_there(facts):
    stir = InputContract("STIR", "MR", inversion=Presence.REQUIRED, fat_suppression=Presence.REQUIRED)
    assert checks(stir.check(facts)) == ["inversion", "fat-suppression"]
    assert stir.check(replace(facts, ti_ms=160.0, scan_options=("FS",))) == ()


def test_found_and_expected_are_told_with_units_in_the_name(contract, facts):
    (violation,) = contract.check(replace(facts, te_ms=12.0))
    assert (violation.check, violation.found, violation.expected) == ("te-ms", "12", "70 to 160")


def test_no_patient_attribute_in_a_violation(contract, facts: SeriesFacts):
    (violation,) = contract.check(replace(facts, patient_age_years=13.25))
    assert "13" not in violation.found


def test_words_are_whole_beginnings():
    words = DescriptionWords(contradicts=("T1",))
    assert words.contradiction("sag t1w") == "T1"
    assert words.contradiction("ST1 T10 T12") is None
