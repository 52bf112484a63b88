"""Whether a series has arrived whole, judged on evidence and not on one long silence.

DICOM has no "that was all" for a series: a sender may use one association for a study, one for a series or
one for each instance. Two questions are asked of what has arrived, and the answers choose how long to listen.

Does anything say that the sender has ended?

- *released*: every association that carried the series was released (PS3.8 7.2). Nothing more comes that way.
- *moved on*: an association is still open, and for a whole quiet period it has carried other series only.
- *neither*: an association is open and silent, or was aborted, or none is on record.

Does anything say how many instances there are (`counting.py`)?

- *declared*: Images in Acquisition (0020,1002) is exactly met. The only number in which the scanner itself
  names a total; the total of the series as long as the series holds one acquisition.
- *multi-frame*: the series is one enhanced instance with more than one frame.
- *numbers*: Instance Number runs without a hole from 0 or 1. A run that starts higher is weaker evidence: the
  first half of a series sent backwards looks like that.
- *positions*: each stack of parallel slices is equally spaced and repeats every position equally often
  (echoes, b-values, phases).

Numbers and positions show that nothing is missing in between. Neither can show that the last is the last: the
first half of an ascending series passes both. That is what the release is for, and it tells the end of the
series only when a single association carried it: who opens one per instance releases after each.

    ended      evidence                                                      waits for
    released   declared, multi-frame, or numbers + positions in one          quiet_full_s after the release
               association
    released   at least one of the four                                      quiet_s after the release
    moved on   declared, multi-frame, or numbers + positions                 quiet_s after the last instance
    any        something missing (unless declared says no), nothing to       fallback_s after the last
               count, or not ended                                           instance

No case waits longer than `fallback_s` after the last instance. What is closed too early is not lost: a late
instance raises the revision of the series and reopens it. The price is a job done twice, never a stale result
that looks current.

Known cost: a series with intended steps between packs of slices, or an acquisition that fills two series,
looks like one with missing instances and waits for `fallback_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.counting import Count, InstanceEvidence, Signal, count_instances

__all__ = [
    "AssociationEvidence",
    "AssociationState",
    "Complete",
    "InstanceEvidence",
    "Open",
    "Policy",
    "SeriesEvidence",
    "Signal",
    "judge",
]


class AssociationState(StrEnum):
    """How far an association has come."""

    OPEN = "open"
    RELEASED = "released"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class AssociationEvidence:
    """One association that carried at least one instance of the series.

    `other_series_s` is when it last carried an instance of any other series. Times are seconds of one clock.
    """

    state: AssociationState
    ended_s: float | None = None
    other_series_s: float | None = None

    def __post_init__(self) -> None:
        if (self.state is AssociationState.OPEN) != (self.ended_s is None):
            raise ValueError(f"only an association that ended has an end: found {self.state}, {self.ended_s}")


@dataclass(frozen=True, slots=True)
class SeriesEvidence:
    """All that is known about a series that is still receiving: at least one instance, and what carried it.

    There may be no association: instances that a scan of the spool adopted after a crash have none on record.
    """

    instances: tuple[InstanceEvidence, ...]
    associations: tuple[AssociationEvidence, ...]

    def __post_init__(self) -> None:
        if not self.instances:
            raise ValueError("a series exists from its first instance on: found none")

    @property
    def first_received_s(self) -> float:
        return min(instance.received_s for instance in self.instances)

    @property
    def last_received_s(self) -> float:
        return max(instance.received_s for instance in self.instances)


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to listen on partial evidence, on full evidence, and at most."""

    quiet_s: float = 5.0
    quiet_full_s: float = 1.0
    fallback_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.quiet_full_s <= self.quiet_s <= self.fallback_s:
            raise ValueError(
                "expected 0 < quiet_full_s <= quiet_s <= fallback_s, found "
                f"{self.quiet_full_s:g}, {self.quiet_s:g}, {self.fallback_s:g}"
            )


@dataclass(frozen=True, slots=True)
class Open:
    """Not complete. Without new input the verdict changes at `due_s` and at no earlier moment."""

    due_s: float
    waiting_for: str


