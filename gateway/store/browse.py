"""Lists for the pages and the REST API, a page at a time: each goes on after a key, never after a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.store.tables import delivery, event, job, rule_version, series, study

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """What to search for; empty fields ask for nothing."""

    text: str = ""  # accession number, patient id, UID: from the start; patient name: anywhere
    study_date: str = ""  # YYYYMMDD, or its beginning
    calling_ae_title: str = ""
    state: str = ""  # of any of its series


def studies(connection: Connection, query: StudyQuery, limit: int, after: tuple[float, str] | None = None) -> list[Row]:
    """Studies by the time of their first instance, latest first, each with a summary of its series.

    `after` is (first_received_at, uid) of the last row of the page before.
    """
    wanted = sa.select(study).order_by(study.c.first_received_at.desc(), study.c.uid.desc()).limit(limit)
    for condition in _conditions(query):
        wanted = wanted.where(condition)
    if after is not None:
        at, uid = after
        wanted = wanted.where(
            sa.or_(study.c.first_received_at < at, sa.and_(study.c.first_received_at == at, study.c.uid < uid))
        )
    rows = [dict(row._mapping) for row in connection.execute(wanted)]
    summaries = _summaries(connection, [row["uid"] for row in rows])
    return [{**row, **summaries.get(row["uid"], _NOTHING)} for row in rows]


_NOTHING: Row = {"series": 0, "instances": 0, "modalities": [], "states": {}, "senders": [], "last_received_at": None}


def _conditions(query: StudyQuery) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if text := query.text.strip():
        found.append(
            sa.or_(
                study.c.accession_number.startswith(text, autoescape=True),
                study.c.patient_id.startswith(text, autoescape=True),
                study.c.uid.startswith(text, autoescape=True),
                study.c.patient_name.icontains(text, autoescape=True),
                study.c.uid.in_(sa.select(series.c.study_uid).where(series.c.uid == text)),
            )
        )
    if query.study_date:
        found.append(study.c.study_date.startswith(query.study_date.replace("-", ""), autoescape=True))
    of_series = []
    if query.calling_ae_title:
        of_series.append(series.c.calling_ae_title == query.calling_ae_title)
    if query.state:
        of_series.append(series.c.state == query.state)
    if of_series:
        found.append(sa.exists().where(series.c.study_uid == study.c.uid, *of_series))
    return found


def _summaries(connection: Connection, uids: Sequence[str]) -> dict[str, Row]:
    rows = connection.execute(
        sa.select(
            series.c.study_uid, series.c.modality, series.c.state, series.c.calling_ae_title,
            sa.func.count().label("series"), sa.func.sum(series.c.instances).label("instances"),
            sa.func.max(series.c.last_received_at).label("last_received_at"),
        )
        .where(series.c.study_uid.in_(uids))
        .group_by(series.c.study_uid, series.c.modality, series.c.state, series.c.calling_ae_title)
    )  # fmt: skip
    found: dict[str, Row] = {}
    for row in rows:
        one = found.setdefault(
            row.study_uid,
            {"series": 0, "instances": 0, "modalities": [], "states": {}, "senders": [], "last_received_at": 0.0},
        )
        one["series"] += row.series
        one["instances"] += int(row.instances)
        one["modalities"] = sorted({*one["modalities"], row.modality})
        one["senders"] = sorted({*one["senders"], row.calling_ae_title})
        one["states"][row.state] = one["states"].get(row.state, 0) + row.series
        one["last_received_at"] = max(one["last_received_at"], row.last_received_at)
    return found


def study_of(connection: Connection, uid: str) -> Row | None:
    """One study with the ids of its series, in the order in which they came."""
    row = connection.execute(sa.select(study).where(study.c.uid == uid)).one_or_none()
    if row is None:
        return None
    ids = connection.execute(
        sa.select(series.c.id).where(series.c.study_uid == uid).order_by(series.c.first_received_at, series.c.id)
    ).scalars()
    return {**row._mapping, "series_ids": list(ids)}


def jobs(connection: Connection, state: str, limit: int, after: tuple[float, str] | None = None) -> list[Row]:
    """Jobs, latest first; `after` is (created_at, id) of the last one of the page before."""
    query = (
        sa.select(
            job.c.id, job.c.series_id, job.c.pipeline_id, job.c.state, job.c.attempt, job.c.max_attempts,
            job.c.progress, job.c.error, job.c.superseded, job.c.created_at, job.c.finished_at,
            series.c.series_description, series.c.study_uid,
            rule_version.c.name.label("rule"), rule_version.c.version.label("rule_version"),
        )
        .join(series, series.c.id == job.c.series_id)
        .join(rule_version, rule_version.c.id == job.c.rule_version_id)
        .order_by(job.c.created_at.desc(), job.c.id.desc())
        .limit(limit)
    )  # fmt: skip
    if state:
        query = query.where(job.c.state == state)
    if after is not None:
        at, key = after
        query = query.where(sa.or_(job.c.created_at < at, sa.and_(job.c.created_at == at, job.c.id < key)))
    return [dict(row._mapping) for row in connection.execute(query)]


def newest(connection: Connection) -> tuple[int, int, int]:
    """A mark that differs whenever something happened: of events, of open jobs' progress, of deliveries' attempts."""
    events = connection.execute(sa.select(sa.func.max(event.c.id))).scalar_one() or 0
    progress = connection.execute(
        sa.select(sa.func.sum(job.c.progress)).where(job.c.state.in_(["QUEUED", "RUNNING"]))
    ).scalar_one()
    attempts = connection.execute(
        sa.select(sa.func.sum(delivery.c.attempt)).where(delivery.c.state.in_(["QUEUED", "SENDING"]))
    ).scalar_one()
    return int(events), int((progress or 0.0) * 100), int(attempts or 0)
