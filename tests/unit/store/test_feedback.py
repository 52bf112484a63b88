"""What readers say is kept with the model, counted for each version, and outlives the job; on both databases."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from gateway.domain.states import JobState
from gateway.domain.verdicts import Verdict
from gateway.store import feedback, tables
from gateway.store.database import Database
from gateway.store.feedback import Opinion

MakeJob = Callable[..., str]


def succeed(database: Database, job_id: str, version: str) -> None:
    with database.write() as connection:
        values = {"state": JobState.SUCCEEDED, "pipeline_version": version, "weights_sha256": "ab" * 32}
        connection.execute(sa.update(tables.job).where(tables.job.c.id == job_id).values(values))


def test_opinions_are_kept_and_counted_for_each_version(database: Database, make_job: MakeJob) -> None:
    first, second = make_job(), make_job(series_uid="2.25.8")
    succeed(database, first, "1.0.0")
    succeed(database, second, "1.1.0")
    said = [
        (first, Opinion(Verdict.AGREE)),
        (first, Opinion(Verdict.MISLEADING, "a lesion that is not there;\n<b>ü", 7)),
        (second, Opinion(Verdict.AGREE)),
    ]
    with database.write() as connection:
        ids = [feedback.add(connection, job_id, opinion, "ada") for job_id, opinion in said]
    with database.read() as connection:
        latest, earlier = feedback.of_job(connection, first, 10)
        assert [one["id"] for one in feedback.of_job(connection, first, 1)] == [ids[1]]
        assert feedback.totals(connection) == [
            {"pipeline_id": "t2-to-stir", "pipeline_version": "1.0.0", "agree": 1, "artefact": 0, "misleading": 1},
            {"pipeline_id": "t2-to-stir", "pipeline_version": "1.1.0", "agree": 1, "artefact": 0, "misleading": 0},
        ]
    assert (latest["verdict"], latest["words"], latest["slice"]) == (
        "misleading",
        "a lesion that is not there;\n<b>ü",
        7,
    )
    assert (latest["who"], latest["weights_sha256"]) == ("ada", "ab" * 32)
    assert earlier["slice"] is None
    assert abs(latest["at"] - database.now_s()) < 60
    assert [one["id"] for one in feedback.all_of_it(database)] == ids


def test_there_is_nothing_to_say_of_a_job_without_a_result(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    with database.write() as connection:
        assert feedback.add(connection, job_id, Opinion(Verdict.AGREE), "ada") is None
        assert feedback.add(connection, "no such job", Opinion(Verdict.AGREE), "ada") is None
        assert feedback.totals(connection) == []
