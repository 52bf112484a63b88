"""What the instances of a series tell about their number: declared, multi-frame, numbered, placed in space.

Each signal is affirmed, silent or in doubt. Silence is normal, these attributes being optional, and costs
time only. All findings are independent of the order in which the instances came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import isfinite

# Cosines of one stack differ by rounding only; 0.01 is about half a degree.
ORIENTATION_TOLERANCE = 0.01
# More different orientations than this is a rotating view, not a set of stacks.
MAX_STACKS = 32
# Repeats of one position differ by rounding only, and no clinical slice spacing is this small.
POSITION_TOLERANCE_MM = 0.05
# A missing slice doubles a step; rounding positions to 0.1 mm changes it by less than half.
HOLE_FACTOR = 1.5
# With two positions every spacing is an equal spacing.
MIN_POSITIONS = 3


class Signal(StrEnum):
    """The stable words under which the reasons for closing a series are stored and counted."""

    RELEASED = "released"
    MOVED_ON = "moved-on"
    DECLARED = "images-in-acquisition"
    MULTI_FRAME = "multi-frame"
    NUMBERS = "instance-numbers"
    POSITIONS = "slice-positions"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class InstanceEvidence:
    """What one stored instance tells about its series.

    `orientation` is Image Orientation (Patient), six cosines; `slice_position_mm` is Image Position (Patient)
    projected on the slice normal; `enhanced` marks the enhanced multi-frame SOP Classes, of which one
    instance holds an acquisition (a multi-frame ultrasound clip does not).
    """

    received_s: float
    instance_number: int | None = None
    acquisition_number: int | None = None
    images_in_acquisition: int | None = None
    orientation: tuple[float, ...] | None = None
    slice_position_mm: float | None = None
    number_of_frames: int = 1
    enhanced: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """The affirmed signals with a fact for people each, and the doubts that something is missing.

    `names_the_total`: something states how many instances there are, and so many are here; that ends doubt.
    `agrees_twice`: instance numbers and slice positions both run from the first without a hole.
    """

    signals: tuple[Signal, ...]
    facts: tuple[str, ...]
    doubts: tuple[str, ...]
    names_the_total: bool
    agrees_twice: bool


@dataclass(frozen=True, slots=True)
class _Finding:
    """One signal's answer: `fact` when affirmed, `doubt` when something is missing, neither when silent."""

    fact: str = ""
    doubt: str = ""
    strong: bool = False


_SILENT = _Finding()


def count_instances(instances: Sequence[InstanceEvidence]) -> Count:
    """What these instances tell about their number."""
    declared, multi_frame = _declared(instances), _multi_frame(instances)
    numbers, positions = _numbers(instances), _positions(instances)
    findings = {
        Signal.DECLARED: declared,
        Signal.MULTI_FRAME: multi_frame,
        Signal.NUMBERS: numbers,
        Signal.POSITIONS: positions,
    }
    names_the_total = declared.strong or multi_frame.strong
    return Count(
        signals=tuple(signal for signal, finding in findings.items() if finding.fact),
        facts=tuple(finding.fact for finding in findings.values() if finding.fact),
        doubts=() if names_the_total else tuple(f.doubt for f in findings.values() if f.doubt),
        names_the_total=names_the_total,
        agrees_twice=numbers.strong and positions.strong,
    )


def _declared(instances: Sequence[InstanceEvidence]) -> _Finding:
    """Images in Acquisition (0020,1002) against the instances of each acquisition; strong when there is one.

    With several acquisitions another may follow: a dynamic series looks like that between any two of them.
    """
    if any(instance.number_of_frames != 1 for instance in instances):
        return _SILENT
    acquisitions: dict[int | None, list[int | None]] = defaultdict(list)
    for instance in instances:
        acquisitions[instance.acquisition_number].append(instance.images_in_acquisition)
    total = 0
    for declared in acquisitions.values():
        expected = declared[0]
        if expected is None or any(value != expected for value in declared):
            return _SILENT
        if len(declared) > expected:  # what vendors count here differs; a number already passed says nothing
            return _SILENT
        total += expected
    if len(instances) < total:
        return _Finding(doubt=f"{len(instances)} of {total} declared images arrived")
    return _Finding(fact=f"all {total} declared images arrived", strong=len(acquisitions) == 1)


