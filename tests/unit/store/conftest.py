"""A series received and closed, a job made: rows through the functions that make them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from store_rows import CALLER, header, route, stored

from gateway.domain.completeness import AssociationState
from gateway.store import intake, judgement, tables
from gateway.store.database import Database
from gateway.store.intake import Arrived, Caller

Receive = Callable[..., list[intake.Arrival]]


@pytest.fixture
def receive(database: Database) -> Receive:
    """Receive slices of a series in the association of CALLER."""

    def receive_slices(*numbers: int, series_uid: str = "2.25.7", caller: Caller = CALLER) -> list[intake.Arrival]:
        arrivals = []
        for number in numbers:
            one = header(number, series_uid)
            arrived = Arrived(one, stored(one.sop_instance_uid), caller)
            with database.write() as connection:
                intake.open_associations(connection, [caller], "scp-0")
                arrivals += intake.record_instances(connection, [arrived], judge_after_s=0.0)
        return arrivals

    return receive_slices


@pytest.fixture
def close(database: Database) -> Callable[..., tuple[int, int]]:
    """Close a series and give (id, revision)."""

    def close_series(series_uid: str = "2.25.7") -> tuple[int, int]:
        with database.write() as connection:
            intake.end_association(connection, CALLER.association_id, AssociationState.RELEASED)
            row = connection.execute(sa.select(tables.series).where(tables.series.c.uid == series_uid)).one()
            assert judgement.close_series(connection, row.id, row.revision, row.instances, {"sentence": "test"})
            return row.id, row.revision

    return close_series


@pytest.fixture
def make_job(database: Database, receive: Receive, close: Callable[..., tuple[int, int]]) -> Callable[..., str]:
    """Receive three slices, close and route them; the id of the job."""

    def make(destinations: tuple[str, ...] = ("pacs",), max_attempts: int = 3, series_uid: str = "2.25.7") -> str:
        receive(1, 2, 3, series_uid=series_uid)
        series_id, revision = close(series_uid)
        return route(database, series_id, revision, destinations, max_attempts)

    return make
