"""Assemble: judge which series are complete, and close them with the evidence that says so."""

from __future__ import annotations

from gateway import logs, metrics
from gateway.domain.completeness import Complete, Policy, judge
from gateway.killpoints import reached
from gateway.store import judgement
from gateway.store.database import Database

log = logs.get("assemble")


def assemble(database: Database, policy: Policy) -> int:
    """Judge every series that is due; the number that closed."""
    with database.read() as connection:
        due = judgement.due_for_judgement(connection)
    return sum(_judge(database, series_id, policy) for series_id in due)


def _judge(database: Database, series_id: int, policy: Policy) -> bool:
    with database.write() as connection:
        found = judgement.to_judge(connection, series_id)
        if found is None:
            return False
        verdict = judge(found.evidence, found.now_s, policy)
        if not isinstance(verdict, Complete):
            # asked again after quiet_s at the latest: that the sender moved on to another series changes no row of this
            judge_at = min(verdict.due_s, found.now_s + policy.quiet_s)
            judgement.keep_open(connection, series_id, found.last_received_at, judge_at, verdict.waiting_for)
            return False
        closed = judgement.close_series(
            connection,
            series_id,
            found.revision,
            found.instances,
            {"signals": list(verdict.signals), "sentence": verdict.sentence, "instances": found.instances},
        )
        reached("assemble.closed")
    reached("assemble.committed")
    if closed:
        metrics.QUIET_S.observe(found.now_s - found.last_received_at)
        log.info("series complete", series=series_id, evidence=verdict.sentence)
    return closed
