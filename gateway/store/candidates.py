"""Candidates: series that play a role in a rule of several series, and wait there for the others of their study.

    waits --every role is filled--> used: the newest of each role make one job, the others are passed over
          --wait_limit_s is over--> gave-up: the rules behind that rule are asked; it is used still when the rest comes
          --a late instance-------> its row goes; the next revision is asked anew, and its partners wait again

Every change of a study's candidates, but for the last, is made with its series locked in one order (`lock`): of two
series that are routed at once, the second sees the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from gateway.domain.states import SeriesState, series_sources
from gateway.store import outbox, timeline
from gateway.store.database import Database, now
from gateway.store.new_jobs import JobInput, NewJob, insert_job_of_several, uses
from gateway.store.tables import candidate, job, rule_version, series

USED, PASSED_OVER, GAVE_UP = "used", "passed-over", "gave-up"
# states of a series that the loop guard has let through and that is as it was when it became a candidate
_STANDS = (SeriesState.WAITING, SeriesState.ROUTED, SeriesState.UNMATCHED, SeriesState.COMPLETE)
_SETTLED = (SeriesState.WAITING, SeriesState.ROUTED, SeriesState.UNMATCHED)
_STUDIES_AT_A_TIME = 100


@dataclass(frozen=True, slots=True)
class NewCandidate:
    """The role that a series plays in a rule, and the job to make when every role is filled.

    `roles` are all of the rule's, the one whose series gives the grid first.
    """

    job: NewJob
    role: str
    roles: tuple[str, ...]
    wait_limit_s: float


def lock(connection: Connection, study_uid: str) -> None:
    """Lock the series of a study until the end of the transaction, in the order in which receiving locks them."""
    if connection.dialect.name != "sqlite":  # there, whoever writes is alone
        rows = sa.select(series.c.id).where(series.c.study_uid == study_uid).order_by(series.c.uid)
        connection.execute(rows.with_for_update(key_share=True))


def enter(
    connection: Connection, study_uid: str, series_id: int, revision: int, new: NewCandidate, max_attempts: int
) -> None:
    """Let a series take its role; make the job when it is the last. Needs `lock`; `settle` has to follow."""
    mine = sa.and_(candidate.c.study_uid == study_uid, candidate.c.rule_version_id == new.job.rule_version_id)
    first = sa.select(sa.func.min(candidate.c.give_up_at)).where(mine, candidate.c.end.is_(None))
    values = {
        "rule_version_id": new.job.rule_version_id, "study_uid": study_uid, "series_id": series_id,
        "revision": revision, "role": new.role, "wait_limit_s": new.wait_limit_s,
        "give_up_at": sa.func.coalesce(first.scalar_subquery(), now() + new.wait_limit_s),
    }  # fmt: skip
    # a series that is routed again stands where it stood
    connection.execute(outbox.insert_for(connection, candidate).values(**values).on_conflict_do_nothing())
    chosen = _newest(connection, study_uid, new.job.rule_version_id)
    if not chosen.keys() >= set(new.roles):
        return
    inputs = [JobInput(role, chosen[role].series_id, chosen[role].revision) for role in new.roles]
    job_id, _ = insert_job_of_several(connection, inputs, new.job, max_attempts)
    used = [chosen[role].id for role in new.roles]
    connection.execute(sa.update(candidate).where(candidate.c.id.in_(used)).values(end=USED, job_id=job_id))
    connection.execute(sa.update(candidate).where(mine, candidate.c.end.is_(None)).values(end=PASSED_OVER))


def _newest(connection: Connection, study_uid: str, rule_version_id: int) -> dict[str, Any]:
    """Of the candidates of a study for a rule version the one of each role that was received last.

    Those that gave up count, and those that were used: a series that is acquired again makes another job.
    """
    rows = connection.execute(
        sa.select(candidate.c.id, candidate.c.role, candidate.c.series_id, candidate.c.revision)
        .join(series, series.c.id == candidate.c.series_id)
        .where(
            candidate.c.study_uid == study_uid,
            candidate.c.rule_version_id == rule_version_id,
            series.c.revision == candidate.c.revision,
            series.c.state.in_(_STANDS),
            series.c.purged_at.is_(None),
        )
        .order_by(series.c.last_received_at, series.c.id)
    )
    return {row.role: row for row in rows}


def keep_only(connection: Connection, series_id: int, rule_version_ids: Sequence[int]) -> None:
    """A series was routed: it waits for none but these rules any more."""
    waits = sa.and_(candidate.c.series_id == series_id, candidate.c.end.is_(None))
    connection.execute(sa.delete(candidate).where(waits, candidate.c.rule_version_id.not_in(rule_version_ids)))


def ask_anew(connection: Connection, series_id: int) -> None:
    """An administrator's wish: rules that gave up on a series, or passed it over, may have it again."""
    ended = sa.and_(candidate.c.series_id == series_id, candidate.c.end.in_([GAVE_UP, PASSED_OVER]))
    connection.execute(sa.delete(candidate).where(ended))


def withdraw(connection: Connection, series_id: int, superseded: sa.Select[tuple[str]]) -> None:
    """A series begins another revision: it is no candidate until that is routed, and its partners wait for it.

    `superseded` are the ids of its jobs. The states of the partners follow, see `sweep`: receiving must not lock them.
    """
    connection.execute(sa.delete(candidate).where(candidate.c.series_id == series_id))
    of_study = sa.select(series.c.study_uid).where(series.c.id == series_id).scalar_subquery()
    connection.execute(
        sa.update(candidate)
        .where(candidate.c.study_uid == of_study, candidate.c.job_id.in_(superseded))
        .values(end=None, job_id=None, missing=None, give_up_at=now() + candidate.c.wait_limit_s)
    )


