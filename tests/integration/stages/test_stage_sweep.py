"""What waits: announced again when a dead worker held it or the broker lost it, and in silence while it has no turn."""

from __future__ import annotations

import threading

import sqlalchemy as sa
from fault_pacs import FaultPacs
from stage_line import Line, MakePacs, Series, Start, destination

from gateway.domain.states import DeliveryState
from gateway.stages.deliver import Deliverer
from gateway.stages.sweep import sweep
from gateway.store import outbox, tables
from gateway.store.deliveries import claim, end


def nothing_waits(_: str) -> int:
    """The length of a queue that the broker has forgotten."""
    return 0


def published(line: Line) -> list[tuple[str, str]]:
    """What is announced now: (stage, subject)."""
    messages: list[tuple[str, str]] = []
    outbox.relay(line.database, lambda stage, subject, _: messages.append((stage, subject)))
    return messages


def made(line: Line, pacs: FaultPacs, series: Series) -> str:
    """A result that waits to be delivered; the id of the delivery."""
    assert line.send(series(3)).is_delivered
    line.assemble()
    line.route()
    line.process()
    return str(line.delivery()["id"])


def test_a_delivery_whose_sender_died_is_carried_on_by_another(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port))
    delivery_id = made(line, pacs, series)
    with line.database.write() as connection:
        assert claim(connection, delivery_id, "transfer-9@dead", -1.0, 2) is not None
    line.deliver_one(delivery_id)
    assert pacs.stored == [], "it is somebody else's until the sweep"
    sweep(line.database, nothing_waits)
    assert line.delivery()["error"] == "the sender died or heard nothing"
    line.deliver_until_ended()
    assert (line.delivery()["state"], line.delivery()["attempt"]) == ("DELIVERED", 2)
    assert len(pacs.accepted()) == 3


def test_a_sender_that_slept_past_its_lease_does_not_end_what_another_carries(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(number: int) -> int:
        if number == 1:
            reached.set()
            go_on.wait(20)
        return 0x0000

    pacs = make_pacs(answer=slow)
    line = start(pacs=destination(pacs.port))
    delivery_id = made(line, pacs, series)
    short = line.settings.deliver.model_copy(update={"lease_s": 0.2, "response_timeout_s": 20.0})
    settings = line.settings.model_copy(update={"deliver": short})
    deliverer = Deliverer(line.database, line.spool, settings, "transfer-1")
    sleeper = threading.Thread(target=deliverer, args=(delivery_id,))
    sleeper.start()
    assert reached.wait(20)
    while line.delivery()["state"] == "SENDING":
        sweep(line.database, nothing_waits)
    with line.database.write() as connection:
        other = claim(connection, delivery_id, "transfer-2", 60.0, 2)
    assert other is not None
    go_on.set()
    sleeper.join(20)
    row = line.delivery()
    assert (row["state"], row["attempt"], row["lease_owner"]) == ("SENDING", 2, "transfer-2")
    assert row["accepted"] >= 1, "what the destination said to the sleeper stays true"


def test_what_the_broker_lost_is_announced_again_and_what_waits_in_it_is_not(line: Line, series: Series) -> None:
    assert line.send(series(3)).is_delivered
    line.assemble()
    first = published(line)
    assert len(first) == 1
    assert first[0][0] == outbox.ROUTE
    sweep(line.database, nothing_waits)
    assert published(line) == [], "it was announced a moment ago"
    with line.database.write() as connection:
        connection.execute(sa.update(tables.outbox).values(published_at=tables.outbox.c.published_at - 60))
    sweep(line.database, lambda _: 1)
    assert published(line) == [], "the message waits in the broker"
    sweep(line.database, nothing_waits)
    assert published(line) == first


def test_a_backlog_waits_in_silence_and_each_free_place_is_offered_once(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port))
    waiting = [made(line, pacs, series) for _ in range(4)]
    with line.database.write() as connection:
        first = claim(connection, waiting[0], "transfer-0", 60.0, 1)
        assert first is not None
        assert [claim(connection, delivery_id, "transfer-0", 60.0, 1) for delivery_id in waiting[1:]] == [None] * 3
    assert published(line) == [], "nobody is asked for what cannot begin"
    with line.database.write() as connection:
        assert end(connection, first, DeliveryState.DELIVERED)
    assert published(line) == [(outbox.DELIVER, waiting[1])]
    with line.database.write() as connection:
        second = claim(connection, waiting[1], "transfer-0", 60.0, 1)
        assert second is not None
        assert end(connection, second, DeliveryState.QUEUED, error="refused", retry_in_s=60.0)
    assert published(line) == [(outbox.DELIVER, waiting[2])], "what is tried later keeps no place"
