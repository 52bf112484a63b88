"""UIDs: their form, what they depend on, and which roots are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from gateway.domain.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    check_root,
    derived_uid,
    is_below,
    is_valid_uid,
)
from gateway.errors import ConfigurationError

ROOTS = st.sampled_from(["", "1.2.3", "1.2.826.0.1.3680043.10.99999", "2.16.840.1.113883.3.9.12345"])
PARTS = st.lists(st.text(max_size=40), min_size=1, max_size=4)


@given(ROOTS, PARTS)
def test_derived_uids_are_valid(root: str, parts: list[str]) -> None:
    uid = derived_uid(check_root(root), *parts)
    assert UID(uid).is_valid
    assert is_valid_uid(uid)
    assert uid == derived_uid(root, *parts)


@given(ROOTS, PARTS, PARTS)
def test_different_parts_have_different_uids(root: str, parts: list[str], others: list[str]) -> None:
    assert (derived_uid(root, *parts) == derived_uid(root, *others)) == (parts == others)


def test_the_border_between_parts_counts() -> None:
    assert derived_uid("", "ab", "c") != derived_uid("", "a", "bc")
    assert derived_uid("", "1:a", "") != derived_uid("", "", "1:a")


def test_without_a_root_uids_are_uuids() -> None:
    """PS3.5 B.2: 2.25 and one number of at most 128 bits; a further arc would not conform."""
    *arc, number = derived_uid("", "x").split(".")
    assert arc == ["2", "25"]
    assert int(number) < 2**128


@pytest.mark.parametrize("root", ["1.2.3", "1.2.826.0.1.3680043.10"])
def test_a_root_recognises_only_its_own(root: str) -> None:
    assert is_below(derived_uid(root, "x"), root)
    assert not is_below(f"{root}4.5", root)
    assert not is_below(root, root)


def test_no_root_recognises_nothing() -> None:
    assert not is_below(derived_uid("", "x"), "")


@pytest.mark.parametrize(
    "root",
    [
        "1.2.840.10008",
        "1.2.826.0.1.3680043.8.498",
        "1.2.826.0.1.3680043.8.498.7",
        "1.2.826.0.1.3680043.9.3811",
        "2.25",
        "2.25.329800735698586629295641978511506172918",
        "1.2.",
        "1",
        "1.02.3",
        "3.4",
        "abc",
        "1.2.3\n",
        "1.23456789012345678901234567.9",
    ],
)
def test_roots_of_others_and_no_roots_are_refused(root: str) -> None:
    with pytest.raises(ConfigurationError, match="UID root: found"):
        check_root(root)


@pytest.mark.parametrize("text", ["1.2.840.10008.1.2", "1.2.03.4", "1", "0." + "1" * 62])
def test_uids_of_devices_are_taken(text: str) -> None:
    assert is_valid_uid(text)


@pytest.mark.parametrize("text", ["", "1..2", ".1", "1.", "1.2a", "../1.2", "1/2", "1.2 ", "1.2\n", "1" * 65, "1.٣"])
def test_what_could_harm_as_a_name_is_refused(text: str) -> None:
    assert not is_valid_uid(text)


def test_the_implementation_names_itself_in_the_standards_form() -> None:
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16
