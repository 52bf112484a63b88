"""Which slice of a source lies beside which slice of what was made from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

_SAME_POSITION_MM = 0.01
_LAST = 2**31  # Instance Number is an IS: less than that


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame of a series: `frame` counts from 1 within its instance, `position_mm` is along the slice normal."""

    sop_instance_uid: str
    frame: int = 1
    number: int | None = None
    position_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A synthetic slice with the source frame that it names: SOP Instance UID, and the frame from 1."""

    slice: Slice
    source: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """What is shown at one place of the scroll bar; one side is None where only the other has a slice."""

    source: Slice | None
    synthetic: Slice | None


def pair_slices(sources: Sequence[Slice], made: Sequence[Made]) -> list[Pair]:
    """Each synthetic slice beside the source frame that it names, else the one in its place; no slice is left out.

    Several synthetic slices may lie beside one source frame. They come in the order of their positions where all have
    one, in the way in which their Instance Numbers run; otherwise in the order of the numbers, as a PACS scrolls.
    Source slices without a place in that order come last.
    """
    named = {(one.sop_instance_uid, one.frame): one for one in sources}
    pairs = [Pair(named.get(one.source) or _in_the_place_of(one.slice, sources), one.slice) for one in made]
    shown = {pair.source for pair in pairs}
    pairs += [Pair(source, None) for source in sources if source not in shown]
    return sorted(pairs, key=_by_position(made) or _by_number)


def difference_in_words(pairs: Sequence[Pair]) -> str:
    """What to tell a reader of two series that do not match slice by slice; "" when they do."""
    alone = sum(pair.synthetic is None for pair in pairs)
    astray = sum(pair.source is None for pair in pairs)
    if not alone and not astray:
        return ""
    sources = len({pair.source for pair in pairs} - {None})
    words = [f"The source has {sources} slices, the synthetic series {len(pairs) - alone}."]
    if alone:
        came = "has no synthetic slice: it came" if alone == 1 else "have no synthetic slice: they came"
        words.append(f"{alone} of the source {came} later.")
    if astray:
        words.append(f"{astray} synthetic {'has' if astray == 1 else 'have'} no source slice here any more.")
    return " ".join(words)


def _in_the_place_of(synthetic: Slice, sources: Sequence[Slice]) -> Slice | None:
    """The source slice in whose thickness the synthetic one lies."""
    places = sorted((one.position_mm, index) for index, one in enumerate(sources) if one.position_mm is not None)
    if synthetic.position_mm is None or not places:
        return None
    steps = [after - before for (before, _), (after, _) in pairwise(places) if after - before > _SAME_POSITION_MM]
    away, index = min((abs(place - synthetic.position_mm), index) for place, index in places)
    return sources[index] if away <= max(_SAME_POSITION_MM, 0.5 * min(steps, default=0.0)) else None


def _by_position(made: Sequence[Made]) -> Callable[[Pair], float] | None:
    """The key of the scroll bar where every synthetic slice has a position."""
    numbers = sorted(
        (one.slice.number or 0, one.slice.position_mm) for one in made if one.slice.position_mm is not None
    )
    if len(numbers) < len(made) or len({position for _, position in numbers}) < 2:
        return None
    way = 1.0 if numbers[0][1] < numbers[-1][1] else -1.0

    def place(pair: Pair) -> float:
        positions = [one.position_mm for one in (pair.synthetic, pair.source) if one and one.position_mm is not None]
        return way * positions[0] if positions else inf

    return place


def _by_number(pair: Pair) -> tuple[int, int]:
    shown = pair.synthetic or pair.source
    assert shown is not None, "a pair has a side"
    return (_LAST if shown.number is None else shown.number, shown.frame)
