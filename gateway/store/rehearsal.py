"""A dry run of rules: what they would have done with the series of the last days. Nothing is changed or sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.dicom.header import Attributes
from gateway.domain.conditions import AssociationFacts
from gateway.domain.rules import Rule, Selection, select
from gateway.domain.states import JobState, SeriesState
from gateway.store.database import now
from gateway.store.tables import job, series

MOST_SERIES = 20_000
_MOST_SHOWN = 100
_A_DAY_S = 86_400.0


@dataclass(slots=True)
class RuleCount:
    """What one rule would have done: series that it matches, and that it would have won."""

    matches: int = 0
    wins: int = 0


@dataclass(slots=True)
class Rehearsal:
    """The outcome of a dry run over `series` series; `changes` lists the first ones that would go another way."""

    days: float
    series: int = 0
    blocked: int = 0
    unmatched: int = 0
    worker_s: float = 0.0  # by what jobs of the same pipelines took
    rules: dict[str, RuleCount] = field(default_factory=dict)
    changed: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)
    conflicts: dict[str, int] = field(default_factory=dict)


def rehearse(connection: Connection, rules: Sequence[Rule], *, before: Sequence[Rule], days: float) -> Rehearsal:
    """Ask `rules` about the headers of the last `days` days, beside what the rules `before` say of them.

    At most MOST_SERIES, the latest; a series without a kept header (it was never routed) is left out.
    """
    found = Rehearsal(days, rules={rule.name: RuleCount() for rule in rules})
    seconds = _seconds_of_pipelines(connection)
    rows = connection.execute(
        sa.select(
            series.c.id, series.c.series_description, series.c.state, series.c.attributes,
            series.c.calling_ae_title, series.c.called_ae_title, series.c.address,
        )
        .where(series.c.last_received_at > now() - days * _A_DAY_S, series.c.attributes.is_not(None))
        .order_by(series.c.last_received_at.desc())
        .limit(MOST_SERIES)
    )  # fmt: skip
    for row in rows:
        if row.attributes is None:  # JSON null
            continue
        found.series += 1
        if row.state == SeriesState.BLOCKED:
            found.blocked += 1
            continue
        _ask(found, row, rules, before, seconds)
    return found


def _ask(found: Rehearsal, row: Any, rules: Sequence[Rule], before: Sequence[Rule], seconds: dict[str, float]) -> None:
    attributes = Attributes.from_json(row.attributes)
    sender = AssociationFacts(row.calling_ae_title, row.called_ae_title, row.address)
    selection = select(rules, attributes.lookup, sender)
    for one in selection.evaluations:
        found.rules[one.rule.name].matches += one.trace.matched
    for winner in selection.winners:
        found.rules[winner.rule.name].wins += 1
        # a rule of several series is counted with each: together they make one job
        found.worker_s += seconds.get(winner.rule.pipeline, 0.0) / max(1, len(winner.rule.inputs))
    found.unmatched += not selection.winners
    for conflict in selection.conflicts:
        found.conflicts[conflict] = found.conflicts.get(conflict, 0) + 1
    then, after = _ways(select(before, attributes.lookup, sender)), _ways(selection)
    if then != after:
        found.changed += 1
        if len(found.changes) < _MOST_SHOWN:
            found.changes.append(
                {
                    "series_id": row.id,
                    "series_description": row.series_description,
                    "before": [name for name, *_ in then],
                    "after": [name for name, *_ in after],
                }
            )


def _ways(selection: Selection) -> list[tuple[str, str, tuple[str, ...]]]:
    """Which way a series goes: rule, pipeline and destinations of each job."""
    return [(won.rule.name, won.rule.pipeline, won.rule.destinations) for won in selection.winners]


def _seconds_of_pipelines(connection: Connection) -> dict[str, float]:
    rows = connection.execute(
        sa.select(job.c.pipeline_id, sa.func.avg(job.c.finished_at - job.c.started_at))
        .where(job.c.state == JobState.SUCCEEDED)
        .group_by(job.c.pipeline_id)
    )
    return {pipeline: float(mean or 0.0) for pipeline, mean in rows}
