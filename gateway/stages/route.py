"""Route: guard a complete series against our own results, ask the rules, and make the jobs of those that win."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import logs, metrics
from gateway.dicom.header import Attributes, read_attributes
from gateway.dicom.loop_guard import OwnIdentity, find_marks
from gateway.domain.conditions import AssociationFacts
from gateway.domain.rules import HIGHEST_PRIORITY, Evaluation, Outcome, Selection, select
from gateway.domain.states import SeriesState
from gateway.errors import Unavailable
from gateway.killpoints import reached
from gateway.store import candidates, outbox, routing, rulebook, switches
from gateway.store.candidates import NewCandidate
from gateway.store.database import Database
from gateway.store.new_jobs import NewJob
from gateway.store.routing import SeriesToRoute
from gateway.store.rulebook import Version
from gateway.store.spool import Spool
from pipelines.spec import read_manifest

log = logs.get("route")


@dataclass(frozen=True, slots=True)
class Route:
    """Routes complete series. `own` is how the loop guard recognises this node, `models_dir` has the pipelines."""

    database: Database
    spool: Spool
    own: OwnIdentity
    models_dir: Path
    max_attempts: int

    def __call__(self, subject: str) -> None:
        """Route the series and revision of `subject` (``id:revision``); nothing when that was done or overtaken."""
        series_id, _, revision = subject.partition(":")
        with self.database.write() as connection:
            to_route = routing.series_to_route(connection, int(series_id), int(revision))
            if to_route is None:
                outbox.claimed(connection, outbox.ROUTE, subject)
        if to_route is None:
            return
        with logs.bind(series=to_route.id), metrics.timed("route"):
            try:
                self._route(to_route)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - the edge of a series: it is kept and shown
                log.error("routing failed", **logs.failure(error))
                self._end(to_route, SeriesState.FAILED, reason=logs.words_of(error))

    def _route(self, to_route: SeriesToRoute) -> None:
        headers = [read_attributes(self.spool.path(path)) for path in to_route.paths]
        attributes = headers[0]
        reason = self._marks(to_route, headers)
        if reason is not None:
            self._end(to_route, SeriesState.BLOCKED, reason=reason, attributes=attributes)
            return
        with self.database.read() as connection:
            versions = rulebook.active(connection)
            disabled = {name: switch.words for name, switch in switches.disabled(connection).items()}
            missing = candidates.given_up(connection, to_route.id, to_route.revision)
        sender = AssociationFacts(to_route.calling_ae_title, to_route.called_ae_title, to_route.address)
        given_up = {version.rule.name: missing[version.id] for version in versions if version.id in missing}
        selection = select([version.rule for version in versions], attributes.lookup, sender, disabled, given_up)
        by_name = {version.rule.name: version for version in versions}
        alone = [won for won in selection.winners if len(won.rule.inputs) < 2]
        new = [_job_of(by_name[won.rule.name]) for won in alone]
        roles = [self._role_of(by_name[won.rule.name], won) for won in selection.winners if won not in alone]
        reached("route.decided")
        state = SeriesState.WAITING if roles else SeriesState.ROUTED if new else SeriesState.UNMATCHED
        reason = None if roles or new else _why_none(selection)
        self._end(to_route, state, reason=reason, attributes=attributes, selection=selection, new=new, roles=roles)

    def _role_of(self, version: Version, won: Evaluation) -> NewCandidate:
        """What the series is in a rule of several; that which gives the grid comes first among its roles."""
        grid = read_manifest(self.models_dir / won.rule.pipeline).grid_role
        roles = sorted((one.role for one in won.rule.inputs), key=lambda role: role != grid)
        assert won.rule.wait_limit_s is not None, "a rule of several series has one"
        return NewCandidate(_job_of(version), won.role, tuple(roles), won.rule.wait_limit_s)

    def _marks(self, to_route: SeriesToRoute, headers: Sequence[Attributes]) -> str | None:
        """Why the series must not be processed; one marked instance blocks the whole series."""
        with self.database.read() as connection:
            for header in headers:
                reason = find_marks(header, self.own, lambda uid: routing.is_derived(connection, uid))
                if reason is not None:
                    return reason
        return None

    def _end(
        self,
        to_route: SeriesToRoute,
        state: SeriesState,
        *,
        reason: str | None = None,
        attributes: Attributes | None = None,
        selection: Selection | None = None,
        new: Sequence[NewJob] = (),
        roles: Sequence[NewCandidate] = (),
    ) -> None:
        table: Any = selection.to_table() if selection else None
        with self.database.write() as connection:
            routing.end_routing(
                connection,
                to_route,
                state,
                reason=reason,
                selection=table,
                attributes=attributes.to_json() if attributes else None,
                jobs=new,
                max_attempts=self.max_attempts,
                roles=roles,
            )
            reached("route.written")
        reached("route.committed")
        log.info("routed", state=state.value, reason=reason, jobs=len(new), roles=[one.role for one in roles])


def _job_of(version: Version) -> NewJob:
    rule = version.rule
    return NewJob(
        rule_version_id=version.id,
        pipeline_id=rule.pipeline,
        options=rule.options,
        destinations=rule.destinations,
        # the outbox and Redis begin with the lowest number
        priority=HIGHEST_PRIORITY - rule.priority,
    )


def _why_none(selection: Selection) -> str:
    """Why no rule made a job."""
    for one in selection.evaluations:
        if one.outcome is Outcome.PIPELINE_DISABLED:
            return f"rule {one.rule.name} matches, but its pipeline {one.rule.pipeline} is disabled"
        if one.outcome is Outcome.GAVE_UP:
            return (
                f"rule {one.rule.name} waited in vain for {one.reason} of the same study, and no rule behind it matches"
            )
    return f"none of {len(selection.evaluations)} rules matches"
