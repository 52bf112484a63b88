"""Each traffic pattern that scanners and routers produce, and the moment at which its series closes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from gateway.domain.completeness import (
    AssociationEvidence,
    AssociationState,
    Complete,
    Open,
    Policy,
    SeriesEvidence,
    judge,
)
from gateway.domain.counting import InstanceEvidence, Signal

POLICY = Policy()
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STEP_S = 0.05
ENHANCED_OF_ONE_FRAME = InstanceEvidence(1000.0, 1, number_of_frames=1, enhanced=True)


def stack(
    number: int,
    *,
    first_number: int = 1,
    orientation: tuple[float, ...] = SAGITTAL,
    spacing_mm: float = 4.4,
    start_s: float = 1000.0,
) -> list[InstanceEvidence]:
    """`number` slices numbered in spatial order, received in that order, one each STEP_S seconds."""
    return [
        InstanceEvidence(
            received_s=start_s + index * STEP_S,
            instance_number=first_number + index,
            orientation=orientation,
            slice_position_mm=-40 + index * spacing_mm,
        )
        for index in range(number)
    ]


def received(instances: Iterable[InstanceEvidence], start_s: float = 1000.0) -> list[InstanceEvidence]:
    """The same instances, received one each STEP_S seconds in the order given."""
    return [replace(one, received_s=start_s + index * STEP_S) for index, one in enumerate(instances)]


def released(ended_s: float) -> AssociationEvidence:
    return AssociationEvidence(AssociationState.RELEASED, ended_s)


def aborted(ended_s: float) -> AssociationEvidence:
    return AssociationEvidence(AssociationState.ABORTED, ended_s)


def still_open(other_series_s: float | None = None) -> AssociationEvidence:
    return AssociationEvidence(AssociationState.OPEN, other_series_s=other_series_s)


def series(instances: Iterable[InstanceEvidence], *associations: AssociationEvidence) -> SeriesEvidence:
    return SeriesEvidence(tuple(instances), associations)


def closes(evidence: SeriesEvidence, policy: Policy = POLICY) -> tuple[float, Complete]:
    """Seconds after the last instance at which the series closes, with the verdict; checked on both sides."""
    last_s = evidence.last_received_s
    waiting = judge(evidence, last_s, policy)
    assert isinstance(waiting, Open)
    assert isinstance(judge(evidence, waiting.due_s - 1e-3, policy), Open)
    verdict = judge(evidence, waiting.due_s, policy)
    assert isinstance(verdict, Complete)
    return round(waiting.due_s - last_s, 3), verdict


def test_one_association_one_series_closes_one_second_after_the_release() -> None:
    instances = stack(20)
    last_s = instances[-1].received_s
    after_s, verdict = closes(series(instances, released(last_s + 0.1)))
    assert after_s == pytest.approx(1.1)
    assert verdict.signals == (Signal.RELEASED, Signal.NUMBERS, Signal.POSITIONS)
    assert verdict.sentence == (
        "20 instances in 1.0 s, closed 1.1 s after the last: the association was released; "
        "Instance Number 1 to 20 without a hole; 20 slice positions without a gap"
    )


def test_a_late_release_counts_from_the_release_but_never_beyond_the_fallback() -> None:
    instances = stack(20)
    last_s = instances[-1].received_s
    assert closes(series(instances, released(last_s + 30)))[0] == pytest.approx(31)
    assert closes(series(instances, released(last_s + 59.8)))[0] == pytest.approx(60)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(lambda slices: slices[::-1], id="reversed"),
        pytest.param(lambda slices: slices[::2] + slices[1::2], id="interleaved"),
        pytest.param(lambda slices: slices[10:] + slices[:10], id="from the middle"),
    ],
)
def test_the_order_of_sending_does_not_matter(order: object) -> None:
    assert callable(order)
    instances = received(order(stack(20)))
    assert closes(series(instances, released(instances[-1].received_s)))[0] == pytest.approx(1)


def test_an_association_per_instance_releases_after_each_so_the_release_is_no_end() -> None:
    instances = stack(20)
    associations = [released(one.received_s + 0.01) for one in instances]
    after_s, verdict = closes(series(instances, *associations))
    assert after_s == pytest.approx(5.01)
    assert "all 20 associations were released" in verdict.sentence


def test_the_first_of_an_association_per_instance_is_not_taken_for_a_series() -> None:
    first = stack(1)
    after_s, _ = closes(series(first, released(first[0].received_s)))
    assert after_s == pytest.approx(5)


def test_a_declared_count_closes_an_association_per_instance_quickly() -> None:
    instances = [replace(one, images_in_acquisition=20, acquisition_number=1) for one in stack(20)]
    associations = [released(one.received_s) for one in instances]
    after_s, verdict = closes(series(instances, *associations))
    assert after_s == pytest.approx(1)
    assert Signal.DECLARED in verdict.signals


def test_a_declared_count_that_is_not_reached_waits_although_all_else_agrees() -> None:
    instances = [replace(one, images_in_acquisition=20) for one in stack(12)]
    evidence = series(instances, released(instances[-1].received_s))
    verdict = judge(evidence, instances[-1].received_s + 30, POLICY)
    assert isinstance(verdict, Open)
    assert verdict.waiting_for.startswith("12 of 20 declared images arrived; closes 60 s after")


def test_a_declared_count_settles_holes_in_the_numbering() -> None:
    odd_numbers = [
        replace(one, instance_number=2 * index + 1, images_in_acquisition=20) for index, one in enumerate(stack(20))
    ]
    assert closes(series(odd_numbers, released(odd_numbers[-1].received_s)))[0] == pytest.approx(1)


def test_a_declared_count_already_passed_says_nothing() -> None:
    instances = [replace(one, images_in_acquisition=4) for one in stack(20)]
    after_s, verdict = closes(series(instances, released(instances[-1].received_s)))
    assert after_s == pytest.approx(1)
    assert Signal.DECLARED not in verdict.signals


def test_a_declared_count_of_multi_frame_instances_says_nothing() -> None:
    clips = [InstanceEvidence(1000.0, number, images_in_acquisition=20, number_of_frames=10) for number in (1, 2)]
    assert closes(series(clips, released(1000.0)))[0] == pytest.approx(5)


def test_several_met_acquisitions_may_be_followed_by_another() -> None:
    phases = [
        replace(one, acquisition_number=phase, images_in_acquisition=10)
        for phase in range(3)
        for one in stack(10, first_number=phase * 10 + 1)
    ]
    instances = received(phases)
    per_phase = [released(instances[index].received_s) for index in (9, 19, 29)]
    after_s, verdict = closes(series(instances, *per_phase))
    assert after_s == pytest.approx(5)
    assert verdict.signals == (Signal.RELEASED, Signal.DECLARED, Signal.NUMBERS, Signal.POSITIONS)


def test_a_single_enhanced_multi_frame_instance_is_the_series() -> None:
    only = InstanceEvidence(received_s=1000.0, instance_number=1, number_of_frames=300, enhanced=True)
    after_s, verdict = closes(series([only], released(1000.2)))
    assert after_s == pytest.approx(1.2)
    assert verdict.signals == (Signal.RELEASED, Signal.MULTI_FRAME, Signal.NUMBERS)
    assert verdict.sentence.startswith("1 instance, closed 1.2 s after the last")


@pytest.mark.parametrize(
    "clip",
    [
        pytest.param(InstanceEvidence(1000.0, 1, number_of_frames=40), id="ultrasound clip"),
        pytest.param(ENHANCED_OF_ONE_FRAME, id="enhanced, one frame each"),
    ],
)
def test_a_multi_frame_instance_that_may_have_siblings_waits_longer(clip: InstanceEvidence) -> None:
    assert closes(series([clip], released(1000.0)))[0] == pytest.approx(5)


def test_many_series_in_one_association_close_while_the_next_ones_flow() -> None:
    instances = stack(20)
    last_s = instances[-1].received_s
    after_s, verdict = closes(series(instances, still_open(other_series_s=last_s + 5)))
    assert after_s == pytest.approx(5)
    assert verdict.signals == (Signal.MOVED_ON, Signal.NUMBERS, Signal.POSITIONS)


def test_moving_on_needs_full_evidence() -> None:
    instances = [replace(one, slice_position_mm=None) for one in stack(20)]
    last_s = instances[-1].received_s
    after_s, verdict = closes(series(instances, still_open(other_series_s=last_s + 20)))
    assert after_s == pytest.approx(60)
    assert "1 association is still open and only this speaks for the end: Instance Number" in verdict.sentence


def test_interleaved_series_are_not_taken_for_moving_on() -> None:
    """A pause in the middle of two alternating series leaves the other one a moment ahead."""
    half = stack(10)
    evidence = series(half, still_open(other_series_s=half[-1].received_s + STEP_S))
    assert isinstance(judge(evidence, half[-1].received_s + 30, POLICY), Open)


def test_a_scanner_that_never_releases_waits_for_the_fallback() -> None:
    instances = stack(20)
    evidence = series(instances, still_open())
    waiting = judge(evidence, instances[-1].received_s + 10, POLICY)
    assert isinstance(waiting, Open)
    assert waiting.waiting_for == ("1 of 1 associations still open; closes 60 s after the last instance at the latest")
    after_s, verdict = closes(evidence)
    assert after_s == pytest.approx(60)
    assert verdict.signals[0] is Signal.FALLBACK


def test_an_aborted_association_waits_for_the_sender_to_come_back() -> None:
    instances = stack(20)
    last_s = instances[-1].received_s
    after_s, verdict = closes(series(instances, aborted(last_s), released(last_s + 2)))
    assert after_s == pytest.approx(60)
    assert "1 of 2 associations aborted" in verdict.sentence


def test_two_senders_are_both_awaited() -> None:
    instances = stack(20)
    last_s = instances[-1].received_s
    one_open = series(instances, released(last_s), still_open())
    assert closes(one_open)[0] == pytest.approx(60)
    assert closes(series(instances, released(last_s - 0.5), released(last_s)))[0] == pytest.approx(5)


@pytest.mark.parametrize(("missing", "shown"), [((7,), "7 is"), ((7, 8, 9, 13), "7 to 9, 13 is")])
def test_missing_instances_are_named(missing: tuple[int, ...], shown: str) -> None:
    instances = [replace(one, slice_position_mm=None) for one in stack(20) if one.instance_number not in missing]
    verdict = judge(series(instances, released(1001.0)), 1010.0, POLICY)
    assert isinstance(verdict, Open)
    assert verdict.waiting_for.startswith(f"Instance Number {shown} missing between 1 and 20; closes")


def test_many_holes_are_shortened() -> None:
    instances = [InstanceEvidence(1000.0, number) for number in range(1, 40, 2)]
    verdict = judge(series(instances, released(1000.0)), 1010.0, POLICY)
    assert isinstance(verdict, Open)
    assert "Instance Number 2, 4, 6 and 16 more is missing" in verdict.waiting_for


def test_a_missing_slice_is_found_without_instance_numbers() -> None:
    instances = [replace(one, instance_number=None) for one in stack(20)]
    whole = series(instances, released(instances[-1].received_s))
    assert closes(whole)[0] == pytest.approx(5)
    gap = series(instances[:8] + instances[9:], released(instances[-1].received_s))
    after_s, verdict = closes(gap)
    assert after_s == pytest.approx(60)
    assert "no slice between -9.2 and -0.4 mm, others lie 4.4 mm apart" in verdict.sentence


def test_nothing_to_count_waits_for_the_fallback() -> None:
    bare = [InstanceEvidence(received_s=1000.0 + index) for index in range(5)]
    after_s, verdict = closes(series(bare, released(1004.0)))
    assert after_s == pytest.approx(60)
    assert "although nothing tells how many instances there are" in verdict.sentence


def test_instances_without_an_association_wait_for_the_fallback() -> None:
    after_s, verdict = closes(series(stack(20)))
    assert after_s == pytest.approx(60)
    assert "no association is on record" in verdict.sentence


@pytest.mark.parametrize("repeats", [2, 8])
def test_echoes_and_b_values_repeat_every_position(repeats: int) -> None:
    slices = [
        replace(one, instance_number=echo * 20 + index + 1)
        for echo in range(repeats)
        for index, one in enumerate(stack(20))
    ]
    instances = received(slices)
    assert closes(series(instances, released(instances[-1].received_s)))[0] == pytest.approx(1)


def test_an_echo_cut_short_is_noticed_even_where_numbers_repeat() -> None:
    instances = received(stack(20) + stack(13))
    after_s, verdict = closes(series(instances, released(instances[-1].received_s)))
    assert after_s == pytest.approx(60)
    assert "has 1 of 2 instances" in verdict.sentence


def test_a_localizer_of_three_planes() -> None:
    planes = [
        replace(one, instance_number=index * 5 + one.instance_number)
        for index, orientation in enumerate((SAGITTAL, CORONAL, AXIAL))
        for one in stack(5, orientation=orientation, spacing_mm=10)
        if one.instance_number is not None
    ]
    instances = received(planes)
    after_s, verdict = closes(series(instances, released(instances[-1].received_s)))
    assert after_s == pytest.approx(1)
    assert "15 slice positions in 3 orientations without a gap" in verdict.sentence


def test_a_localizer_of_one_slice_per_plane_has_only_its_numbers() -> None:
    planes = [
        replace(stack(1, orientation=orientation)[0], instance_number=index + 1)
        for index, orientation in enumerate((SAGITTAL, CORONAL, AXIAL))
    ]
    assert closes(series(received(planes), released(1000.0)))[0] == pytest.approx(5.0)


def test_cosines_that_differ_by_rounding_are_one_stack() -> None:
    instances = [
        replace(one, orientation=(1e-4, *SAGITTAL[1:])) if index in (3, 4, 11) else one
        for index, one in enumerate(stack(20))
    ]
    assert closes(series(instances, released(instances[-1].received_s)))[0] == pytest.approx(1)


def test_stacks_do_not_depend_on_which_slice_came_first() -> None:
    """Each of the three tilts is parallel to the next one, the first and the last are not parallel."""
    tilted = [replace(one, orientation=(0.008 * (index // 3), *SAGITTAL[1:])) for index, one in enumerate(stack(9))]
    middle_first = tilted[3:6] + tilted[:3] + tilted[6:]
    verdicts = [judge(series(order, released(1000.0)), 1100.0, POLICY) for order in (tilted, middle_first)]
    assert verdicts[0] == verdicts[1]


def test_a_rotating_view_has_only_its_numbers() -> None:
    instances = [replace(one, orientation=(index / 10, *SAGITTAL[1:])) for index, one in enumerate(stack(60))]
    _, verdict = closes(series(instances, released(instances[-1].received_s)))
    assert verdict.signals == (Signal.RELEASED, Signal.NUMBERS)


def test_thousands_of_orientations_cost_no_time() -> None:
    instances = [replace(one, orientation=(index / 50, *SAGITTAL[1:])) for index, one in enumerate(stack(4000))]
    started_s = time.process_time()
    closes(series(instances, released(instances[-1].received_s)))
    assert time.process_time() - started_s < 1


def test_positions_rounded_to_a_tenth_are_still_equally_spaced() -> None:
    instances = [replace(one, slice_position_mm=round(index * 0.625, 1)) for index, one in enumerate(stack(40))]
    assert closes(series(instances, released(instances[-1].received_s)))[0] == pytest.approx(1)


@pytest.mark.parametrize(("first", "after_s"), [(0, 1), (1, 1), (2, 5), (101, 5)])
def test_a_run_of_numbers_that_starts_higher_may_lack_its_beginning(first: int, after_s: float) -> None:
    instances = stack(20, first_number=first)
    assert closes(series(instances, released(instances[-1].received_s)))[0] == pytest.approx(after_s)


def test_numbers_far_apart_cost_no_time() -> None:
    instances = [InstanceEvidence(1000.0, number) for number in (1, 2_147_483_647)]
    verdict = judge(series(instances, released(1000.0)), 1001.0, POLICY)
    assert isinstance(verdict, Open)
    assert "Instance Number 2 to 2147483646 is missing" in verdict.waiting_for


def test_a_position_that_is_no_number_is_no_evidence() -> None:
    instances = [replace(one, slice_position_mm=float("nan")) for one in stack(20)]
    _, verdict = closes(series(instances, released(instances[-1].received_s)))
    assert verdict.signals == (Signal.RELEASED, Signal.NUMBERS)


@pytest.mark.parametrize("quiet", [(5.0, 6.0, 60.0), (5.0, 0.0, 60.0), (90.0, 1.0, 60.0)])
def test_a_policy_out_of_order_is_refused(quiet: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected 0 < quiet_full_s <= quiet_s <= fallback_s"):
        Policy(*quiet)


def test_evidence_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        SeriesEvidence((), ())
    with pytest.raises(ValueError, match="only an association that ended has an end"):
        AssociationEvidence(AssociationState.OPEN, ended_s=1.0)
    with pytest.raises(ValueError, match="only an association that ended has an end"):
        AssociationEvidence(AssociationState.RELEASED)
