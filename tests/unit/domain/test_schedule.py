"""When a delivery is tried again, and the hours in which none is begun: over midnight, and when clocks are changed."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.schedule import QuietHours, RetrySchedule

DAYS = RetrySchedule(5.0, 2.0, 3600.0)
BERLIN = "Europe/Berlin"


@given(st.text(), st.integers(1, 10_000))
def test_a_wait_is_between_half_and_all_of_what_has_grown_so_far(subject: str, failures: int) -> None:
    whole_s = min(5.0 * 2.0 ** min(failures - 1, 64), 3600.0)
    assert whole_s / 2 <= DAYS.wait_s(subject, failures) <= whole_s
    assert DAYS.wait_s(subject, failures) == DAYS.wait_s(subject, failures), "the same in every run"


def test_what_failed_together_comes_back_one_after_the_other() -> None:
    waits = sorted(DAYS.wait_s(f"delivery {number}", 20) for number in range(100))
    assert waits[-1] - waits[0] > 1500
    assert max(later - earlier for earlier, later in itertools.pairwise(waits)) < 180


def test_who_asks_to_be_left_alone_is() -> None:
    assert RetrySchedule(1.0, 2.0, 10.0, at_least_s=30.0).wait_s("pacs", 1) == 30.0


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        ("07:30-18:00", "2026-06-10T07:29:59", None),
        ("07:30-18:00", "2026-06-10T07:30", "2026-06-10T18:00"),
        ("07:30-18:00", "2026-06-10T17:59:59", "2026-06-10T18:00"),
        ("07:30-18:00", "2026-06-10T18:00", None),
        ("22:00-06:00", "2026-06-10T21:59", None),
        ("22:00-06:00", "2026-06-10T22:00", "2026-06-11T06:00"),
        ("22:00-06:00", "2026-06-10T00:00", "2026-06-10T06:00"),
        ("22:00-06:00", "2026-06-10T05:59", "2026-06-10T06:00"),
        ("22:00-06:00", "2026-06-10T06:00", None),
        # the night in which clocks are put forward has seven such hours, the one in which they are put back has nine
        ("22:00-06:00", "2026-03-28T23:00", "2026-03-29T06:00"),
        ("22:00-06:00", "2026-10-24T23:00", "2026-10-25T06:00"),
        # 02:30 does not exist then: what would be 02:30 is shown as 03:30
        ("22:00-02:30", "2026-03-29T03:10", "2026-03-29T03:30"),
        ("22:00-02:30", "2026-03-29T03:31", None),
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(hours: str, now: str, until: str | None) -> None:
    assert QuietHours.parse(hours, BERLIN).until(at(now)) == (at(until) if until else None)


def test_an_hour_that_comes_twice_is_quiet_once() -> None:
    quiet = QuietHours.parse("22:00-02:30", BERLIN)
    assert quiet.until(at("2026-10-25T02:10")) == at("2026-10-25T02:30")
    assert quiet.until(at("2026-10-25T02:10", fold=1)) is None


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.times(), st.times())  # noqa: DTZ001
def test_quiet_hours_have_an_end_within_a_day_and_are_over_then(now: datetime, begin: object, end: object) -> None:
    hours = f"{begin:%H:%M}-{end:%H:%M}"
    quiet = QuietHours.parse(hours, BERLIN)
    now_s = now.replace(tzinfo=ZoneInfo("UTC")).timestamp()
    until = quiet.until(now_s)
    if until is not None:
        assert now_s < until <= now_s + timedelta(hours=25).total_seconds()


@pytest.fixture
def in_tokyo() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_without_a_zone_the_hours_are_those_of_the_machine() -> None:
    assert QuietHours.parse("22:00-06:00").until(at("2026-06-10T23:00", "Asia/Tokyo")) == at(
        "2026-06-11T06:00", "Asia/Tokyo"
    )
    assert QuietHours.parse("22:00-06:00").until(at("2026-06-10T15:30", "Europe/Berlin")) is not None
    assert QuietHours.parse("22:00-06:00").until(at("2026-06-10T12:00", "Asia/Tokyo")) is None
