"""When a delivery is tried again, and in which hours none is begun."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Waits that grow from `first_s` by `growth` up to `longest_s`, each shortened by up to half of it.

    How much shorter is a digest of who waits and how often: what failed together does not come back together, and
    the same attempt always waits the same time.
    """

    first_s: float
    growth: float
    longest_s: float
    at_least_s: float = 0.0

    def wait_s(self, subject: str, failures: int) -> float:
        """Seconds until `subject` is tried again after that many failures in a row, counted from 1."""
        whole_s = min(self.first_s * self.growth ** min(failures - 1, 64), self.longest_s)
        return max(self.at_least_s, whole_s * (0.5 + zlib.crc32(f"{subject} {failures}".encode()) / 2**33))


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` by the clock on the wall, past midnight when `end` is the earlier of the two.

    Without `zone` the wall is in the time zone of this machine.
    """

    begin: time
    end: time
    zone: ZoneInfo | None = None

    @classmethod
    def parse(cls, text: str, zone: str | None = None) -> QuietHours:
        """Quiet hours such as ``22:00-06:00``, in a zone such as ``Europe/Berlin``."""
        begin, end = map(time.fromisoformat, text.split("-"))
        return cls(begin, end, ZoneInfo(zone) if zone else None)

    def until(self, now_s: float) -> float | None:
        """When the quiet hours end in which `now_s` lies, both in seconds since 1970; None outside of them.

        When the clock on the wall is put back, an end that it shows twice is the first of the two; when it is put
        forward, a time that it skips counts as if it had not been.
        """
        return next((end for begin, end in self._around(now_s) if begin <= now_s < end), None)

    def _around(self, now_s: float) -> Iterator[tuple[float, float]]:
        today = datetime.fromtimestamp(now_s, self.zone).date()
        over_midnight = timedelta(days=self.end < self.begin)
        for day in (today - timedelta(days=1), today):
            yield (
                self._instant(datetime.combine(day, self.begin)),
                self._instant(datetime.combine(day + over_midnight, self.end)),
            )

    def _instant(self, on_the_wall: datetime) -> float:
        # without a zone, timestamp() asks the machine for its own
        return on_the_wall.replace(tzinfo=self.zone).timestamp()
