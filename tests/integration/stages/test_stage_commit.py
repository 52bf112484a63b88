"""Storage commitment from end to end of the stages: what is on record, who is told, and what becomes of a delivery."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from commitment_peers import CommittingPacs, Reports, asking, information, request, tell
from fault_pacs import FaultPacs
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from stage_line import Line, MakePacs, Series, Start, destination

from gateway.domain.commitment import CommitmentRequest, SopReference
from gateway.domain.schedule import RetrySchedule
from gateway.network.commitment_in import Commitments
from gateway.network.destination import DestinationAddress
from gateway.network.scp import ScpConfig, StorageScp
from gateway.stages.commit import Committer, Listener
from gateway.stages.receive import Receive
from gateway.stages.vouch import Reporter, Voucher
from gateway.store import commitments, confirmations, outbox, reports, tables, timeline
from gateway.store.database import Database
from gateway.store.health import health

MR = str(MRImageStorage)
SCHEDULE = RetrySchedule(0.05, 1.0, 0.05)


def references(paths: list[Path]) -> list[tuple[str, str]]:
    return [(MR, str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)) for path in paths]


def voucher(line: Line, rows_within_s: float = 0.2) -> Voucher:
    return Voucher(line.database, line.spool, give_up_s=60.0, rows_within_s=rows_within_s)


@pytest.fixture
def scp(line: Line) -> Iterator[StorageScp]:
    """The SCP of a node, with storage commitment."""
    both = Commitments(voucher(line), Listener(line.database, SCHEDULE))
    with StorageScp(ScpConfig("ATHANOR", port=0), Receive(line.spool, line.recorder), commitments=both) as listening:
        yield listening


def commitment_row(database: Database) -> Any:
    with database.read() as connection:
        return connection.execute(sa.select(tables.commitment)).one()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def report_all(line: Line, peer: CommittingPacs | None, lease_s: float = 30.0) -> None:
    """One attempt at each report that is due."""
    address = {} if peer is None else {"SCANNER": DestinationAddress("SCANNER", "127.0.0.1", peer.port, "ATHANOR")}
    reporter = Reporter(voucher(line), address.get, SCHEDULE, lease_s)
    for commitment_id in line.announced(outbox.VOUCH):
        reporter(commitment_id)


def test_a_peer_that_waits_is_told_what_is_on_record_and_on_disk(line: Line, scp: StorageScp, series: Series) -> None:
    paths = series(4)
    assert line.send(paths).is_delivered
    lost, short, whole, other_class = references(paths)
    places = {uid: line.spool.path(path) for uid, path in _paths(line).items()}
    places[lost[1]].unlink()
    places[short[1]].write_bytes(b"short")
    told = Reports()
    with asking(scp.port, told) as association:
        asked = [lost, short, whole, ("1.2.3", other_class[1]), (MR, "1.2.3.4")]
        assert request(association, information("1.2.9", asked)) == 0x0000
        assert commitment_row(line.database).state == "PENDING"
        event_type, transaction, held, failed = told.next()
    assert (event_type, transaction, held) == (2, "1.2.9", [whole])
    assert sorted(failed) == sorted(
        [(*lost, 0x0112), (*short, 0x0110), ("1.2.3", other_class[1], 0x0119), (MR, "1.2.3.4", 0x0112)]
    )
    until(lambda: commitment_row(line.database).state == "REPORTED")
    assert commitment_row(line.database).not_held == 4
    assert line.announced(outbox.VOUCH) == []


def _paths(line: Line) -> dict[str, str]:
    with line.database.read() as connection:
        query = sa.select(tables.instance.c.sop_instance_uid, tables.instance.c.path)
        return {row.sop_instance_uid: row.path for row in connection.execute(query)}


def test_a_request_right_behind_the_instances_waits_for_their_rows(line: Line, scp: StorageScp, series: Series) -> None:
    paths = series(4)
    told = Reports()
    with asking(scp.port, told, "SCANNER", MR) as association:
        for path in paths:
            assert association.send_c_store(pydicom.dcmread(path)).Status == 0x0000
        assert request(association, information("1.2.9", references(paths))) == 0x0000
        assert told.next()[:2] == (1, "1.2.9")


def test_a_peer_that_released_is_told_over_an_association_of_ours(line: Line, scp: StorageScp, series: Series) -> None:
    paths = series(3)
    assert line.send(paths).is_delivered
    with asking(scp.port, Reports()) as association:
        assert request(association, information("1.2.9", references(paths))) == 0x0000
    until(lambda: commitment_row(line.database).not_before <= line.database.now_s())
    # nobody of that name is in the settings yet, then the peer is away, then it is there
    report_all(line, None)
    row = commitment_row(line.database)
    assert row.state == "PENDING"
    assert "add [peers.NAME]" in row.error
    away = CommittingPacs()
    with away:
        pass
    until(lambda: commitment_row(line.database).not_before <= line.database.now_s())
    _report_to(line, "127.0.0.1", _closed_port())
    assert "connection refused" in commitment_row(line.database).error
    with line.database.read() as connection:
        problems = health(connection, line.settings)["problems"]
    assert any(words.startswith("requests for storage commitment of SCANNER") for words in problems)
    with CommittingPacs() as peer:
        until(lambda: commitment_row(line.database).not_before <= line.database.now_s())
        report_all(line, peer)
        assert peer.reports.next() == (1, "1.2.9", references(paths), [])
        row = commitment_row(line.database)
        assert (row.state, row.error, row.attempt) == ("REPORTED", None, 3)
        report_all(line, peer)
        assert peer.reports.is_empty


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _report_to(line: Line, host: str, port: int) -> None:
    address = {"SCANNER": DestinationAddress("SCANNER", host, port, "ATHANOR")}
    for commitment_id in line.announced(outbox.VOUCH):
        Reporter(voucher(line), address.get, SCHEDULE, 30.0)(commitment_id)


def test_a_peer_that_knows_nothing_of_it_ends_the_request(line: Line, scp: StorageScp) -> None:
    with asking(scp.port, Reports()) as association:
        assert request(association, information("1.2.9", [(MR, "1.2.3")])) == 0x0000
    until(lambda: commitment_row(line.database).not_before <= line.database.now_s() - 0.3)
    with CommittingPacs() as peer:
        peer.reports.answer = 0x0115
        report_all(line, peer)
    row = commitment_row(line.database)
    assert row.state == "FAILED"
    assert "invalid argument value" in row.error
    assert line.announced(outbox.VOUCH) == []


def test_the_same_request_again_is_one_and_another_under_its_name_is_refused(line: Line, scp: StorageScp) -> None:
    with asking(scp.port, Reports()) as association:
        assert request(association, information("1.2.9", [(MR, "1.2.3")])) == 0x0000
        assert request(association, information("1.2.9", [(MR, "1.2.3")])) == 0x0000
        assert request(association, information("1.2.9", [(MR, "1.2.4")])) == 0x0115
    with asking(scp.port, Reports(), "OTHER") as association:
        assert request(association, information("1.2.9", [(MR, "1.2.4")])) == 0x0000
    assert line.count(tables.commitment) == 2


def test_a_reporter_that_dies_is_followed_by_another_when_its_lease_ends(line: Line) -> None:
    asked = CommitmentRequest("1.2.9", (SopReference(MR, "1.2.3"),))
    with line.database.write() as connection:
        titles = {"calling_ae_title": "SCANNER", "called_ae_title": "ATHANOR", "address": "127.0.0.1"}
        assert commitments.keep(connection, asked, **titles, hold_s=0.0, give_up_s=60.0)
    (commitment_id,) = line.announced(outbox.VOUCH)
    with line.database.write() as connection:
        first = commitments.claim(connection, commitment_id, lease_s=0.3)
    assert first is not None
    with line.database.write() as connection:
        assert commitments.claim(connection, commitment_id, lease_s=0.3) is None
    assert line.announced(outbox.VOUCH) == [commitment_id]
    until(lambda: commitment_row(line.database).lease_until < line.database.now_s())
    with line.database.write() as connection:
        second = commitments.claim(connection, commitment_id, lease_s=30.0)
    assert second is not None
    assert second.attempt == 2


def test_a_peer_is_told_one_thing_at_a_time(line: Line) -> None:
    titles = {"calling_ae_title": "SCANNER", "called_ae_title": "ATHANOR", "address": "127.0.0.1"}
    with line.database.write() as connection:
        for number in range(2):
            asked = CommitmentRequest(f"1.2.{number}", (SopReference(MR, "1.2.3"),))
            assert commitments.keep(connection, asked, **titles, hold_s=0.0, give_up_s=60.0)
    one, two = line.announced(outbox.VOUCH)
    with line.database.write() as connection:
        first = commitments.claim(connection, one, lease_s=30.0)
        assert first is not None
        assert commitments.claim(connection, two, lease_s=30.0) is None
        commitments.peer_is_away(connection, first, 60.0, "away")
        assert commitments.claim(connection, two, lease_s=30.0) is None
    assert sorted(line.announced(outbox.VOUCH)) == sorted([one, two])


# a destination that commits


def to_committing(start: Start, port: int) -> Line:
    return start(pacs=destination(port, commitment=True))


def committer(
    line: Line, pacs: CommittingPacs | int, report_within_s: float = 60.0, lease_s: float = 30.0
) -> Committer:
    port = pacs if isinstance(pacs, int) else pacs.port
    address = DestinationAddress("PACS", "127.0.0.1", port, "ATHANOR", connect_timeout_s=1.0, response_timeout_s=2.0)
    return Committer(line.database, {"pacs": (address, report_within_s)}.get, SCHEDULE, lease_s, "", "transfer-0")


def sent(line: Line, paths: list[Path]) -> dict[str, Any]:
    """Take a series to a delivery that is COMMITTING."""
    found = line.run(paths)["jobs"][-1]["deliveries"][0]
    assert found["state"] == "COMMITTING"
    return dict(found)


def ask_all(line: Line, ask: Committer) -> None:
    for delivery_id in line.announced(outbox.COMMIT):
        ask(delivery_id)


def due(line: Line) -> bool:
    return bool(line.delivery()["not_before"] <= line.database.now_s())


def all_of(ds: Dataset) -> list[tuple[str, str]]:
    return [(str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID)) for i in ds.ReferencedSOPSequence]


def test_a_delivery_is_delivered_when_it_is_committed(start: Start, series: Series, make_pacs: MakePacs) -> None:
    line = to_committing(start, make_pacs().port)
    sent(line, series(3))
    with CommittingPacs() as pacs:
        pacs.report = lambda ds: (1, information(ds.TransactionUID, all_of(ds)))
        ask_all(line, committer(line, pacs))
    delivery = line.delivery()
    assert (delivery["state"], delivery["error"]) == ("DELIVERED", None)
    assert line.announced(outbox.COMMIT) == []
    with line.database.read() as connection:
        told = [event.what for event in timeline.of_series(connection, line.detail()["id"]) if event.stage == "commit"]
    assert told == ["asked for commitment", "delivered"]


def test_what_is_not_committed_is_sent_again_with_the_same_bytes(
    start: Start, series: Series, make_pacs: MakePacs, scp: StorageScp
) -> None:
    storage: FaultPacs = make_pacs()
    line = to_committing(start, storage.port)
    sent(line, series(3))
    first = {item.sop_instance_uid: item.encoded for item in storage.stored}
    with CommittingPacs() as pacs:
        ask_all(line, committer(line, pacs))
        ds = pacs.requests.get(timeout=5)
        assert line.delivery()["state"] == "COMMITTING"
        # the report comes to our SCP, from whatever association
        (lost, *held) = all_of(ds)
        report = information(ds.TransactionUID, held, [(*lost, 0x0112)])
        with _scp_of(line) as own:
            assert tell(own.port, report, 2) == 0x0000
            delivery = line.delivery()
            assert delivery["state"] == "QUEUED"
            assert delivery["error"] == "1 of 3 instances not committed: no such object instance (0x0112)"
            storage.stored.clear()
            until(lambda: due(line))
            line.deliver()
            assert [(item.sop_instance_uid, item.encoded) for item in storage.stored] == [(lost[1], first[lost[1]])]
            assert line.delivery()["state"] == "COMMITTING"
            ask_all(line, committer(line, pacs))
            again = pacs.requests.get(timeout=5)
            assert again.TransactionUID != ds.TransactionUID
            assert all_of(again) == all_of(ds)
            assert tell(own.port, information("1.2.9", all_of(again))) == 0x0115
            assert line.delivery()["state"] == "COMMITTING"
            assert tell(own.port, information(again.TransactionUID, all_of(again))) == 0x0000
            assert line.delivery()["state"] == "DELIVERED"
            # the same report again changes nothing
            assert tell(own.port, report, 2) == 0x0000
            assert line.delivery()["state"] == "DELIVERED"


def _scp_of(line: Line) -> StorageScp:
    both = Commitments(voucher(line), Listener(line.database, SCHEDULE))
    return StorageScp(ScpConfig("ATHANOR", port=0), Receive(line.spool, line.recorder), commitments=both)


def test_a_report_that_leaves_an_instance_out_does_not_commit_it(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    line = to_committing(start, make_pacs().port)
    sent(line, series(3))
    with CommittingPacs() as pacs:
        pacs.report = lambda ds: (1, information(ds.TransactionUID, all_of(ds)[1:]))
        ask_all(line, committer(line, pacs))
    assert line.delivery()["state"] == "QUEUED"
    assert "1 of 3 instances not committed: the report does not mention it" in line.delivery()["error"]


def test_without_a_report_it_is_asked_again_and_given_up_in_the_end(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    line = to_committing(start, make_pacs().port)
    delivery = sent(line, series(3))
    with CommittingPacs() as pacs:
        ask = committer(line, pacs, report_within_s=0.05)
        ask_all(line, ask)
        first = pacs.requests.get(timeout=5).TransactionUID
        until(lambda: due(line))
        ask_all(line, ask)
        assert pacs.requests.get(timeout=5).TransactionUID != first
        with line.database.write() as connection:
            connection.execute(sa.update(tables.delivery).values(give_up_at=0.0))
        until(lambda: due(line))
        ask_all(line, ask)
    found = line.delivery()
    assert found["state"] == "FAILED"
    assert found["error"] == "asked 2 times for storage commitment without a report; does pacs know where to reach us?"
    assert line.announced(outbox.COMMIT) == []
    # an administrator sends it again, all of it or what is left: nothing is left, and it is asked about again
    with line.database.read() as connection:
        assert reports.waiting_deliveries(connection)[0]["state"] == "FAILED"
    line.send_again(delivery["id"])
    line.deliver()
    assert line.delivery()["state"] == "COMMITTING"


def test_a_destination_without_commitment_or_away_is_told_apart(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    storage = make_pacs()
    line = to_committing(start, storage.port)
    sent(line, series(3))
    ask_all(line, committer(line, _closed_port()))
    assert line.delivery()["state"] == "COMMITTING"
    assert "storage commitment: transport connection: " in line.delivery()["error"]
    until(lambda: due(line))
    ask_all(line, committer(line, storage.port))
    assert line.delivery()["state"] == "FAILED"
    assert "does not accept Storage Commitment Push Model" in line.delivery()["error"]


def test_whoever_dies_before_asking_is_followed_by_its_successor(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    line = to_committing(start, make_pacs().port)
    delivery = sent(line, series(3))
    with line.database.write() as connection:
        assert confirmations.claim(connection, delivery["id"], "transfer-0", 30.0, "") is not None
    with line.database.write() as connection:
        assert confirmations.claim(connection, delivery["id"], "transfer-1", 30.0, "") is None
        assert confirmations.take_back(connection, "transfer-1") == 0
        assert confirmations.take_back(connection, "transfer-0") == 1
    with CommittingPacs() as pacs:
        pacs.report = lambda ds: (1, information(ds.TransactionUID, all_of(ds)))
        ask_all(line, committer(line, pacs))
    assert line.delivery()["state"] == "DELIVERED"