def _multi_frame(instances: Sequence[InstanceEvidence]) -> _Finding:
    """One enhanced instance with several frames; those of a single frame are sent like classic ones."""
    only = instances[0]
    if len(instances) == 1 and only.enhanced and only.number_of_frames > 1:
        return _Finding(fact=f"one multi-frame instance of {only.number_of_frames} frames", strong=True)
    return _SILENT


def _numbers(instances: Sequence[InstanceEvidence]) -> _Finding:
    """Instance Number without a hole; strong from 0 or 1. Silent where one is absent or repeated."""
    numbers = sorted(one.instance_number for one in instances if one.instance_number is not None)
    if len(set(numbers)) < len(instances):
        return _SILENT
    first, last = numbers[0], numbers[-1]
    holes = [(low + 1, high - 1) for low, high in pairwise(numbers) if high > low + 1]
    if holes:
        return _Finding(doubt=f"Instance Number {_ranges(holes)} is missing between {first} and {last}")
    return _Finding(fact=f"Instance Number {first} to {last} without a hole", strong=first in (0, 1))


def _positions(instances: Sequence[InstanceEvidence]) -> _Finding:
    """Equally spaced slice positions, each equally often, in every stack; silent where one is too small."""
    stacks = [_levels(stack) for stack in _stacks(instances)]
    doubt = next(filter(None, map(_missing_slice, stacks)), "")
    if doubt:
        return _Finding(doubt=doubt)
    if not stacks or any(len(levels) < MIN_POSITIONS for levels in stacks):
        return _SILENT
    number = sum(len(levels) for levels in stacks)
    orientations = "" if len(stacks) == 1 else f" in {len(stacks)} orientations"
    return _Finding(fact=f"{number} slice positions{orientations} without a gap", strong=True)


def _stacks(instances: Sequence[InstanceEvidence]) -> list[list[float]]:
    """Slice positions in mm of each orientation; none when an instance has no place or all are rotated."""
    placed: dict[tuple[float, ...], list[float]] = defaultdict(list)
    for instance in instances:
        position = instance.slice_position_mm
        if instance.orientation is None or position is None or not isfinite(position):
            return []
        placed[instance.orientation].append(position)
    stacks: dict[tuple[float, ...], list[float]] = {}
    for orientation in sorted(placed):  # sorted: the order of arrival must not choose the representatives
        near = next((known for known in stacks if _parallel(known, orientation)), orientation)
        stacks.setdefault(near, []).extend(placed[orientation])
        if len(stacks) > MAX_STACKS:
            return []
    return list(stacks.values())


def _parallel(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(a - b) <= ORIENTATION_TOLERANCE for a, b in zip(one, other, strict=False))


def _levels(positions_mm: Iterable[float]) -> list[tuple[float, int]]:
    """Distinct positions in mm, ascending, each with how often it occurs."""
    levels: list[tuple[float, int]] = []
    for position in sorted(positions_mm):
        if levels and position - levels[-1][0] <= POSITION_TOLERANCE_MM:
            levels[-1] = (levels[-1][0], levels[-1][1] + 1)
        else:
            levels.append((position, 1))
    return levels


def _missing_slice(levels: Sequence[tuple[float, int]]) -> str:
    """The first sign of a missing slice, empty when there is none."""
    usual = max(count for _, count in levels)
    for position, count in levels:
        if count < usual:
            return f"slice position {position:.1f} mm has {count} of {usual} instances"
    if len(levels) < MIN_POSITIONS:
        return ""
    steps = [(high - low, low, high) for (low, _), (high, _) in pairwise(levels)]
    spacing = min(step for step, _, _ in steps)
    for step, low, high in steps:
        if step > HOLE_FACTOR * spacing:
            return f"no slice between {low:.1f} and {high:.1f} mm, others lie {spacing:.1f} mm apart"
    return ""


def _ranges(holes: Sequence[tuple[int, int]]) -> str:
    shown = [str(low) if low == high else f"{low} to {high}" for low, high in holes[:3]]
    return ", ".join(shown) + (f" and {len(holes) - 3} more" if len(holes) > 3 else "")
