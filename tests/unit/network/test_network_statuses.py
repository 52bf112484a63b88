"""Statuses and rejections in words, and which of them are worth another attempt."""

from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from gateway.network.statuses import (
    LOCAL_LIMIT_EXCEEDED,
    StatusCategory,
    category_of,
    describe_abort,
    describe_rejection,
    describe_status,
    is_rejection_worth_retrying,
    is_taken,
    is_worth_retrying,
)


@pytest.mark.parametrize(
    ("status", "words", "category", "retry"),
    [
        (0x0000, "Success (0x0000)", StatusCategory.SUCCESS, False),
        (0xB000, "Warning: stored, with coercion of data elements (0xB000)", StatusCategory.WARNING, False),
        (0xA700, "Refused: out of resources (0xA700)", StatusCategory.FAILURE, True),
        (0xA7FF, "Refused: out of resources (0xA7FF)", StatusCategory.FAILURE, True),
        (0xA900, "Failure: data set does not match the SOP Class (0xA900)", StatusCategory.FAILURE, False),
        (0xC123, "Failure: cannot understand (0xC123)", StatusCategory.FAILURE, False),
        (0x0110, "Failure: processing failure (0x0110)", StatusCategory.FAILURE, True),
        (0x0122, "Refused: SOP Class not supported (0x0122)", StatusCategory.FAILURE, False),
        (0x1234, "Failure: unknown status (0x1234)", StatusCategory.FAILURE, False),
    ],
)
def test_a_status_says_what_became_of_the_object(
    status: int, words: str, category: StatusCategory, retry: bool
) -> None:
    assert describe_status(status) == words
    assert category_of(status) is category
    assert is_worth_retrying(status) is retry


def test_every_storage_status_has_the_category_that_pynetdicom_knows() -> None:
    for status, (category, _) in STORAGE_SERVICE_CLASS_STATUS.items():
        if category in ("Success", "Warning", "Failure"):
            assert category_of(status).value == category.lower(), hex(status)
            assert "unknown" not in describe_status(status), hex(status)


def test_only_success_and_warnings_mean_that_the_object_was_taken() -> None:
    taken = [status for status in range(0x10000) if category_of(status) is not StatusCategory.FAILURE]
    assert set(taken) == {0x0000, 0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)}


def test_a_duplicate_is_there_and_so_is_what_was_taken() -> None:
    assert {status for status in range(0x10000) if is_taken(status)} - {0x0000, 0x0001, 0x0107, 0x0116} == {
        0x0111, *range(0xB000, 0xC000)
    }  # fmt: skip


def test_a_rejection_says_who_rejected_and_why() -> None:
    assert describe_rejection(1, 1, 7) == ("rejected permanently by its application: called AE title not recognised")
    assert describe_rejection(*LOCAL_LIMIT_EXCEEDED) == (
        "rejected for now by its presentation service: local limit exceeded"
    )
    assert describe_rejection(9, 8, 7) == ("rejected with unknown result 9 by unknown source 8: unknown reason 7")


def test_only_a_transient_rejection_is_worth_another_attempt() -> None:
    assert not is_rejection_worth_retrying(1)
    assert is_rejection_worth_retrying(2)


def test_the_reason_of_an_abort_counts_only_from_the_upper_layer() -> None:
    assert describe_abort(0, 2) == "aborted by the application"
    assert describe_abort(2, 2) == "aborted by the upper layer: unexpected PDU"
    assert describe_abort(2, 77) == "aborted by the upper layer: unknown reason 77"
