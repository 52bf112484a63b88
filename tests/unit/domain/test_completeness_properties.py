"""What holds for the verdict on any series, however strange its evidence."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.completeness import (
    AssociationEvidence,
    AssociationState,
    Complete,
    Open,
    Policy,
    SeriesEvidence,
    judge,
)
from gateway.domain.counting import InstanceEvidence

# other processes share the machine: how long one example takes says nothing
unhurried = settings(deadline=None)

times_s = st.floats(0, 200, allow_nan=False).map(lambda seconds: round(1.7e9 + seconds, 3))
small = st.integers(0, 6)

instances = st.builds(
    InstanceEvidence,
    received_s=times_s,
    instance_number=st.none() | small,
    acquisition_number=st.none() | st.integers(1, 2),
    images_in_acquisition=st.none() | st.integers(-1, 4),
    # a chain, in which each is parallel to the next one and the ends are not parallel to each other
    orientation=st.sampled_from([None, *((tilt, 1.0, 0.0, 0.0, 0.0, -1.0) for tilt in (0.0, 0.008, 0.016))]),
    slice_position_mm=st.none() | small.map(lambda index: index * 3.3),
    number_of_frames=st.sampled_from([1, 1, 1, 30]),
    enhanced=st.booleans(),
)
# Series in which everything is as it should be, so that the short periods are reached as well.
tidy = st.integers(1, 12).flatmap(
    lambda number: st.permutations(
        [
            InstanceEvidence(
                received_s=1.7e9 + index / 10,
                instance_number=index + 1,
                images_in_acquisition=number if number % 2 else None,
                orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                slice_position_mm=index * 4.0,
            )
            for index in range(number)
        ]
    )
)
ended = st.builds(
    AssociationEvidence,
    st.sampled_from([AssociationState.RELEASED, AssociationState.RELEASED, AssociationState.ABORTED]),
    times_s,
    st.none() | times_s,
)
still_open = st.builds(AssociationEvidence, st.just(AssociationState.OPEN), st.none(), st.none() | times_s)
evidences = st.builds(
    SeriesEvidence,
    (st.lists(instances, min_size=1, max_size=12) | tidy).map(tuple),
    st.lists(ended | still_open, max_size=3).map(tuple),
)
policies = st.lists(st.floats(0.1, 120), min_size=3, max_size=3).map(
    lambda periods: Policy(sorted(periods)[1], sorted(periods)[0], sorted(periods)[2])
)


@unhurried
@given(evidences, policies)
def test_never_before_the_quiet_period_and_always_at_the_fallback(evidence: SeriesEvidence, policy: Policy) -> None:
    last_s = evidence.last_received_s
    just_before_s = math.nextafter(last_s + policy.quiet_full_s, 0)
    assert isinstance(judge(evidence, just_before_s, policy), Open)
    assert isinstance(judge(evidence, last_s + policy.fallback_s, policy), Complete)


@unhurried
@given(evidences, policies)
def test_due_is_the_moment_at_which_the_verdict_changes(evidence: SeriesEvidence, policy: Policy) -> None:
    verdict = judge(evidence, evidence.last_received_s, policy)
    assert isinstance(verdict, Open)
    assert judge(evidence, math.nextafter(verdict.due_s, 0), policy) == verdict
    assert isinstance(judge(evidence, verdict.due_s, policy), Complete)


@unhurried
@given(evidences, policies, st.lists(st.floats(-10, 300), min_size=2, max_size=6))
def test_once_complete_stays_complete(evidence: SeriesEvidence, policy: Policy, after_s: list[float]) -> None:
    moments = sorted(evidence.last_received_s + seconds for seconds in after_s)
    verdicts = [isinstance(judge(evidence, moment, policy), Complete) for moment in moments]
    assert verdicts == sorted(verdicts)


@unhurried
@given(evidences, policies, st.floats(-10, 300), st.randoms(use_true_random=False))
def test_the_order_of_evidence_does_not_matter(
    evidence: SeriesEvidence, policy: Policy, after_s: float, random: Random
) -> None:
    shuffled = SeriesEvidence(
        tuple(random.sample(evidence.instances, len(evidence.instances))),
        tuple(random.sample(evidence.associations, len(evidence.associations))),
    )
    now_s = evidence.last_received_s + after_s
    assert judge(shuffled, now_s, policy) == judge(evidence, now_s, policy)


@unhurried
@given(evidences, policies)
def test_every_answer_says_why(evidence: SeriesEvidence, policy: Policy) -> None:
    verdict = judge(evidence, evidence.last_received_s, policy)
    assert isinstance(verdict, Open)
    assert verdict.waiting_for
    closed = judge(evidence, verdict.due_s, policy)
    assert isinstance(closed, Complete)
    assert closed.signals
    assert closed.sentence


@unhurried
@given(evidences, policies, times_s)
def test_a_release_never_delays_the_end_beyond_waiting_for_it(
    evidence: SeriesEvidence, policy: Policy, released_s: float
) -> None:
    """The same series with its open associations released closes no later than with them left open."""
    closed = SeriesEvidence(
        evidence.instances,
        tuple(
            AssociationEvidence(AssociationState.RELEASED, released_s)
            if one.state is AssociationState.OPEN and one.other_series_s is None
            else one
            for one in evidence.associations
        ),
    )
    before = judge(evidence, evidence.last_received_s, policy)
    after = judge(closed, evidence.last_received_s, policy)
    assert isinstance(before, Open)
    assert isinstance(after, Open)
    assert after.due_s <= before.due_s
