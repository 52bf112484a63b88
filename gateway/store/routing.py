"""Routing: a complete series goes to the rules, and comes back with jobs or with the reason why it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import SeriesState, series_sources
from gateway.store import candidates, outbox, timeline
from gateway.store.candidates import NewCandidate
from gateway.store.jobs import paths_of
from gateway.store.new_jobs import NewJob, insert_job
from gateway.store.tables import derived, series


@dataclass(frozen=True, slots=True)
class SeriesToRoute:
    """A complete series and who sent it."""

    id: int
    uid: str
    study_uid: str
    revision: int
    calling_ae_title: str
    called_ae_title: str
    address: str
    paths: tuple[str, ...]


def series_to_route(connection: Connection, series_id: int, revision: int) -> SeriesToRoute | None:
    """The series, if it is COMPLETE in that revision; its files in the order of InstanceNumber."""
    row = connection.execute(
        sa.select(series).where(
            series.c.id == series_id, series.c.revision == revision, series.c.state == SeriesState.COMPLETE
        )
    ).one_or_none()
    if row is None:
        return None
    return SeriesToRoute(
        row.id, row.uid, row.study_uid, row.revision, row.calling_ae_title, row.called_ae_title, row.address,
        paths_of(connection, series_id),
    )  # fmt: skip


def is_derived(connection: Connection, uid: str) -> bool:
    """Whether a SOP Instance or Series Instance UID is one of our own results: the ledger of the loop guard."""
    return connection.execute(
        sa.select(sa.exists().where(sa.or_(derived.c.sop_instance_uid == uid, derived.c.series_instance_uid == uid)))
    ).scalar_one()


def end_routing(
    connection: Connection,
    to_route: SeriesToRoute,
    state: SeriesState,
    *,
    reason: str | None,
    selection: Any,
    attributes: Any,
    jobs: Sequence[NewJob],
    max_attempts: int,
    roles: Sequence[NewCandidate] = (),
) -> bool:
    """Write what routing decided, with its jobs, in one transaction. False when the series changed meanwhile.

    With `roles` that it takes in rules of several series, `state` is WAITING; it becomes what follows from them.
    """
    if roles:
        candidates.lock(connection, to_route.study_uid)
    moved = connection.execute(
        sa.update(series)
        .where(
            series.c.id == to_route.id,
            series.c.revision == to_route.revision,
            series.c.state.in_(series_sources(state) & {SeriesState.COMPLETE}),
        )
        .values(state=state, reason=reason, selection=selection, attributes=attributes)
    )
    outbox.claimed(connection, outbox.ROUTE, f"{to_route.id}:{to_route.revision}")
    if moved.rowcount == 0:
        return False
    if not roles:
        timeline.record(connection, to_route.id, "route", state.lower(), reason=reason)
    for new in jobs:
        insert_job(connection, to_route.id, to_route.revision, new, max_attempts)
    candidates.keep_only(connection, to_route.id, [one.job.rule_version_id for one in roles])
    for one in roles:
        candidates.enter(connection, to_route.study_uid, to_route.id, to_route.revision, one, max_attempts)
    if roles:
        candidates.settle(connection, to_route.study_uid)
    return True


def route_again(connection: Connection, series_id: int, *, by: str) -> bool:
    """An administrator's wish: a series that was routed goes to the rules of now. False when it cannot.

    What it has jobs for stays: a job is made for each rule version that it has none of yet.
    """
    row = connection.execute(
        sa.update(series)
        .where(
            series.c.id == series_id,
            series.c.state.in_(series_sources(SeriesState.COMPLETE) - {SeriesState.RECEIVING}),
            series.c.purged_at.is_(None),
        )
        .values(state=SeriesState.COMPLETE, reason=None)
        .returning(series.c.revision)
    ).one_or_none()
    if row is None:
        return False
    candidates.ask_anew(connection, series_id)
    timeline.record(connection, series_id, "route", "asked for again", by=by)
    outbox.add(connection, outbox.ROUTE, f"{series_id}:{row.revision}")
    return True
