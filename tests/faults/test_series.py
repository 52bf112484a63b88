"""Series on a bad day: late, twice, out of order, interleaved, never whole, from two sides, with two faces."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

import pytest
import sqlalchemy as sa
from fault_fixtures import CountFault, MakeGateway
from load import AnswerLog, Association, Modality, Sent, SeriesMaker, changed
from parts import Gateway
from pydicom.dataset import Dataset

from gateway.store.tables import job, series

_DUPLICATE_INSTANCE = 0x0111


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def node(request: pytest.FixtureRequest, make_gateway: MakeGateway) -> Gateway:
    """A gateway that all tests of a backend share."""
    return make_gateway(request.param)


@pytest.fixture
def make(template: Dataset, request: pytest.FixtureRequest) -> SeriesMaker:
    """Makes series of the test's own."""
    return SeriesMaker(template, request.node.name)


@pytest.fixture
def scanner(node: Gateway, answers: AnswerLog) -> Modality:
    """The first sender."""
    return Modality(node.port, "SCANNER", answers)


@pytest.fixture
def workstation(node: Gateway, answers: AnswerLog) -> Modality:
    """The second sender."""
    return Modality(node.port, "WORKSTATION", answers)


def at_once(*work: Callable[[], object]) -> None:
    """Do all of it at once."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def state_of(gateway: Gateway, every: Sequence[Sent]) -> tuple[str, int, list[str]]:
    """State and revision of a series, and the states of its jobs in their order."""
    database = gateway.database()
    with database.read() as connection:
        row = connection.execute(sa.select(series).where(series.c.uid == every[0].series_instance_uid)).one()
        jobs = connection.execute(sa.select(job.c.state).where(job.c.series_id == row.id).order_by(job.c.revision))
        found = row.state, row.revision, list(jobs.scalars())
    database.close()
    return found


def test_in_any_order_interleaved_twice_and_from_two_sides_each_is_one_series_and_one_result(
    node: Gateway,
    make: SeriesMaker,
    scanner: Modality,
    workstation: Modality,
    answers: AnswerLog,
    count_fault: CountFault,
    pytestconfig: pytest.Config,
) -> None:
    choose = random.Random(int(pytestconfig.getoption("--faults-seed", 1)))
    backwards, shuffled, first, second, twice, both, ct = (*(make(4) for _ in range(6)), make(3, "CT"))
    choose.shuffle(shuffled)
    mixed = list(chain.from_iterable(zip(first, second, strict=True)))
    at_once(
        lambda: scanner.send([*backwards[::-1], *shuffled, *twice, *twice]),
        lambda: workstation.send([*mixed, *ct]),
        lambda: Modality(node.port, "LEFT", answers).send(both[:3]),
        lambda: Modality(node.port, "RIGHT", answers).send(both[1:]),
    )
    scanner.send(ct)
    node.check(answers).require_kept()
    for every in (backwards, shuffled, first, second, twice, both):
        assert state_of(node, every) == ("ROUTED", 1, ["SUCCEEDED"])
    assert state_of(node, ct) == ("UNMATCHED", 1, [])
    count_fault("odd series", 7)


def test_what_comes_late_makes_another_result_of_the_whole(
    node: Gateway, make: SeriesMaker, scanner: Modality, workstation: Modality, answers: AnswerLog,
    count_fault: CountFault,
) -> None:  # fmt: skip
    early, same_again = make(4), make(3)
    scanner.send([*early[:3], *same_again])
    node.check(answers).require_kept()
    at_once(lambda: workstation.send(early[3:]), lambda: scanner.send(same_again))
    report = node.check(answers)
    report.require_kept()
    assert state_of(node, early) == ("ROUTED", 2, ["SUCCEEDED", "SUCCEEDED"])
    assert state_of(node, same_again) == ("ROUTED", 1, ["SUCCEEDED"])
    count_fault("odd series", 2)


def test_a_series_that_never_becomes_whole_says_so_and_one_whose_sender_died_is_used_as_it_is(
    node: Gateway, make: SeriesMaker, scanner: Modality, answers: AnswerLog, count_fault: CountFault
) -> None:
    holed, cut = make(5), make(4)
    scanner.send([*holed[:2], *holed[3:]])
    association = Association(node.port, "DIES")
    scanner.send_over(association, cut[0])
    scanner.send_over(association, cut[1])
    moments = iter(["after the command", "amid the data set"])

    def die() -> None:
        if next(moments) == "amid the data set":
            association.close()
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        association.store(cut[2], die)
    node.check(answers).require_kept()
    assert state_of(node, holed) == ("ROUTED", 1, ["REFUSED"])
    assert state_of(node, cut) == ("ROUTED", 1, ["SUCCEEDED"])
    count_fault("odd series", 2)


@pytest.fixture(params=["keep-first", "newest", "refuse"])
def policy(request: pytest.FixtureRequest, node: Gateway) -> Iterator[str]:
    """Each of `listener.on_conflict`, for one test."""
    receiver = node.parts["receiver"]
    receiver.kill()
    receiver.start(ATHANOR_LISTENER__ON_CONFLICT=request.param)
    receiver.wait_until_ready()
    yield request.param
    receiver.kill()
    receiver.start()
    receiver.wait_until_ready()


def test_other_bytes_under_a_known_uid_are_never_written_over_what_was_there(
    node: Gateway, make: SeriesMaker, scanner: Modality, workstation: Modality, answers: AnswerLog,
    count_fault: CountFault, policy: str,
) -> None:  # fmt: skip
    every = make(3)
    scanner.send(every)
    node.check(answers).require_kept()
    other = changed(every[1], ImageComments="edited on the workstation")
    with Association(node.port, "WORKSTATION") as association:
        answer = workstation.send_over(association, other)
    assert answer.status == (_DUPLICATE_INSTANCE if policy == "refuse" else 0x0000)
    node.check(answers).require_kept()
    revision = 2 if policy == "newest" else 1
    assert state_of(node, every) == ("ROUTED", revision, ["SUCCEEDED"] * revision)
    kept = (node.settings.spool_dir / "received").glob("*/*/*.dcm")
    assert any(file.read_bytes().endswith(other.data_set) for file in kept)
    count_fault("odd series")


def test_three_senders_of_one_uid_at_the_same_moment_leave_one_row_and_no_byte_is_lost(
    node: Gateway, make: SeriesMaker, answers: AnswerLog, count_fault: CountFault
) -> None:
    rounds = 10
    for number in range(rounds):
        every = make(2)
        other = [changed(sent, ImageComments=f"edited {number}") for sent in every]
        at_once(
            partial(Modality(node.port, "LEFT", answers).send, every),
            partial(Modality(node.port, "RIGHT", answers).send, every),
            partial(Modality(node.port, "EDITOR", answers).send, other),
        )
    node.check(answers).require_kept()
    count_fault("odd series", rounds)
