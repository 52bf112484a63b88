"""What the states mean, in words for people: the one source of the help page; docs/operations.md says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.roles import Role
from gateway.domain.states import DeliveryState, JobState, SeriesState


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a state says, and what follows it or what to do."""

    says: str
    follows: str


SERIES: Mapping[SeriesState, Meaning] = {
    SeriesState.RECEIVING: Meaning(
        "instances come, or the evidence that no more will come is not there yet; waits: says for what",
        "COMPLETE, by itself",
    ),
    SeriesState.COMPLETE: Meaning("closed, with the evidence; about to be routed", "the next five, within a second"),
    SeriesState.WAITING: Meaning(
        "it plays a role in a rule of several series; the reason says which others of its study are awaited, and until "
        "when",
        "ROUTED when they come; else the rules behind that rule are asked",
    ),
    SeriesState.ROUTED: Meaning("at least one rule made a job", "see its jobs"),
    SeriesState.UNMATCHED: Meaning(
        "no enabled rule matches, or the pipeline of the one that does is disabled; each rule is listed with what it "
        "missed",
        "none; correct the rules for the series to come (athanor rules test PATH), or enable the pipeline, then "
        "athanor jobs route SERIES",
    ),
    SeriesState.BLOCKED: Meaning("the loop guard found it to be synthetic or derived", "none, by intention"),
    SeriesState.FAILED: Meaning(
        "it could not be read or routed; the reason is shown", "none; the reason names the file and what was found"
    ),
}

JOB: Mapping[JobState, Meaning] = {
    JobState.QUEUED: Meaning(
        "waits for a process worker, also after an attempt that broke, or for its pipeline to be enabled", "RUNNING"
    ),
    JobState.RUNNING: Meaning(
        "a worker decodes, infers, encodes, and renews its lease; a dead worker's job goes back to QUEUED",
        "the next five",
    ),
    JobState.SUCCEEDED: Meaning("the result is on disk", "see its deliveries"),
    JobState.REFUSED: Meaning(
        "the series does not fit what the model was made for; each point with what was found and expected",
        "none; jobs retry only helps after the model or its manifest was changed",
    ),
    JobState.FAILED: Meaning(
        "it broke process.max_attempts times; the last error is shown", "athanor jobs retry SERIES after repair"
    ),
    JobState.CANCELLED: Meaning("withdrawn before its end", "athanor jobs retry SERIES"),
    JobState.SUPERSEDED: Meaning(
        "a later revision of the series came before it ran or ended", "the job of that revision"
    ),
}

DELIVERY: Mapping[DeliveryState, Meaning] = {
    DeliveryState.QUEUED: Meaning("waits for the transfer worker, or for its next attempt", "SENDING"),
    DeliveryState.SENDING: Meaning("the association is open, or is being opened", "the next two, or QUEUED again"),
    DeliveryState.COMMITTING: Meaning(
        "every instance has its Success, and the destination was asked to commit to storage (commitment = true)",
        "DELIVERED, or QUEUED for what it does not keep",
    ),
    DeliveryState.DELIVERED: Meaning(
        "every instance has its Success (or a warning status, which also means stored), and is committed where that "
        "is asked for",
        "none",
    ),
    DeliveryState.FAILED: Meaning(
        "an instance was refused for good, or deliver.give_up_s (3 days) has passed",
        "athanor jobs resend SERIES after repair; athanor jobs resend --destination NAME --failed for all",
    ),
    DeliveryState.CANCELLED: Meaning("superseded before the destination had received anything", "none"),
}

ROLE: Mapping[Role, str] = {
    Role.VIEWER: "looks: dashboard, studies with their timeline, rules, pipelines, tests and dry runs of rules",
    Role.OPERATOR: "the same, and retries, resends, cancels, holds and releases, disables and tests pipelines",
    Role.ADMINISTRATOR: "the same, and changes rules and people, enables pipelines, makes API keys, reads settings and "
    "the audit trail",
    Role.AUDITOR: "looks, and reads settings and the audit trail",
}
