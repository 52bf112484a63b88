"""Deliveries: each instance has its answer, only what is missing is sent again, nobody blocks another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from gateway.domain.states import DeliveryState
from gateway.store import deliveries, jobs, outbox, tables
from gateway.store.database import Database
from gateway.store.deliveries import Claim
from gateway.store.jobs import DerivedFile


def to_deliver(database: Database, job_id: str, *destinations: str, uid: str = "2.25.1") -> dict[str, str]:
    """Give a job a result of two instances on its way to `destinations`; ids of the deliveries by destination."""
    with database.write() as connection:
        claimed = jobs.claim(connection, job_id, "w", 30)
        assert claimed is not None
        files = [
            DerivedFile("p", f"{uid}{n}", "c", "2.25.2", 401, "t", n, f"2.25.7000{n}", f"derived/{n}.dcm", 1, "s")
            for n in (1, 2)
        ]
        jobs.succeed(connection, claimed, files, dict.fromkeys(destinations, "p"), give_up_s=60)
        rows = connection.execute(
            sa.select(tables.delivery.c.destination, tables.delivery.c.id).where(tables.delivery.c.job_id == job_id)
        )
        return dict(rows.all())


@pytest.fixture
def delivery_ids(database: Database, make_job: Callable[..., str]) -> dict[str, str]:
    """Two instances on their way to two destinations."""
    return to_deliver(database, make_job(("pacs", "archive")), "pacs", "archive")


def claim(database: Database, delivery_id: str, per_destination: int = 2) -> Claim | None:
    with database.write() as connection:
        return deliveries.claim(connection, delivery_id, "transfer", 30, per_destination)


def test_only_what_was_not_accepted_is_sent_again(database: Database, delivery_ids: dict[str, str]) -> None:
    first = claim(database, delivery_ids["pacs"])
    assert first is not None
    assert len(first.to_send) == 2
    with database.write() as connection:
        answers = {
            first.to_send[0].derived_id: (0x0000, "Success", True),
            first.to_send[1].derived_id: (0xA700, "out of resources", False),
        }
        assert deliveries.record_answers(connection, first, answers)
        assert deliveries.end(connection, first, DeliveryState.QUEUED, error="1 of 2", retry_in_s=0.0)
    second = claim(database, delivery_ids["pacs"])
    assert second is not None
    assert (second.attempt, second.to_send) == (2, first.to_send[1:])


def test_a_retry_is_not_claimed_before_its_time_and_is_announced_then(
    database: Database, delivery_ids: dict[str, str]
) -> None:
    claimed = claim(database, delivery_ids["pacs"])
    assert claimed is not None
    with database.write() as connection:
        deliveries.end(connection, claimed, DeliveryState.QUEUED, error="refused", retry_in_s=3600.0)
    assert claim(database, delivery_ids["pacs"]) is None
    announced: list[str] = []
    outbox.relay(database, lambda _, subject, __: announced.append(subject))
    assert announced == [delivery_ids["archive"]]


def test_a_busy_destination_is_left_alone_and_another_is_served(
    database: Database, delivery_ids: dict[str, str], make_job: Callable[..., str]
) -> None:
    second = to_deliver(database, make_job(("pacs",), series_uid="2.25.9"), "pacs", uid="2.25.3")["pacs"]
    assert claim(database, delivery_ids["pacs"], per_destination=1) is not None
    assert claim(database, second, per_destination=1) is None
    assert claim(database, delivery_ids["archive"], per_destination=1) is not None
    with database.read() as connection:
        waits = connection.execute(sa.select(tables.outbox.c.subject)).scalars().all()
    assert second in waits, "it is announced again when the destination may be free"


def test_an_acceptance_is_never_taken_back(database: Database, delivery_ids: dict[str, str]) -> None:
    claimed = claim(database, delivery_ids["pacs"])
    assert claimed is not None
    one = claimed.to_send[0].derived_id
    with database.write() as connection:
        deliveries.record_answers(connection, claimed, {one: (0x0000, "Success", True)})
        deliveries.record_answers(connection, claimed, {one: (0xC000, "cannot understand", False)})
        row = connection.execute(
            sa.select(tables.delivery_instance).where(
                tables.delivery_instance.c.derived_id == one,
                tables.delivery_instance.c.delivery_id == delivery_ids["pacs"],
            )
        ).one()
    assert row.status == 0
    assert row.accepted_at is not None


def test_a_dead_sender_is_fenced(database: Database, delivery_ids: dict[str, str]) -> None:
    first = claim(database, delivery_ids["pacs"])
    assert first is not None
    with database.write() as connection:
        assert deliveries.take_back(connection, owner="transfer") == 1
    second = claim(database, delivery_ids["pacs"])
    assert second is not None
    with database.write() as connection:
        assert not deliveries.end(connection, first, DeliveryState.FAILED, error="late")
        assert deliveries.end(connection, second, DeliveryState.DELIVERED)


def test_resend_of_a_whole_result_sends_everything(database: Database, delivery_ids: dict[str, str]) -> None:
    claimed = claim(database, delivery_ids["pacs"])
    assert claimed is not None
    with database.write() as connection:
        answers = {item.derived_id: (0, "Success", True) for item in claimed.to_send}
        deliveries.record_answers(connection, claimed, answers)
        deliveries.end(connection, claimed, DeliveryState.DELIVERED)
        assert deliveries.send_again(connection, delivery_ids["pacs"], whole=True, give_up_s=60)
    again = claim(database, delivery_ids["pacs"])
    assert again is not None
    assert len(again.to_send) == 2
