"""When the spool will be full: what comes in a day, and what retention will give back."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.store.database import now
from gateway.store.tables import derived, instance, job, series

_DAY_S = 86_400.0
_WEEK_DAYS = 7
_FAR_DAYS = 365


def days_until_full(
    connection: Connection, free_bytes: int, reserve_bytes: int, files_days: float | None
) -> float | None:
    """Days until only the reserve is left if each day brings as much as those of the last week; None = not in a year.

    `files_days` is after how many days retention gives files up; None = never. Reads a row for each instance of the
    last days: not for every tick of a clock.
    """
    came = _bytes_by_age(connection)
    seen_days = max((age for age in came if age < _WEEK_DAYS), default=-1) + 1
    if seen_days == 0:
        return None
    daily = sum(size for age, size in came.items() if age < _WEEK_DAYS) / seen_days
    room = float(free_bytes - reserve_bytes)
    for day in range(_FAR_DAYS):
        goes = 0.0
        if files_days is not None:
            # what came before today leaves when it is old enough; what comes from today on leaves by the same measure
            goes = came.get(int(files_days) - 1 - day, 0) if day < files_days else daily
        if room - daily + goes < 0:
            return day + max(0.0, room) / max(daily - goes, 1.0)
        room += goes - daily
    return None


def _bytes_by_age(connection: Connection) -> dict[int, int]:
    """Bytes of the spool by the age in whole days of the series that they belong to."""
    days = (now() - series.c.last_received_at) / _DAY_S
    # PostgreSQL rounds where SQLite truncates
    age = sa.cast(days if connection.dialect.name == "sqlite" else sa.func.floor(days), sa.Integer)
    received = (
        sa.select(age.label("age"), sa.func.sum(instance.c.size_bytes))
        .join(instance, instance.c.series_id == series.c.id)
        .group_by("age")
    )
    made = (
        sa.select(age.label("age"), sa.func.sum(derived.c.size_bytes))
        .join(job, job.c.series_id == series.c.id)
        .join(derived, derived.c.job_id == job.c.id)
        .where(series.c.purged_at.is_(None))
        .group_by("age")
    )
    found: dict[int, int] = {}
    for query in (received, made):
        for whole_days, size in connection.execute(query):
            found[max(0, whole_days)] = found.get(max(0, whole_days), 0) + int(size)
    return found
