"""When the spool will be full, of what came and of what goes again."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from store_rows import CALLER

from gateway.store.database import Database, now
from gateway.store.forecast import days_until_full
from gateway.store.tables import association, instance, series, study

DAY_S = 86_400.0


def came(database: Database, per_day_bytes: int, days: int) -> None:
    """So many bytes on each of the last days."""
    with database.write() as connection:
        connection.execute(
            sa.insert(association).values(
                id=CALLER.association_id, calling_ae_title="CT", called_ae_title="US", address="::1", opened_at=0.0
            )
        )
        connection.execute(
            sa.insert(study).values(
                uid="2.25.1", first_received_at=0.0, patient_id="", patient_name="", accession_number="",
                study_date="", study_description="",
            )
        )  # fmt: skip
        for day in range(days):
            at = now() - (day + 0.5) * DAY_S
            connection.execute(
                sa.insert(series).values(
                    id=day + 1, uid=f"2.25.2.{day}", study_uid="2.25.1", modality="MR", series_description="",
                    calling_ae_title="CT", called_ae_title="US", address="::1", state="ROUTED", revision=1, instances=1,
                    first_received_at=at, last_received_at=at,
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(instance).values(
                    sop_instance_uid=f"2.25.3.{day}", sop_class_uid="1.2", transfer_syntax_uid="1.2", series_id=day + 1,
                    association_id=CALLER.association_id, revision=1, path=f"received/{day}", size_bytes=per_day_bytes,
                    sha256="", received_at=at, number_of_frames=1, orientation=[],
                )
            )  # fmt: skip


@pytest.mark.parametrize(
    ("days", "room", "files_days", "expected"),
    [
        (0, 1000, None, None),  # nothing came: nothing can be said
        (10, 1000, None, 10.0),  # nothing goes
        (3, 250, None, 2.5),
        (10, 1000, 10.0, None),  # each day as much goes as comes
        (5, 250, 10.0, 2.5),  # nothing is old enough to go before it is full
        (5, 550, 10.0, None),  # five days without anything that goes, and there is just room
        (10, 0, None, 0.0),
    ],
)
def test_days_until_only_the_reserve_is_left(
    database: Database, days: int, room: int, files_days: float | None, expected: float | None
) -> None:
    if days:
        came(database, 100, days)
    with database.read() as connection:
        assert days_until_full(connection, 5000 + room, 5000, files_days) == expected
