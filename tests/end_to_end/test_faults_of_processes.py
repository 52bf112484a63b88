"""Processes killed and stopped for real: the series still comes back, once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pydicom
import pytest
import sqlalchemy as sa
from modality import TO_PACS, MakeGateway, WritePhantom, detail_of, made_from, series_uid

from gateway.commands.sandbox import Sandbox, SmallPacs
from gateway.store import heartbeats, reports
from gateway.store.database import Database
from gateway.store.tables import instance


@pytest.fixture(scope="module")
def own_gateway(make_gateway: MakeGateway, pacs: SmallPacs) -> Sandbox:
    """A gateway that these tests may hurt."""
    return make_gateway(
        TO_PACS, destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
        process={"lease_s": 20.0}, deliver={"first_retry_s": 0.5, "longest_retry_s": 1.0},
    )  # fmt: skip


@pytest.fixture
def own_database(own_gateway: Sandbox) -> Database:
    return own_gateway.database()


def pids_of(database: Database, kind: str) -> list[int]:
    """The pids of the running processes of a kind, by their heartbeats."""
    with database.read() as connection:
        found = [beat for beat in heartbeats.all_of(connection) if beat.process.split("-")[0] == kind]
    return [int(beat.detail["pid"]) for beat in found]


def pid_of(database: Database, kind: str) -> int:
    """The pid of the only process of a kind."""
    (found,) = pids_of(database, kind)
    return found


def broker_of(gateway: Sandbox) -> psutil.Process:
    assert gateway.process is not None
    (found,) = [
        child
        for child in psutil.Process(gateway.process.pid).children()
        if "redis" in child.name() or "valkey" in child.name()
    ]
    return found


def wait_for(what: str, condition: object, timeout_s: float = 60.0) -> None:
    """Wait until `condition()` holds; fail with `what`."""
    until = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


def state_of_job(database: Database, uid: str) -> str:
    jobs = detail_of(database, uid)["jobs"] if known(database, uid) else []
    return str(jobs[0]["state"]) if jobs else ""


def progress_of_job(database: Database, uid: str) -> float:
    jobs = detail_of(database, uid)["jobs"] if known(database, uid) else []
    return float(jobs[0]["progress"]) if jobs else 0.0


def known(database: Database, uid: str) -> bool:
    with database.read() as connection:
        return reports.find_series(connection, uid) is not None


def assert_came_back_once(pacs: SmallPacs, sources: list[Path]) -> None:
    wanted = Counter(str(pydicom.dcmread(path).SOPInstanceUID) for path in sources)
    made = made_from(sources, pacs)
    assert Counter(str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID) for ds in made) == wanted


def test_worker_killed_in_the_middle_of_inference(
    own_gateway: Sandbox, own_database: Database, pacs: SmallPacs, phantom: WritePhantom
) -> None:
    sources = phantom(slices=40)
    uid = series_uid(sources)
    victim = pid_of(own_database, "process")
    assert own_gateway.send(sources).is_delivered
    wait_for("inference has begun", lambda: progress_of_job(own_database, uid) > 0.2)
    os.kill(victim, signal.SIGKILL)
    own_gateway.wait_until_finished(own_database, uid, 120)
    (job,) = detail_of(own_database, uid)["jobs"]
    assert (job["state"], job["attempt"]) == ("SUCCEEDED", 2)
    assert_came_back_once(pacs, sources)


def test_broker_killed_between_route_and_process(
    own_gateway: Sandbox, own_database: Database, pacs: SmallPacs, phantom: WritePhantom
) -> None:
    sources = phantom(slices=4)
    uid = series_uid(sources)
    worker = pid_of(own_database, "process")
    os.kill(worker, signal.SIGSTOP)
    try:
        assert own_gateway.send(sources).is_delivered
        wait_for("routed", lambda: state_of_job(own_database, uid) == "QUEUED")
        broker = broker_of(own_gateway)
        broker.kill()
        broker.wait(10)
    finally:
        os.kill(worker, signal.SIGCONT)
    own_gateway.wait_until_finished(own_database, uid, 120)
    assert state_of_job(own_database, uid) == "SUCCEEDED"
    assert_came_back_once(pacs, sources)


def test_broker_loses_everything_it_knew(
    own_gateway: Sandbox, own_database: Database, pacs: SmallPacs, phantom: WritePhantom
) -> None:
    import redis

    sources = phantom(slices=4)
    uid = series_uid(sources)
    worker = pid_of(own_database, "process")
    os.kill(worker, signal.SIGSTOP)
    try:
        assert own_gateway.send(sources).is_delivered
        wait_for("routed", lambda: state_of_job(own_database, uid) == "QUEUED")
        redis.Redis(unix_socket_path=str(own_gateway.settings.broker_socket)).flushall()
    finally:
        os.kill(worker, signal.SIGCONT)
    own_gateway.wait_until_finished(own_database, uid, 120)
    assert_came_back_once(pacs, sources)


def test_transfer_worker_and_clock_killed_while_a_series_is_on_its_way(
    own_gateway: Sandbox, own_database: Database, pacs: SmallPacs, phantom: WritePhantom
) -> None:
    sources = phantom(slices=6)
    uid = series_uid(sources)
    assert own_gateway.send(sources).is_delivered
    os.kill(pid_of(own_database, "clock"), signal.SIGKILL)
    os.kill(pid_of(own_database, "transfer"), signal.SIGKILL)
    own_gateway.wait_until_finished(own_database, uid, 120)
    assert_came_back_once(pacs, sources)


def test_scp_killed_in_the_middle_of_an_association_keeps_what_it_acknowledged(
    own_gateway: Sandbox, own_database: Database, pacs: SmallPacs, phantom: WritePhantom
) -> None:
    sources = phantom(slices=10)
    uid = series_uid(sources)
    acknowledged: list[str] = []

    def kill_after_four(sop_instance_uid: str, status: int, _: str) -> None:
        if status == 0:
            acknowledged.append(sop_instance_uid)
        if len(acknowledged) == 4:
            for receiver in pids_of(own_database, "scp"):
                os.kill(receiver, signal.SIGKILL)

    report = own_gateway.send(sources, on_answer=kill_after_four)
    assert not report.is_delivered
    wait_for("the SCP is back", lambda: own_gateway.send(sources[:1]).is_delivered)

    def known() -> set[str]:
        with own_database.read() as connection:
            return set(connection.execute(sa.select(instance.c.sop_instance_uid)).scalars())

    # their files are durable, and whoever starts next gives them their rows
    wait_for("what was acknowledged has its rows", lambda: set(acknowledged) <= known())
    # the modality sends the study again, as modalities do: the series comes back whole, once
    assert own_gateway.send(sources).is_delivered
    own_gateway.wait_until_finished(own_database, uid, 120)
    last = detail_of(own_database, uid)
    assert last["instances"] == len(sources)
    assert last["jobs"][-1]["state"] == "SUCCEEDED"
    assert_came_back_once(pacs, sources)


def test_the_whole_gateway_killed_and_started_again_finishes_what_it_accepted(
    own_gateway: Sandbox, own_database: Database, pacs: SmallPacs, phantom: WritePhantom
) -> None:
    sources = phantom(slices=30)
    uid = series_uid(sources)
    assert own_gateway.send(sources).is_delivered
    wait_for("a job runs", lambda: state_of_job(own_database, uid) == "RUNNING")
    assert own_gateway.process is not None
    family = [psutil.Process(own_gateway.process.pid), *psutil.Process(own_gateway.process.pid).children()]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself: the supervisor is gone
            process.kill()
    psutil.wait_procs(family, timeout=10)
    own_gateway.start()
    own_gateway.wait_until_finished(own_database, uid, 120)
    assert_came_back_once(pacs, sources)


def test_the_gateway_leaves_nothing_running(own_gateway: Sandbox) -> None:
    assert own_gateway.process is not None
    family = psutil.Process(own_gateway.process.pid).children(recursive=True)
    assert len(family) >= 5
    assert own_gateway.stop() == 0
    gone, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert len(gone) == len(family)
