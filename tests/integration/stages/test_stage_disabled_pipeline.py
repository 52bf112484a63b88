"""A disabled pipeline: the line makes no job, says why, lets what waits wait, and goes on when it is enabled."""

from __future__ import annotations

from threading import Event, Thread

from stage_line import Line, Series, on_sqlite

from gateway.store import jobs, outbox, routing, switches, tables
from gateway.store.database import Database

STIR = "t2-to-stir"


def disable(line: Line, reason: str = "dark canal") -> None:
    with line.database.write() as connection:
        assert switches.disable(connection, STIR, "1.0.0", by="ada", reason=reason)


def enable(line: Line) -> None:
    with line.database.write() as connection:
        assert switches.enable(connection, STIR)


def test_a_disabled_pipeline_makes_no_job_and_an_enabled_one_does_again(line: Line, series: Series) -> None:
    disable(line)
    assert line.send(series()).is_delivered
    line.assemble()
    line.route()
    detail = line.detail()
    assert (detail["state"], detail["jobs"]) == ("UNMATCHED", [])
    assert detail["reason"] == f"rule stir matches, but its pipeline {STIR} is disabled"
    (rule,) = detail["selection"]["rules"]
    assert rule["outcome"] == "pipeline-disabled"
    assert rule["reason"].startswith("disabled by ada at ")
    assert rule["reason"].endswith(": dark canal")

    enable(line)
    with line.database.write() as connection:
        assert routing.route_again(connection, detail["id"], by="ada")
    line.route()
    line.process()
    (job,) = line.detail(detail["id"])["jobs"]
    assert (job["state"], job["waits_for"]) == ("SUCCEEDED", None)
    assert line.send(series()).is_delivered
    line.assemble()
    line.route()
    assert len(line.detail()["jobs"]) == 1


def test_a_job_that_waits_when_its_pipeline_is_disabled_runs_when_it_is_enabled(line: Line, series: Series) -> None:
    assert line.send(series()).is_delivered
    line.assemble()
    line.route()
    (job_id,) = line.announced(outbox.PROCESS)
    disable(line)
    line.process()
    (job,) = line.detail()["jobs"]
    assert (job["state"], job["attempt"]) == ("QUEUED", 0)
    assert job["waits_for"].startswith(f"{STIR} is disabled by ada at ")
    assert line.announced(outbox.PROCESS) == [], "nobody is told again and again of what may not begin"
    enable(line)
    assert line.announced(outbox.PROCESS) == [job_id]
    line.process()
    assert line.detail()["jobs"][0]["state"] == "SUCCEEDED"


def test_a_job_of_a_disabled_pipeline_does_not_stand_before_the_others(line: Line, series: Series) -> None:
    """A worker asks for the most urgent job that may begin; one that may not would be found for ever."""
    for _ in range(2):
        assert line.send(series()).is_delivered
        line.assemble()
        line.route()
    urgent, other = line.announced(outbox.PROCESS)
    with line.database.write() as connection:
        connection.execute(tables.job.update().where(tables.job.c.id == urgent).values(priority=0, pipeline_id="off"))
    with line.database.read() as connection:
        assert jobs.more_urgent(connection, other) == urgent
    with line.database.write() as connection:
        switches.disable(connection, "off", "1.0.0", by="ada", reason="")
    with line.database.read() as connection:
        assert jobs.more_urgent(connection, other) is None


def test_enabling_waits_for_a_worker_that_is_dropping_an_announcement(line: Line, series: Series) -> None:
    """Else the worker would drop, after it was enabled, what enabling has just announced."""
    assert line.send(series()).is_delivered
    line.assemble()
    line.route()
    (job_id,) = line.announced(outbox.PROCESS)
    disable(line)
    enabled = Event()

    def enable_beside() -> None:
        beside = Database(line.database.url.render_as_string(hide_password=False))
        with beside.write() as connection:
            assert switches.enable(connection, STIR)
        beside.close()
        enabled.set()

    thread = Thread(target=enable_beside)
    with line.database.write() as connection:
        assert jobs.claim(connection, job_id, "process-0", 30.0) is None
        thread.start()
        assert not enabled.wait(0.3)
    thread.join(20)
    assert enabled.is_set()
    assert line.announced(outbox.PROCESS) == [job_id]


@on_sqlite
def test_a_running_job_is_finished(line: Line, series: Series) -> None:
    assert line.send(series()).is_delivered
    line.assemble()
    line.route()

    def load(spec):  # type: ignore[no-untyped-def] # as the line's own
        disable(line)
        return line.load(spec)

    line.process(load)
    assert line.detail()["jobs"][0]["state"] == "SUCCEEDED"
