"""Which slice of a source lies beside which slice of what was made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    In the order of the Instance Numbers, as a PACS scrolls; source slices without a number come last.
    """
    left = {(one.sop_instance_uid, one.frame): one for one in sources}
    pairs, astray = [], []
    for one in made:
        source = left.pop(one.source, None)
        if source is None:
            astray.append(one.slice)
        else:
            pairs.append(Pair(source, one.slice))
    for synthetic in astray:
        place = next((key for key, source in left.items() if _is_same_place(source, synthetic)), None)
        pairs.append(Pair(left.pop(place) if place else None, synthetic))
    pairs += [Pair(source, None) for source in left.values()]
    return sorted(pairs, key=_place)


def difference_in_words(pairs: Sequence[Pair]) -> str:
    """What to tell a reader of two series that do not match slice by slice; "" when they do."""
    alone = sum(pair.synthetic is None for pair in pairs)
    astray = sum(pair.source is None for pair in pairs)
    if not alone and not astray:
        return ""
    words = [f"The source has {len(pairs) - astray} slices, the synthetic series {len(pairs) - alone}."]
    if alone:
        came = "has no synthetic slice: it came" if alone == 1 else "have no synthetic slice: they came"
        words.append(f"{alone} of the source {came} later.")
    if astray:
        words.append(f"{astray} synthetic {'has' if astray == 1 else 'have'} no source slice here any more.")
    return " ".join(words)


def _is_same_place(source: Slice, synthetic: Slice) -> bool:
    if source.position_mm is None or synthetic.position_mm is None:
        return False
    return abs(source.position_mm - synthetic.position_mm) < _SAME_POSITION_MM


def _place(pair: Pair) -> tuple[int, int]:
    shown = pair.synthetic or pair.source
    assert shown is not None, "a pair has a side"
    return (_LAST if shown.number is None else shown.number, shown.frame)
