"""Deliveries: each instance has its answer, only what is missing is sent again, nobody blocks another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from gateway.domain.schedule import RetrySchedule
from gateway.domain.states import DeliveryState
from gateway.store import deliveries, destinations, jobs, outbox, tables
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


def claim(database: Database, delivery_id: str, places: int = 2, quiet_until: float | None = None) -> Claim | None:
    with database.write() as connection:
        return deliveries.claim(connection, delivery_id, "transfer", 30, places, quiet_until=quiet_until)


def announced(database: Database) -> list[str]:
    """What is announced now, each time only once."""
    found: list[str] = []
    outbox.relay(database, lambda _, subject, __: found.append(subject))
    return found


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
    assert announced(database) == [delivery_ids["archive"]]


def test_a_busy_destination_is_left_alone_and_another_is_served(
    database: Database, delivery_ids: dict[str, str], make_job: Callable[..., str]
) -> None:
    second = to_deliver(database, make_job(("pacs",), series_uid="2.25.9"), "pacs", uid="2.25.3")["pacs"]
    first = claim(database, delivery_ids["pacs"], places=1)
    assert first is not None
    assert claim(database, second, places=1) is None
    assert claim(database, delivery_ids["archive"], places=1) is not None
    assert announced(database) == [], "nobody is asked for what cannot begin"
    with database.write() as connection:
        deliveries.end(connection, first, DeliveryState.DELIVERED)
    assert announced(database) == [second], "the place is free"


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


NEVER_LONG = RetrySchedule(0.0, 2.0, 0.0)
LONG = RetrySchedule(60.0, 2.0, 3600.0)


@pytest.fixture
def backlog(database: Database, make_job: Callable[..., str]) -> list[str]:
    """Five deliveries that wait for one destination, oldest first."""
    return [
        to_deliver(database, make_job(("pacs",), series_uid=f"2.25.9{n}"), "pacs", uid=f"2.25.3{n}")["pacs"]
        for n in range(5)
    ]


def fail(database: Database, delivery_id: str, outage: RetrySchedule | None, retry_in_s: float = 0.0) -> None:
    """One attempt in which the destination takes nothing."""
    claimed = claim(database, delivery_id)
    assert claimed is not None
    with database.write() as connection:
        deliveries.end(connection, claimed, DeliveryState.QUEUED, error="refused", retry_in_s=retry_in_s, outage=outage)


def test_while_a_destination_is_down_one_delivery_at_a_time_asks_it(database: Database, backlog: list[str]) -> None:
    announced(database)
    fail(database, backlog[0], LONG)
    assert [claim(database, delivery_id) for delivery_id in backlog] == [None] * 5
    assert announced(database) == [], "nobody is announced before it is asked again"
    with database.write() as connection:
        connection.execute(sa.update(tables.destination).values(not_before=0.0))
        connection.execute(sa.update(tables.outbox).values(due_at=0.0))
    (probe,) = announced(database)
    assert probe == backlog[1], "they take turns"
    assert claim(database, probe) is not None
    assert claim(database, backlog[2]) is None, "one at a time, although there are two places"


def test_a_destination_that_is_back_gets_everything_at_once(database: Database, backlog: list[str]) -> None:
    announced(database)
    for delivery_id in backlog[:3]:
        fail(database, delivery_id, NEVER_LONG, retry_in_s=3600.0)
    probe = claim(database, backlog[3], places=4)
    assert probe is not None
    with database.write() as connection:
        deliveries.record_answers(connection, probe, {probe.to_send[0].derived_id: (0x0000, "Success", True)})
    assert announced(database) == backlog[:3], "as many as there are places"
    assert all(claim(database, delivery_id, places=4) for delivery_id in backlog[:3])


def test_a_delivery_that_alone_brings_a_destination_down_waits_for_its_own_time(
    database: Database, backlog: list[str]
) -> None:
    fail(database, backlog[0], NEVER_LONG, retry_in_s=3600.0)
    probe = claim(database, backlog[1])
    assert probe is not None
    with database.write() as connection:
        deliveries.record_answers(connection, probe, {probe.to_send[0].derived_id: (0xB000, "coerced", True)})
    assert claim(database, backlog[0]) is None
    assert claim(database, backlog[2]) is not None


def test_what_waits_behind_an_outage_ends_when_its_time_is_over(database: Database, backlog: list[str]) -> None:
    with database.write() as connection:
        overdue = tables.delivery.c.id.in_(backlog[2:])
        connection.execute(sa.update(tables.delivery).where(overdue).values(give_up_at=0.0))
    fail(database, backlog[0], LONG)
    with database.read() as connection:
        rows = connection.execute(sa.select(tables.delivery).order_by(tables.delivery.c.created_at)).all()
    assert [row.state for row in rows] == ["QUEUED"] * 2 + ["FAILED"] * 3
    assert rows[-1].error == "given up after waiting for pacs: refused"


def test_a_held_destination_waits_and_goes_on_at_once(database: Database, backlog: list[str]) -> None:
    announced(database)
    with database.write() as connection:
        assert destinations.hold(connection, "pacs", by="admin", reason="upgrade of the PACS")
        assert not destinations.hold(connection, "pacs", by="other", reason="")
        before = connection.execute(sa.select(tables.delivery.c.give_up_at)).scalars().all()
    assert [claim(database, delivery_id) for delivery_id in backlog] == [None] * 5
    assert announced(database) == []
    with database.write() as connection:
        connection.execute(sa.update(tables.destination).values(held_at=tables.destination.c.held_at - 3600))
        connection.execute(sa.update(tables.delivery).values(created_at=tables.delivery.c.created_at - 7200))
        assert destinations.release(connection, "pacs", places=2)
        assert not destinations.release(connection, "pacs", places=2)
        after = connection.execute(sa.select(tables.delivery.c.give_up_at)).scalars().all()
    assert announced(database) == backlog[:2]
    assert all(3600 <= late - early < 3700 for early, late in zip(before, after, strict=True)), "it cost no time"


def test_in_quiet_hours_nothing_is_begun(database: Database, delivery_ids: dict[str, str]) -> None:
    later = database.now_s() + 3600
    assert claim(database, delivery_ids["pacs"], quiet_until=later) is None
    with database.read() as connection:
        due = connection.execute(
            sa.select(tables.outbox.c.due_at).where(tables.outbox.c.subject == delivery_ids["pacs"])
        ).scalar_one()
    assert due == later
    assert claim(database, delivery_ids["pacs"]) is not None, "they are over"


def test_a_cancelled_delivery_ends_its_sender_too_and_gives_its_place_on(
    database: Database, backlog: list[str]
) -> None:
    first = claim(database, backlog[0], places=1)
    assert first is not None
    announced(database)
    with database.write() as connection:
        assert deliveries.cancel(connection, backlog[0], by="admin")
        assert not deliveries.cancel(connection, backlog[0], by="admin")
        assert not deliveries.renew(connection, first)
        assert not deliveries.end(connection, first, DeliveryState.DELIVERED)
    assert announced(database) == [backlog[1]]


def test_a_cancelled_delivery_that_was_announced_hands_its_place_on(database: Database, backlog: list[str]) -> None:
    announced(database)
    with database.write() as connection:
        connection.execute(
            sa.update(tables.delivery).where(tables.delivery.c.id == backlog[0]).values(state=DeliveryState.CANCELLED)
        )
    assert claim(database, backlog[0], places=1) is None
    assert announced(database) == [backlog[1]]


def test_whatever_happens_somebody_is_announced(database: Database, backlog: list[str]) -> None:
    with database.write() as connection:
        assert destinations.announce_forgotten(connection) == 0
        connection.execute(sa.delete(tables.outbox))
        destinations.hold(connection, "pacs", by="admin", reason="")
        assert destinations.announce_forgotten(connection) == 0
        destinations.release(connection, "pacs", places=1)
        connection.execute(sa.delete(tables.outbox))
        assert destinations.announce_forgotten(connection) == 1
        assert destinations.announce_forgotten(connection) == 0
    assert announced(database) == [backlog[0]]
