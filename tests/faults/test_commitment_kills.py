"""kill -9 in the midst of storage commitment, in both roles: who was promised a report gets it, and no delivery ends
before the destination has committed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from commitment_peers import CommittingPacs, Reports, asking, information, request
from fault_fixtures import CountFault, MakeGateway
from load import AnswerLog, Modality, SeriesMaker
from parts import Gateway
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from gateway.killpoints import VARIABLE
from gateway.store import tables
from gateway.store.database import Database

MR = str(MRImageStorage)


@pytest.fixture(scope="module")
def archive() -> Iterator[CommittingPacs]:
    """A destination that stores, and commits over the association that asks."""
    with CommittingPacs(0, MR, str(SecondaryCaptureImageStorage)) as running:
        running.report = lambda ds: (
            1,
            information(
                ds.TransactionUID,
                [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in ds.ReferencedSOPSequence],
            ),
        )
        yield running


@pytest.fixture(scope="module")
def node(archive: CommittingPacs, make_gateway: MakeGateway) -> Gateway:
    at = {"host": "127.0.0.1", "port": archive.port}
    return make_gateway(
        "sqlite",
        destinations={"pacs": {"ae_title": "PACS", **at, "commitment": True, "commitment_timeout_s": 5.0}},
        peers={"scanner": {"ae_title": "SCANNER", **at}},
    )


@pytest.fixture(scope="module")
def database(node: Gateway) -> Iterator[Database]:
    opened = node.database()
    yield opened
    opened.close()


def states(database: Database, table: sa.Table) -> list[str]:
    with database.read() as connection:
        return sorted(connection.execute(sa.select(table.c.state)).scalars())


def wait_for_states(database: Database, table: sa.Table, expected: list[str]) -> None:
    until = time.monotonic() + 60
    while (found := states(database, table)) != expected:
        assert time.monotonic() < until, f"{found}; expected {expected}"
        time.sleep(0.05)


def test_a_request_that_was_kept_or_answered_is_reported_whatever_is_killed(
    node: Gateway, database: Database, archive: CommittingPacs, count_fault: CountFault
) -> None:
    receiver, transfer = node.parts["receiver"], node.parts["transfer"]
    receiver.kill()
    receiver.start(**{VARIABLE: "vouch.kept"})
    receiver.wait_until_ready()
    with asking(node.port, Reports()) as association, contextlib.suppress(AttributeError):
        request(association, information("1.2.1", [(MR, "1.2.3")]))  # an answer without a status: none came
    receiver.wait_killed()
    receiver.start()
    receiver.wait_until_ready()
    with asking(node.port, Reports()) as association:
        assert request(association, information("1.2.2", [(MR, "1.2.3")])) == 0x0000
        receiver.kill()
    # and the one that reports dies when the peer knows and the database does not
    transfer.kill()
    transfer.start(**{VARIABLE: "vouch.told"})
    transfer.wait_killed()
    told = [archive.reports.next()[1]]
    transfer.start()
    receiver.start()
    node.wait_until_ready()
    wait_for_states(database, tables.commitment, ["REPORTED", "REPORTED"])
    told += [archive.reports.next()[1] for _ in range(2)]
    assert sorted(set(told)) == ["1.2.1", "1.2.2"]
    assert told.count(told[0]) == 2, "the report that nobody remembers is made again"
    assert archive.reports.is_empty
    count_fault("kill point", 2)
    count_fault("kill")


@pytest.mark.parametrize("point", ["commit.claimed", "commit.taken", "commit.heard"])
def test_a_delivery_that_was_being_committed_is_delivered_in_the_end(
    node: Gateway,
    database: Database,
    template: Dataset,
    answers: AnswerLog,
    request: pytest.FixtureRequest,
    point: str,
    count_fault: CountFault,
) -> None:
    transfer = node.parts["transfer"]
    transfer.kill()
    transfer.start(**{VARIABLE: point})
    transfer.wait_until_ready()
    before = states(database, tables.delivery)
    Modality(node.port, "SCANNER", answers).send(SeriesMaker(template, request.node.name)(2))
    transfer.wait_killed()
    count_fault("kill point")
    assert states(database, tables.delivery) == sorted(
        [*before, "DELIVERED" if point == "commit.heard" else "COMMITTING"]
    )
    transfer.start()
    node.wait_until_ready()
    wait_for_states(database, tables.delivery, [*before, "DELIVERED"])
