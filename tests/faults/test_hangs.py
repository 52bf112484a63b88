"""Work that hangs, workers that die of it each time, and processes that stand still: each is ended, and noticed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fault_fixtures import CountFault, MakeGateway
from load import AnswerLog, Modality, SeriesMaker
from parts import Gateway
from pydicom.dataset import Dataset

from gateway.commands.sandbox import Sandbox, free_port
from gateway.services.watchdog import EXIT_CODE
from gateway.store import heartbeats
from gateway.store.database import Database
from gateway.store.tables import instance, job


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """What `condition()` says when it is something; fail with `what`."""
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return found


def job_in(database: Database, state: str, attempt: int) -> Any:
    """The latest job, when it is in that state of that attempt."""
    with database.read() as connection:
        row = connection.execute(sa.select(job).order_by(job.c.created_at.desc()).limit(1)).one_or_none()
    return row if row is not None and (row.state, row.attempt) == (state, attempt) else None


@pytest.fixture(scope="module")
def gateway(make_gateway: MakeGateway) -> Gateway:
    """One whose jobs have two attempts, and must show progress every second."""
    return make_gateway("sqlite", process={"device": "cpu", "threads": 1, "lease_s": 1.0, "max_attempts": 2})


@pytest.fixture
def trap(gateway: Gateway, template: Dataset, answers: AnswerLog, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file of a series whose job waits: opened, it hangs for ever, for it is a pipe that nobody writes to."""
    worker = gateway.parts["process"]
    worker.kill()
    sent = SeriesMaker(template, request.node.name)(3)
    Modality(gateway.port, "SCANNER", answers).send(sent)
    database = gateway.database()
    wait_for("the job is queued", lambda: job_in(database, "QUEUED", 0))
    with database.read() as connection:
        path = connection.execute(
            sa.select(instance.c.path).where(instance.c.sop_instance_uid == sent[0].sop_instance_uid)
        ).scalar_one()
    database.close()
    file = gateway.settings.spool_dir / path
    aside = file.with_suffix(".aside")
    file.rename(aside)
    os.mkfifo(file)
    worker.start()
    yield file
    if aside.exists():
        aside.replace(file)


def free(trap: Path) -> None:
    """Put the file back."""
    trap.with_suffix(".aside").replace(trap)


def test_a_job_that_hangs_ends_its_worker_and_is_done_by_the_next(
    gateway: Gateway, trap: Path, answers: AnswerLog, count_fault: CountFault
) -> None:
    worker, database = gateway.parts["process"], gateway.database()
    wait_for("the job runs", lambda: job_in(database, "RUNNING", 1))
    assert worker.process is not None
    assert worker.process.wait(40) == EXIT_CODE
    assert "no progress, and the lease is lost" in worker.log_file.read_text()
    count_fault("hang")
    free(trap)
    worker.start()
    worker.wait_until_ready()
    database.close()
    report = gateway.check(answers)
    report.require_kept()
    assert report.jobs == {"SUCCEEDED": 1}


def test_a_job_of_which_every_worker_dies_ends_failed_and_keeps_nobody_else(
    gateway: Gateway, trap: Path, template: Dataset, answers: AnswerLog, count_fault: CountFault
) -> None:
    worker, database = gateway.parts["process"], gateway.database()
    for attempt in (1, 2):
        wait_for(f"attempt {attempt} runs", lambda attempt=attempt: job_in(database, "RUNNING", attempt))
        assert worker.process is not None
        os.kill(worker.process.pid, signal.SIGSEGV)  # as a library does that is fed what it does not expect
        assert worker.process.wait(30) == -signal.SIGSEGV
        count_fault("kill")
        worker.start()
    failed = wait_for("the job has failed", lambda: job_in(database, "FAILED", 2))
    assert failed.error == "attempt 2 of 2: the worker died or made no progress"
    free(trap)
    Modality(gateway.port, "SCANNER", answers).send(SeriesMaker(template, 99)(2))
    report = gateway.check(answers)
    report.require_kept()
    assert report.jobs["FAILED"] == 1
    assert report.jobs["SUCCEEDED"] >= 1
    database.close()


def test_a_process_that_stands_still_is_killed_and_started_again(tmp_path: Path, count_fault: CountFault) -> None:
    overrides = {
        "node": {"state_dir": "state", "watchdog_s": 5.0},
        "process": {"device": "cpu", "threads": 1},
        "destinations": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}},
    }
    sandbox = Sandbox(tmp_path, overrides)
    with sandbox:
        database = sandbox.database()

        def clock() -> int | None:
            with database.read() as connection:
                for beat in heartbeats.all_of(connection):
                    if beat.process.startswith("clock") and beat.detail["leads"] and beat.age_s < 2.0:
                        return int(beat.detail["pid"])
            return None

        first = wait_for("the clock leads", clock)
        os.kill(first, signal.SIGSTOP)
        count_fault("hang")
        wait_for("another clock leads", lambda: clock() not in {None, first}, 40)
        database.close()
    assert '"no sign of life"' in sandbox.log_file.read_text()