def given_up(connection: Connection, series_id: int, revision: int) -> Mapping[int, str]:
    """The rule versions that waited in vain for the partners of a series, and which roles they lacked."""
    rows = connection.execute(
        sa.select(candidate.c.rule_version_id, candidate.c.missing).where(
            candidate.c.series_id == series_id, candidate.c.revision == revision, candidate.c.end == GAVE_UP
        )
    )
    return {row.rule_version_id: row.missing for row in rows}


def settle(connection: Connection, study_uid: str) -> None:
    """Give each series of a study that is a candidate the state that follows from it, with the reason. Needs `lock`."""
    rows = connection.execute(
        sa.select(candidate, rule_version.c.name, rule_version.c.definition)
        .join(rule_version, rule_version.c.id == candidate.c.rule_version_id)
        .where(candidate.c.study_uid == study_uid)
        .order_by(candidate.c.id)
    ).all()
    of_series: dict[int, list[Row[Any]]] = {}
    for row in rows:
        of_series.setdefault(row.series_id, []).append(row)
    for series_id, every in of_series.items():
        _settle(connection, series_id, every)


def _settle(connection: Connection, series_id: int, every: Sequence[Row[Any]]) -> None:
    now_is = connection.execute(
        sa.select(series.c.state, series.c.revision, series.c.reason).where(
            series.c.id == series_id, series.c.state.in_(_SETTLED)
        )
    ).one_or_none()
    if now_is is None:
        return
    valid = [row for row in every if row.revision == now_is.revision]
    waiting = [_words(connection, row) for row in valid if row.end is None]
    if waiting:
        state, reason = SeriesState.WAITING, "; ".join(waiting)
    elif _has_job(connection, series_id):
        state, reason = SeriesState.ROUTED, None
    else:
        over = [
            f"rule {row.name} took another for {row.role}, received later" for row in valid if row.end == PASSED_OVER
        ]
        state, reason = SeriesState.UNMATCHED, "; ".join(over) or now_is.reason
    if (state, reason) == (now_is.state, now_is.reason):
        return
    may_be = series.c.state.in_(series_sources(state) | {state})
    connection.execute(sa.update(series).where(series.c.id == series_id, may_be).values(state=state, reason=reason))
    timeline.record(connection, series_id, "route", state.lower(), reason=reason)


def _words(connection: Connection, row: Row[Any]) -> str:
    until = datetime.fromtimestamp(row.give_up_at, UTC)
    missing = ", ".join(_missing(connection, row))
    return f"waits for {missing} of the same study until {until:%Y-%m-%d %H:%M:%S UTC} (rule {row.name})"


def _missing(connection: Connection, row: Row[Any]) -> list[str]:
    """The roles of a candidate's rule that no series of its study plays."""
    filled = _newest(connection, row.study_uid, row.rule_version_id)
    return [one["role"] for one in row.definition["inputs"] if one["role"] not in filled]


def _has_job(connection: Connection, series_id: int) -> bool:
    of_series = sa.exists().where(uses([series_id]), job.c.superseded.is_(False))
    return bool(connection.execute(sa.select(of_series)).scalar_one())


def sweep(database: Database) -> int:
    """Give up where the time is over, and let those wait again whose partner began another revision.

    The number of series with which a rule gave up; they go to the rules behind it.
    """
    waits = candidate.c.end.is_(None)
    stale = sa.and_(candidate.c.revision == series.c.revision, series.c.state.in_(_SETTLED[1:]))
    with database.read() as connection:
        studies = connection.execute(
            sa.select(candidate.c.study_uid)
            .join(series, series.c.id == candidate.c.series_id)
            .where(waits, sa.or_(candidate.c.give_up_at <= now(), stale))
            .distinct()
            .limit(_STUDIES_AT_A_TIME)
        ).scalars()
        found = list(studies)
    given = 0
    for study_uid in found:
        with database.write() as connection:
            lock(connection, study_uid)
            given += _give_up(connection, study_uid)
            settle(connection, study_uid)
    return given


def _give_up(connection: Connection, study_uid: str) -> int:
    due = connection.execute(
        sa.select(candidate, rule_version.c.name, rule_version.c.definition)
        .join(rule_version, rule_version.c.id == candidate.c.rule_version_id)
        .where(candidate.c.study_uid == study_uid, candidate.c.end.is_(None), candidate.c.give_up_at <= now())
    ).all()
    for row in due:
        missing = ", ".join(_missing(connection, row))
        connection.execute(sa.update(candidate).where(candidate.c.id == row.id).values(end=GAVE_UP, missing=missing))
        timeline.record(connection, row.series_id, "sweep", "gave up", rule=row.name, role=row.role, missing=missing)
        moved = connection.execute(
            sa.update(series)
            .where(
                series.c.id == row.series_id, series.c.revision == row.revision, series.c.state.in_(_SETTLED)
            )
            .values(state=SeriesState.COMPLETE, reason=None)
        )  # fmt: skip
        if moved.rowcount:
            outbox.add(connection, outbox.ROUTE, f"{row.series_id}:{row.revision}")
    return len(due)
