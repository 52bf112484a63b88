"""What readers say of results, kept with the model that made them; the job may be long forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import JobState
from gateway.domain.verdicts import Verdict
from gateway.store.database import Database, now
from gateway.store.tables import job, reader_feedback

Row = dict[str, Any]

_ROWS_AT_A_TIME = 1000


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a reader says; `slice` counts from 1 as the Compare page does, None for the whole series."""

    verdict: Verdict
    words: str = ""
    slice: int | None = None


def add(connection: Connection, job_id: str, opinion: Opinion, who: str) -> int | None:
    """Keep an opinion; its id, or None when there is no result of such a job."""
    found = connection.execute(
        sa.select(job.c.pipeline_id, job.c.pipeline_version, job.c.weights_sha256).where(
            job.c.id == job_id, job.c.state == JobState.SUCCEEDED
        )
    ).one_or_none()
    if found is None:
        return None
    kept: int = connection.execute(
        sa.insert(reader_feedback)
        .values(
            job_id=job_id, pipeline_id=found.pipeline_id, pipeline_version=found.pipeline_version or "",
            weights_sha256=found.weights_sha256 or "", verdict=opinion.verdict, words=opinion.words,
            slice=opinion.slice, who=who[:64], at=now(),
        )
        .returning(reader_feedback.c.id)
    ).scalar_one()  # fmt: skip
    return kept


def of_job(connection: Connection, job_id: str, limit: int) -> list[Row]:
    """What was said of one result, latest first."""
    rows = connection.execute(
        sa.select(reader_feedback)
        .where(reader_feedback.c.job_id == job_id)
        .order_by(reader_feedback.c.id.desc())
        .limit(limit)
    )
    return [dict(row._mapping) for row in rows]


def totals(connection: Connection) -> list[Row]:
    """How often each verdict was given, for each pipeline and version: ``agree``, ``artefact``, ``misleading``."""
    rows = connection.execute(
        sa.select(
            reader_feedback.c.pipeline_id, reader_feedback.c.pipeline_version, reader_feedback.c.verdict,
            sa.func.count().label("number"),
        )
        .group_by(reader_feedback.c.pipeline_id, reader_feedback.c.pipeline_version, reader_feedback.c.verdict)
    )  # fmt: skip
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        total = found.setdefault(
            (row.pipeline_id, row.pipeline_version),
            {"pipeline_id": row.pipeline_id, "pipeline_version": row.pipeline_version, **dict.fromkeys(Verdict, 0)},
        )
        total[row.verdict] = row.number
    return [found[key] for key in sorted(found)]


def all_of_it(database: Database) -> Iterator[Row]:
    """Every opinion, oldest first, in short transactions."""
    after = 0
    while True:
        with database.read() as connection:
            rows = connection.execute(
                sa.select(reader_feedback)
                .where(reader_feedback.c.id > after)
                .order_by(reader_feedback.c.id)
                .limit(_ROWS_AT_A_TIME)
            ).all()
        if not rows:
            return
        yield from (dict(row._mapping) for row in rows)
        after = rows[-1].id
