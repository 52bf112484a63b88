"""Jobs that a person asks for: each has a version of a rule of its own, for one series and never in force.

So a job by hand refers to what was asked for, by whom and when in the same way as any other.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.rule_tables import digest, rule_from_table, rule_to_table
from gateway.domain.rules import HIGHEST_PRIORITY, Rule
from gateway.domain.states import SeriesState
from gateway.errors import ConfigurationError
from gateway.store import outbox, switches
from gateway.store.database import now
from gateway.store.new_jobs import NewJob, insert_job
from gateway.store.tables import job, rule_version, series

NAME = "by hand"  # no other rule is called so: their names have no space


def rule_for(series_uid: str, pipeline: str, destinations: list[str]) -> Rule:
    """What is asked for, as a rule that only this series meets. Raises ConfigurationError."""
    return rule_from_table(
        {
            "name": "by-hand",
            "pipeline": pipeline,
            "destinations": destinations,
            "priority": "high",  # somebody waits for it
            "when": {"attribute": "SeriesInstanceUID", "equals": series_uid},
        },
        NAME,
    )


def make_job(connection: Connection, series_id: int, rule: Rule, *, by: str, max_attempts: int) -> str:
    """Queue the job that `rule` asks for; its id.

    Raises ConfigurationError with the reason why the series may have none: the loop guard has not let it through, its
    files are gone, or a job makes the same for one of the destinations already.
    """
    row = connection.execute(sa.select(series).where(series.c.id == series_id).with_for_update()).one()
    _require_routed(row)
    switch = switches.disabled(connection).get(rule.pipeline)
    if switch is not None:
        raise ConfigurationError(f"pipeline {rule.pipeline}: found it {switch.words}; enable it first")
    _require_new(connection, row, rule)
    asked = NewJob(
        rule_version_id=_insert_version(connection, rule, by),
        pipeline_id=rule.pipeline,
        options=rule.options,
        destinations=rule.destinations,
        priority=HIGHEST_PRIORITY - rule.priority,
    )
    made = insert_job(
        connection, series_id, row.revision, asked, max_attempts, by=by, destinations=list(rule.destinations)
    )
    assert made is not None, "a version of its own has no other job"
    return made


def _require_routed(row: sa.Row[tuple[object, ...]]) -> None:
    """Only a series that went through the loop guard, and whose files are here, may have a job."""
    if row.state not in {SeriesState.ROUTED, SeriesState.UNMATCHED, SeriesState.WAITING}:
        advice = {
            SeriesState.BLOCKED: "what was synthesised is never a source",
            SeriesState.FAILED: "ask the rules again first",
        }.get(SeriesState(row.state), "wait until it is complete")
        raise ConfigurationError(
            f"series {row.id}: found it {row.state}; expected ROUTED, UNMATCHED or WAITING; {advice}"
        )
    if row.purged_at is not None:
        raise ConfigurationError(f"series {row.id}: found its files given up by retention; send it again")


def _require_new(connection: Connection, row: sa.Row[tuple[object, ...]], rule: Rule) -> None:
    """A second job with the same pipeline would make the same for a destination that gets it already."""
    there = connection.execute(
        sa.select(job.c.id, job.c.state, job.c.destinations).where(
            job.c.series_id == row.id,
            job.c.revision == row.revision,
            job.c.pipeline_id == rule.pipeline,
            job.c.superseded.is_(False),
        )
    )
    for one in there:
        if common := [name for name in rule.destinations if name in one.destinations]:
            raise ConfigurationError(
                f"series {row.id}: found job {one.id[:8]} of {rule.pipeline} for {', '.join(common)} already, "
                f"{one.state}; retry or resend that"
            )


def _insert_version(connection: Connection, rule: Rule, by: str) -> int:
    while True:
        latest = connection.execute(
            sa.select(sa.func.max(rule_version.c.version)).where(rule_version.c.name == NAME)
        ).scalar_one()
        made = connection.execute(
            outbox.insert_for(connection, rule_version)
            .values(
                name=NAME, version=(latest or 0) + 1, position=0, active=False, definition=rule_to_table(rule),
                digest=digest(rule), author=by[:64], reason="asked for by hand", created_at=now(),
            )
            .on_conflict_do_nothing()
            .returning(rule_version.c.id)
        ).scalar_one_or_none()  # fmt: skip
        if made is not None:  # else somebody else took the number in this moment
            return int(made)