@dataclass(frozen=True, slots=True)
class Complete:
    """Complete: the signals that closed it as stable words, and the same as a sentence for people."""

    signals: tuple[str, ...]
    sentence: str


def judge(evidence: SeriesEvidence, now_s: float, policy: Policy) -> Open | Complete:
    """Whether the series is complete at `now_s`: what it waits for, or what closed it. Reads no clock."""
    last_s = evidence.last_received_s
    fallback_at_s = last_s + policy.fallback_s
    count = count_instances(evidence.instances)
    ending = _ending(evidence.associations, last_s, policy)
    quiet_s = _quiet_s(ending, count, len(evidence.associations), policy)

    if quiet_s is None:
        due_s = fallback_at_s
        doubt = _doubt(ending, count)
        waiting_for = f"{doubt}; closes {policy.fallback_s:g} s after the last instance at the latest"
        signals = (Signal.FALLBACK, *count.signals)
        grounds = f"the {policy.fallback_s:g} s fallback, although {doubt}"
    else:
        due_s = min(ending.at_s + quiet_s, fallback_at_s)
        grounds = "; ".join((ending.fact, *count.facts))
        waiting_for = f"{quiet_s:g} s of quiet ({grounds})"
        signals = (ending.signal or Signal.FALLBACK, *count.signals)

    if now_s < due_s:
        return Open(due_s, waiting_for)
    after = f"closed {now_s - last_s:.1f} s after the last"
    return Complete(signals, f"{_received(evidence)}, {after}: {grounds}")


@dataclass(frozen=True, slots=True)
class _Ending:
    """Whether the sender has ended (no `signal`: it has not), and from which moment quiet counts."""

    signal: Signal | None
    at_s: float
    fact: str = ""
    doubts: tuple[str, ...] = ()


def _ending(associations: Sequence[AssociationEvidence], last_s: float, policy: Policy) -> _Ending:
    aborted = sum(one.state is AssociationState.ABORTED for one in associations)
    still_open = [one for one in associations if one.state is AssociationState.OPEN]
    # A whole quiet period, because senders that interleave series come back to each within moments.
    silent = sum((one.other_series_s or last_s) - last_s < policy.quiet_s for one in still_open)

    doubts = []
    if not associations:
        doubts.append("no association is on record")
    if aborted:
        doubts.append(f"{aborted} of {len(associations)} associations aborted")
    if silent:
        doubts.append(f"{silent} of {len(associations)} associations still open")
    if doubts:
        return _Ending(None, last_s, doubts=tuple(doubts))
    if still_open:
        return _Ending(Signal.MOVED_ON, last_s, "the open association has moved on to other series")
    released_s = max(one.ended_s for one in associations if one.ended_s is not None)
    number = len(associations)
    fact = "the association was released" if number == 1 else f"all {number} associations were released"
    return _Ending(Signal.RELEASED, max(last_s, released_s), fact)


def _quiet_s(ending: _Ending, count: Count, associations: int, policy: Policy) -> float | None:
    """The quiet that this evidence asks for, None when only the fallback may close: the module's table."""
    if ending.signal is None or count.doubts or not count.signals:
        return None
    if ending.signal is Signal.MOVED_ON:
        return policy.quiet_s if count.names_the_total or count.agrees_twice else None
    if count.names_the_total or (count.agrees_twice and associations == 1):
        return policy.quiet_full_s
    return policy.quiet_s


def _doubt(ending: _Ending, count: Count) -> str:
    """Why only the fallback may close the series."""
    doubts = (*ending.doubts, *count.doubts)
    if doubts:
        return "; ".join(doubts)
    if not count.signals:
        return "nothing tells how many instances there are"
    return f"1 association is still open and only this speaks for the end: {'; '.join(count.facts)}"


def _received(evidence: SeriesEvidence) -> str:
    number = len(evidence.instances)
    if number == 1:
        return "1 instance"
    return f"{number} instances in {evidence.last_received_s - evidence.first_received_s:.1f} s"
