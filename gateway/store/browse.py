"""Lists for the pages and the REST API, a page at a time: each goes on after a key, never after a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import DeliveryState, JobState
from gateway.store import paging
from gateway.store.paging import Cut, Page
from gateway.store.tables import delivery, event, instance, job, series, study

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """What to search for; empty fields ask for nothing."""

    text: str = ""  # accession number, patient id, UID: from the start; patient name: anywhere
    study_date: str = ""  # YYYYMMDD, or its beginning
    calling_ae_title: str = ""
    state: str = ""  # of any of its series


def studies(connection: Connection, query: StudyQuery, limit: int, cut: Cut) -> Page:
    """Studies by the time of their first instance, latest first, each with a summary of its series."""
    wanted = sa.select(study).where(*_conditions(query))
    found = paging.page(connection, wanted, (study.c.first_received_at, study.c.uid), cut, limit)
    summaries = _summaries(connection, [row["uid"] for row in found.rows])
    return replace(found, rows=[{**row, **summaries.get(row["uid"], _NOTHING)} for row in found.rows])


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
    """One study, without its series."""
    row = connection.execute(sa.select(study).where(study.c.uid == uid)).one_or_none()
    return dict(row._mapping) if row else None


def series_of_study(connection: Connection, uid: str, limit: int, cut: Cut) -> Page:
    """The ids of the series of a study, in the order in which they came."""
    wanted = sa.select(series.c.id, series.c.first_received_at).where(series.c.study_uid == uid)
    return paging.page(connection, wanted, (series.c.first_received_at, series.c.id), cut, limit, falling=False)


def series_of(connection: Connection, series_id: int) -> Row | None:
    """What heads the list of a series' instances; None when there is no such series."""
    row = connection.execute(
        sa.select(
            series.c.id, series.c.uid, series.c.study_uid, series.c.modality, series.c.series_number,
            series.c.series_description, series.c.instances, series.c.first_received_at, series.c.last_received_at,
            series.c.purged_at,
        ).where(series.c.id == series_id)
    ).one_or_none()  # fmt: skip
    return dict(row._mapping) if row else None


def instances(connection: Connection, series_id: int, limit: int, cut: Cut) -> Page:
    """Instances of a series in the order in which they came, each with the seconds since the one before it.

    The first one of a page has no such figure: what came before it is on another page.
    """
    wanted = sa.select(
        instance.c.id, instance.c.sop_instance_uid, instance.c.received_at, instance.c.instance_number,
        instance.c.number_of_frames, instance.c.slice_position_mm, instance.c.revision, instance.c.size_bytes,
        instance.c.transfer_syntax_uid,
    ).where(instance.c.series_id == series_id)  # fmt: skip
    found = paging.page(connection, wanted, (instance.c.received_at, instance.c.id), cut, limit, falling=False)
    times = [row["received_at"] for row in found.rows]
    waits = [None, *(at - before for before, at in pairwise(times))]
    return replace(found, rows=[{**row, "after_s": wait} for row, wait in zip(found.rows, waits, strict=False)])


def longest_gaps(connection: Connection, series_ids: Sequence[int]) -> dict[int, float]:
    """The longest silence between two instances of each series, seconds; none for a series with fewer than two."""
    before = sa.func.lag(instance.c.received_at).over(
        partition_by=instance.c.series_id, order_by=instance.c.received_at
    )
    arrived = (
        sa.select(instance.c.series_id, (instance.c.received_at - before).label("gap_s"))
        .where(instance.c.series_id.in_(series_ids))
        .subquery()
    )
    rows = connection.execute(
        sa.select(arrived.c.series_id, sa.func.max(arrived.c.gap_s).label("gap_s")).group_by(arrived.c.series_id)
    )
    return {row.series_id: row.gap_s for row in rows if row.gap_s is not None}


def newest(connection: Connection) -> tuple[int, int, int]:
    """A mark that differs whenever something happened: of events, of open jobs' progress, of deliveries' attempts."""
    events = connection.execute(sa.select(sa.func.max(event.c.id))).scalar_one() or 0
    progress = connection.execute(
        sa.select(sa.func.sum(job.c.progress)).where(job.c.state.in_([JobState.QUEUED, JobState.RUNNING]))
    ).scalar_one()
    attempts = connection.execute(
        sa.select(sa.func.sum(delivery.c.attempt)).where(
            delivery.c.state.in_([DeliveryState.QUEUED, DeliveryState.SENDING])
        )
    ).scalar_one()
    return int(events), int((progress or 0.0) * 100), int(attempts or 0)
