"""States of a series, a job and a delivery, and the one table of the moves between them.

The store turns the sources of a state into the WHERE of every conditional update: a move that is not in the table
cannot be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class SeriesState(StrEnum):
    """Where a received series stands."""

    RECEIVING = "RECEIVING"  # instances arrive, completeness is being judged
    COMPLETE = "COMPLETE"  # closed on evidence, waiting for route
    WAITING = "WAITING"  # it plays a role in a rule of several series, and another of its study is awaited
    ROUTED = "ROUTED"  # at least one job was made
    UNMATCHED = "UNMATCHED"  # no rule made a job
    BLOCKED = "BLOCKED"  # the loop guard found it to be synthetic
    FAILED = "FAILED"  # it could not be routed


class JobState(StrEnum):
    """Where one run of a pipeline on one revision of a series stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"  # the derived instances are durable; its deliveries tell the rest
    REFUSED = "REFUSED"  # the series does not fit the pipeline's input contract
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"  # a later revision of the series replaced it before it ran


class DeliveryState(StrEnum):
    """Where the transfer of one job's result to one destination stands."""

    QUEUED = "QUEUED"  # also between two attempts, until `not_before`
    SENDING = "SENDING"
    COMMITTING = "COMMITTING"  # every instance has its Success, the destination was asked whether it keeps them
    DELIVERED = "DELIVERED"  # every instance has its Success, and is committed where that is asked for
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class CommitmentState(StrEnum):
    """Where a peer's request that we commit to instances stands. Only PENDING moves, until the same request returns."""

    PENDING = "PENDING"  # it will be reported on
    REPORTED = "REPORTED"  # the peer took the report
    FAILED = "FAILED"  # the peer could not be told


SERIES_MOVES: Mapping[SeriesState, frozenset[SeriesState]] = {
    SeriesState.RECEIVING: frozenset({SeriesState.COMPLETE}),
    SeriesState.COMPLETE: frozenset(
        {
            SeriesState.WAITING,
            SeriesState.ROUTED,
            SeriesState.UNMATCHED,
            SeriesState.BLOCKED,
            SeriesState.FAILED,
            SeriesState.RECEIVING,
        }
    ),
    # the last role was filled, by it or by a later candidate for its own; when the rule gives up, the next are asked
    SeriesState.WAITING: frozenset(
        {SeriesState.ROUTED, SeriesState.UNMATCHED, SeriesState.COMPLETE, SeriesState.RECEIVING}
    ),
    # a late instance raises the revision and reopens the series
    # and an administrator may send it to the rules of now
    # WAITING: a later revision of another series superseded the only job
    SeriesState.ROUTED: frozenset({SeriesState.RECEIVING, SeriesState.COMPLETE, SeriesState.WAITING}),
    # ROUTED: what was awaited came after the rule had given up
    SeriesState.UNMATCHED: frozenset(
        {SeriesState.RECEIVING, SeriesState.COMPLETE, SeriesState.WAITING, SeriesState.ROUTED}
    ),
    SeriesState.BLOCKED: frozenset({SeriesState.RECEIVING}),
    SeriesState.FAILED: frozenset({SeriesState.RECEIVING, SeriesState.COMPLETE}),
}

JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.SUPERSEDED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {
            JobState.SUCCEEDED,
            JobState.REFUSED,
            JobState.FAILED,
            JobState.QUEUED,
            JobState.CANCELLED,
            JobState.SUPERSEDED,
        }
    ),
    JobState.SUCCEEDED: frozenset({JobState.QUEUED}),  # its files are lost, and no destination has any of them
    JobState.REFUSED: frozenset({JobState.QUEUED}),  # an administrator may ask for another run
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
    JobState.SUPERSEDED: frozenset(),
}

DELIVERY_MOVES: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.QUEUED: frozenset({DeliveryState.SENDING, DeliveryState.CANCELLED, DeliveryState.FAILED}),
    DeliveryState.SENDING: frozenset(
        {
            DeliveryState.COMMITTING,
            DeliveryState.DELIVERED,
            DeliveryState.QUEUED,
            DeliveryState.FAILED,
            DeliveryState.CANCELLED,
        }
    ),
    DeliveryState.COMMITTING: frozenset(
        {DeliveryState.DELIVERED, DeliveryState.QUEUED, DeliveryState.FAILED, DeliveryState.CANCELLED}
    ),
    DeliveryState.DELIVERED: frozenset({DeliveryState.QUEUED}),  # resend: the same bytes, the same UIDs
    DeliveryState.FAILED: frozenset({DeliveryState.QUEUED}),
    DeliveryState.CANCELLED: frozenset({DeliveryState.QUEUED}),
}

SERIES_ENDED = frozenset({SeriesState.ROUTED, SeriesState.UNMATCHED, SeriesState.BLOCKED, SeriesState.FAILED})
JOB_ENDED = frozenset({JobState.SUCCEEDED, JobState.REFUSED, JobState.FAILED, JobState.CANCELLED, JobState.SUPERSEDED})
DELIVERY_ENDED = frozenset({DeliveryState.DELIVERED, DeliveryState.FAILED, DeliveryState.CANCELLED})


def series_sources(to: SeriesState) -> frozenset[SeriesState]:
    """The states from which a series may move to `to`."""
    return frozenset(state for state, targets in SERIES_MOVES.items() if to in targets)


def job_sources(to: JobState) -> frozenset[JobState]:
    """The states from which a job may move to `to`."""
    return frozenset(state for state, targets in JOB_MOVES.items() if to in targets)


def delivery_sources(to: DeliveryState) -> frozenset[DeliveryState]:
    """The states from which a delivery may move to `to`."""
    return frozenset(state for state, targets in DELIVERY_MOVES.items() if to in targets)
