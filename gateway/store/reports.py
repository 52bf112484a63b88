"""What people ask the database: lists and details for the command line and the pages. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import DELIVERY_ENDED, JOB_ENDED, SERIES_ENDED, DeliveryState, JobState, SeriesState
from gateway.store import destinations, switches
from gateway.store.database import now
from gateway.store.new_jobs import inputs_of, uses
from gateway.store.tables import (
    delivery,
    delivery_instance,
    derived,
    job,
    quarantine,
    rule_version,
    series,
    study,
)

Row = dict[str, Any]

_A_DAY_S = 86_400.0
# named one by one: what ended well, which is almost everything, is not read
_NOT_DELIVERED = [state for state in DeliveryState if state not in {DeliveryState.DELIVERED, DeliveryState.CANCELLED}]
_SHOWN_OF_SERIES = [column for column in series.c if column.name != "attributes"]


def counts(connection: Connection) -> Row:
    """How many series, jobs and deliveries are in each state, what waits longest, and what was refused lately."""

    def by_state(table: sa.Table) -> dict[str, int]:
        return dict(connection.execute(sa.select(table.c.state, sa.func.count()).group_by(table.c.state)).all())

    oldest = connection.execute(
        sa.select(now() - sa.func.min(job.c.created_at)).where(job.c.state.in_([JobState.QUEUED, JobState.RUNNING]))
    ).scalar_one()
    held = connection.execute(sa.select(sa.func.sum(series.c.instances)).where(series.c.purged_at.is_(None)))
    return {
        "series": by_state(series),
        "jobs": by_state(job),
        "deliveries": by_state(delivery),
        # to count the instances themselves takes the longer the more there are
        "instances": int(held.scalar_one() or 0),
        "oldest_job_s": oldest,
        "quarantined": connection.execute(sa.select(sa.func.count()).select_from(quarantine)).scalar_one(),
    }


def failed_lately(connection: Connection) -> dict[str, int]:
    """How many series could not be routed, and how many jobs failed, within a day; superseded jobs are no news."""
    of_series = sa.select(sa.func.count()).where(
        series.c.state == SeriesState.FAILED, series.c.last_received_at > now() - _A_DAY_S
    )
    of_jobs = sa.select(sa.func.count()).where(
        job.c.state == JobState.FAILED, job.c.finished_at > now() - _A_DAY_S, ~job.c.superseded
    )
    return {
        "series": connection.execute(of_series).scalar_one(),
        "jobs": connection.execute(of_jobs).scalar_one(),
    }


def latest_quarantine(connection: Connection, limit: int) -> list[Row]:
    """The latest instances that were refused or kept beside, newest first."""
    rows = connection.execute(sa.select(quarantine).order_by(quarantine.c.id.desc()).limit(limit))
    return [dict(row._mapping) for row in rows]


def waiting_deliveries(connection: Connection) -> list[Row]:
    """Deliveries that are not delivered, by destination, with their latest error."""
    rows = connection.execute(
        sa.select(
            delivery.c.destination,
            delivery.c.state,
            sa.func.count().label("deliveries"),
            sa.func.max(delivery.c.error).label("error"),
            sa.func.min(delivery.c.created_at).label("oldest_at"),
        )
        .where(delivery.c.state.in_(_NOT_DELIVERED))
        .group_by(delivery.c.destination, delivery.c.state)
        .order_by(delivery.c.destination)
    )
    return [dict(row._mapping) for row in rows]


def series_list(connection: Connection, limit: int, state: str | None = None) -> list[Row]:
    """The latest series with what became of them, newest first."""
    query = sa.select(
        series.c.id, series.c.uid, series.c.study_uid, series.c.state, series.c.revision, series.c.instances,
        series.c.modality, series.c.series_number, series.c.series_description, series.c.calling_ae_title,
        series.c.last_received_at, series.c.waiting_for, series.c.evidence, series.c.reason,
    )  # fmt: skip
    if state:
        query = query.where(series.c.state == state)
    rows = connection.execute(query.order_by(series.c.last_received_at.desc()).limit(limit))
    return [dict(row._mapping) for row in rows]


def job_list(connection: Connection, limit: int, state: str | None = None) -> list[Row]:
    """The latest jobs with their series, newest first."""
    query = (
        sa.select(
            job.c.id, job.c.series_id, series.c.uid.label("series_uid"), series.c.series_description, job.c.revision,
            rule_version.c.name.label("rule"), rule_version.c.version.label("rule_version"), job.c.pipeline_id,
            job.c.pipeline_version, job.c.state, job.c.superseded, job.c.attempt, job.c.max_attempts, job.c.progress,
            job.c.error, job.c.created_at, job.c.started_at, job.c.finished_at,
        )
        .join(series, series.c.id == job.c.series_id)
        .join(rule_version, rule_version.c.id == job.c.rule_version_id)
    )  # fmt: skip
    if state:
        query = query.where(job.c.state == state)
    rows = connection.execute(query.order_by(job.c.created_at.desc()).limit(limit))
    return [dict(row._mapping) for row in rows]


def find_series(connection: Connection, text: str) -> int | None:
    """The id of the series that `text` names: a series id, a Series Instance UID, or (the start of) a job id."""
    if text.isdecimal():
        known = connection.execute(sa.select(series.c.id).where(series.c.id == int(text))).scalar_one_or_none()
        if known is not None:
            return int(known)
    found = connection.execute(sa.select(series.c.id).where(series.c.uid == text)).scalar_one_or_none()
    if found is not None:
        return int(found)
    starting = (
        connection.execute(sa.select(job.c.series_id).where(job.c.id.startswith(text, autoescape=True)).limit(2))
        .scalars()
        .all()
    )
    return starting[0] if len(starting) == 1 else None


def series_detail(connection: Connection, series_id: int) -> Row:
    """One series with its rules tried, jobs, derived series and deliveries."""
    (detail,) = series_details(connection, [series_id])
    return detail


def series_details(connection: Connection, series_ids: Sequence[int]) -> list[Row]:
    """The same of several series, in the order of `series_ids`, by as many statements as for one.

    A job of several series stands with each of them; `inputs` of it names all.
    """
    rows = connection.execute(
        sa.select(*_SHOWN_OF_SERIES, study.c.accession_number, study.c.study_date)
        .join(study, study.c.uid == series.c.study_uid)
        .where(series.c.id.in_(series_ids))
    )
    found: dict[int, Row] = {row.id: {**row._mapping, "jobs": []} for row in rows}
    jobs = connection.execute(
        sa.select(
            job, rule_version.c.name.label("rule"), rule_version.c.version.label("rule_version"),
            rule_version.c.author.label("rule_author"),
        )
        .join(rule_version, rule_version.c.id == job.c.rule_version_id)
        .where(uses(series_ids))
        .order_by(job.c.created_at)
    ).all()  # fmt: skip
    job_ids = [row.id for row in jobs]
    inputs = inputs_of(connection, job_ids)
    deliveries, made = _deliveries(connection, job_ids), _derived(connection, job_ids)
    disabled = switches.disabled(connection)
    for row in jobs:
        several = inputs.get(row.id, [])
        for series_id in {row.series_id, *(one.series_id for one in several)} & found.keys():
            found[series_id]["jobs"].append(
                {
                    **row._mapping,
                    "inputs": [asdict(one) for one in several],
                    "waits_for": _waits_for(row, disabled),
                    "deliveries": deliveries.get(row.id, []),
                    "derived": made.get(row.id, []),
                }
            )
    return [found[series_id] for series_id in series_ids]


def _waits_for(job_row: sa.Row[Any], disabled: Mapping[str, switches.Switch]) -> str | None:
    """Why a queued job does not begin; None when only a free worker is missing."""
    switch = disabled.get(job_row.pipeline_id) if job_row.state == JobState.QUEUED else None
    return f"{switch.pipeline_id} is {switch.words}" if switch else None


def _deliveries(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The deliveries of each job, by destination."""
    accepted = sa.func.count(delivery_instance.c.accepted_at)
    rows = connection.execute(
        sa.select(delivery, accepted.label("accepted"), sa.func.count().label("instances"))
        .join(delivery_instance, delivery_instance.c.delivery_id == delivery.c.id)
        .where(delivery.c.job_id.in_(job_ids))
        .group_by(delivery.c.id)
        .order_by(delivery.c.destination)
    ).all()
    waiting_for = destinations.waiting_for(connection)
    notes = _notes(connection, [row.id for row in rows])
    found: dict[str, list[Row]] = {}
    for row in rows:
        waits_for = waiting_for.get(row.destination) if row.state == DeliveryState.QUEUED else None
        found.setdefault(row.job_id, []).append(
            {**row._mapping, "waits_for": waits_for, "notes": notes.get(row.id, [])}
        )
    return found


