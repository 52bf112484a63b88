"""Jobs: claimed once, fenced by the attempt, taken back when the lease ends, FAILED in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from gateway.domain.states import JobState
from gateway.store import jobs, outbox, reruns, tables
from gateway.store.database import Database
from gateway.store.jobs import Claim, DerivedFile

MakeJob = Callable[..., str]


def state_of(database: Database) -> str:
    with database.read() as connection:
        return str(connection.execute(sa.select(tables.job.c.state)).scalar_one())


def claim(database: Database, job_id: str, lease_s: float = 30.0, owner: str = "worker") -> Claim | None:
    with database.write() as connection:
        return jobs.claim(connection, job_id, owner, lease_s)


def derived(number: int = 1, profile: str = "p") -> DerivedFile:
    path = f"derived/{profile}{number}.dcm"
    return DerivedFile(profile, f"2.25.1{number}", "c", "2.25.2", 401, "t", number, f"2.25.7000{number}", path, 1, "s")


def test_one_of_many_claimants_gets_the_job(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    claims: list[Claim | None] = []
    start = threading.Barrier(8)

    def try_to_claim() -> None:
        start.wait()
        claims.append(claim(database, job_id))

    threads = [threading.Thread(target=try_to_claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [claimed for claimed in claims if claimed is not None]
    assert len(claims) == 8
    assert len(won) == 1
    assert won[0].attempt == 1
    assert len(won[0].inputs[0].paths) == 3


def test_a_routed_series_is_announced_and_its_claim_ends_the_announcing(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    messages: list[tuple[str, str, int]] = []
    outbox.relay(database, lambda *message: messages.append(message))
    assert messages == [("process", job_id, 0)]
    claim(database, job_id)
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.outbox)).scalar_one() == 0


def test_whoever_lost_the_lease_can_write_nothing(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    first = claim(database, job_id, lease_s=-1.0)
    assert first is not None
    with database.write() as connection:
        assert jobs.take_back(connection) == 1
    second = claim(database, job_id)
    assert second is not None
    assert second.attempt == 2
    with database.write() as connection:
        assert not jobs.renew(connection, first, 0.5)
        assert jobs.succeed(connection, first, [derived()], {"pacs": "p"}, give_up_s=60) is None
        assert not jobs.end(connection, first, JobState.FAILED, "late")
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.derived)).scalar_one() == 0
        assert jobs.succeed(connection, second, [derived()], {"pacs": "p"}, give_up_s=60) is JobState.SUCCEEDED


def test_progress_keeps_the_lease(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    claimed = claim(database, job_id, lease_s=-1.0)
    assert claimed is not None
    with database.write() as connection:
        alive = Claim(**{name: getattr(claimed, name) for name in Claim.__slots__} | {"lease_s": 30.0})
        assert jobs.renew(connection, alive, 0.5)
        assert jobs.take_back(connection) == 0
    assert state_of(database) == JobState.RUNNING


def test_a_poison_job_ends_failed_after_its_attempts_and_says_why(database: Database, make_job: MakeJob) -> None:
    job_id = make_job(max_attempts=2)
    for _ in range(2):
        assert claim(database, job_id, lease_s=-1.0) is not None
        with database.write() as connection:
            assert jobs.take_back(connection) == 1
    assert claim(database, job_id) is None
    with database.read() as connection:
        row = connection.execute(sa.select(tables.job)).one()
    assert row.state == JobState.FAILED
    assert row.error == "attempt 2 of 2: the worker died or made no progress"


def test_a_restarted_worker_takes_back_its_own_jobs_at_once(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    claim(database, job_id, owner="process-0@host")
    with database.write() as connection:
        assert jobs.take_back(connection, owner="process-1@host") == 0
        assert jobs.take_back(connection, owner="process-0@host") == 1
    again = claim(database, job_id)
    assert again is not None
    assert again.attempt == 2


def test_a_result_has_one_delivery_for_each_destination_and_one_row_for_each_instance(
    database: Database, make_job: MakeJob
) -> None:
    job_id = make_job(("pacs", "archive"))
    claimed = claim(database, job_id)
    assert claimed is not None
    files = [derived(1), derived(2), derived(1, "q"), derived(2, "q")]
    with database.write() as connection:
        jobs.succeed(connection, claimed, files, {"pacs": "p", "archive": "q"}, give_up_s=60, weights_sha256="w")
        rows = connection.execute(
            sa.select(tables.delivery.c.destination, sa.func.count())
            .join(tables.delivery_instance)
            .group_by(tables.delivery.c.destination)
        ).all()
        assert dict(rows) == {"pacs": 2, "archive": 2}
        assert connection.execute(sa.select(tables.job.c.weights_sha256)).scalar_one() == "w"


@pytest.mark.parametrize(("taken", "expected"), [((), 401), ((401,), 402), ((401, 402, 404), 403)])
def test_series_number_is_the_first_free_one(
    database: Database, make_job: MakeJob, receive: Callable[..., object], taken: tuple[int, ...], expected: int
) -> None:
    job_id = make_job()
    claimed = claim(database, job_id)
    assert claimed is not None
    with database.write() as connection:
        for number in taken:
            connection.execute(
                sa.insert(tables.series).values(
                    uid=f"2.25.99{number}", study_uid="2.25.5", modality="MR", series_number=number,
                    series_description="", calling_ae_title="", called_ae_title="", address="", state="UNMATCHED",
                    revision=1, instances=1, first_received_at=0.0, last_received_at=0.0,
                )
            )  # fmt: skip
        assert jobs.free_series_number(connection, claimed, 4, pipeline_version="1", weights_sha256="w") == expected


def test_a_refused_job_runs_again_when_asked_and_a_succeeded_one_does_not(
    database: Database, make_job: MakeJob
) -> None:
    job_id = make_job()
    claimed = claim(database, job_id)
    assert claimed is not None
    with database.write() as connection:
        jobs.end(connection, claimed, JobState.REFUSED, "plane: found axial; expected sagittal")
        assert reruns.run_again(connection, job_id)
    again = claim(database, job_id)
    assert again is not None
    with database.write() as connection:
        jobs.succeed(connection, again, [derived()], {}, give_up_s=60)
        assert not reruns.run_again(connection, job_id)