def _notes(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, list[str]]:
    """What a destination had to say about instances that it took, other than Success; by delivery."""
    rows = connection.execute(
        sa.select(delivery_instance.c.delivery_id, delivery_instance.c.comment)
        .where(
            delivery_instance.c.delivery_id.in_(delivery_ids),
            delivery_instance.c.accepted_at.is_not(None),
            delivery_instance.c.status != 0,
        )
        .distinct()
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.delivery_id, []).append(row.comment)
    return found


def _derived(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The series that each job made."""
    of_job = derived.c.job_id, derived.c.profile, derived.c.series_instance_uid, derived.c.series_number
    rows = connection.execute(
        sa.select(*of_job, sa.func.count().label("instances"), sa.func.sum(derived.c.size_bytes).label("size_bytes"))
        .where(derived.c.job_id.in_(job_ids))
        .group_by(*of_job)
    )
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.job_id, []).append({key: row._mapping[key] for key in row._fields if key != "job_id"})
    return found


def is_finished(connection: Connection, series_id: int, revision: int = 1) -> bool:
    """Whether a series reached its visible end in `revision` or a later one: nothing of it is open."""
    row = connection.execute(sa.select(series.c.state, series.c.revision).where(series.c.id == series_id)).one()
    if row.state not in SERIES_ENDED or row.revision < revision:
        return False
    jobs_open = sa.exists().where(uses([series_id]), job.c.state.not_in(JOB_ENDED))
    deliveries_open = sa.exists().where(
        delivery.c.job_id == job.c.id,
        uses([series_id]),
        delivery.c.state.not_in(DELIVERY_ENDED),
    )
    return not connection.execute(sa.select(sa.or_(jobs_open, deliveries_open))).scalar_one()


def series_header(connection: Connection, series_id: int) -> Row | None:
    """The kept header of a series and who sent it; None when there is no such series, or it was never routed."""
    row = connection.execute(
        sa.select(series.c.attributes, series.c.calling_ae_title, series.c.called_ae_title, series.c.address).where(
            series.c.id == series_id
        )
    ).one_or_none()
    return dict(row._mapping) if row and row.attributes is not None else None
