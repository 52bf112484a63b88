"""Slices lie beside the source that they name, else beside the one in their place; none is left out."""

from __future__ import annotations

from gateway.domain.slice_pairs import Made, Pair, Slice, difference_in_words, pair_slices

SOURCES = [Slice(f"1.{number}", 1, number, 4.0 * number) for number in (3, 1, 2)]


def made(number: int, source: str, frame: int = 1, position_mm: float | None = None) -> Made:
    return Made(Slice(f"2.{number}", 1, number, position_mm), (source, frame))


def test_each_slice_lies_beside_the_source_that_it_names_in_the_order_of_the_numbers() -> None:
    pairs = pair_slices(SOURCES, [made(2, "1.2"), made(3, "1.3"), made(1, "1.1")])
    assert [(pair.source and pair.source.number, pair.synthetic and pair.synthetic.number) for pair in pairs] == [
        (1, 1), (2, 2), (3, 3),
    ]  # fmt: skip
    assert difference_in_words(pairs) == ""


def test_frames_of_one_instance_are_told_apart() -> None:
    sources = [Slice("1", frame) for frame in (1, 2, 3)]
    pairs = pair_slices(sources, [made(1, "1", 3), made(2, "1", 2), made(3, "1", 1)])
    assert [pair.source and pair.source.frame for pair in pairs] == [3, 2, 1]


def test_a_source_that_is_not_here_under_its_uid_is_found_by_its_place() -> None:
    pairs = pair_slices(SOURCES, [made(1, "gone", position_mm=8.004), made(2, "gone too", position_mm=99.0)])
    assert Pair(SOURCES[2], Slice("2.1", 1, 1, 8.004)) in pairs
    assert Pair(None, Slice("2.2", 1, 2, 99.0)) in pairs


def test_different_counts_are_said_in_words() -> None:
    pairs = pair_slices(SOURCES, [made(1, "1.1"), made(2, "gone")])
    assert {pair.source for pair in pairs} == {*SOURCES, None}
    assert len(pairs) == 4
    said = difference_in_words(pairs)
    assert said.startswith("The source has 3 slices, the synthetic series 2.")
    assert "2 of the source have no synthetic slice: they came later" in said
    (alone,) = [pair for pair in pairs if pair.source == SOURCES[0]]
    assert "1 of the source has no synthetic slice: it came later" in difference_in_words([alone])
    assert "1 synthetic has no source slice" in said


def test_several_thin_slices_lie_beside_one_source_and_scroll_by_position() -> None:
    sources = [Slice(f"1.{number}", 1, number, -5.0 * number) for number in (1, 2)]
    thin = [made(number, "1.1" if number <= 5 else "1.2", position_mm=-2.0 - number) for number in range(1, 11)]
    late = Slice("1.9", 1, 9, -9.5)  # lies within the thin ones, has none of its own
    pairs = pair_slices([*sources, late], thin)
    assert [pair.synthetic and pair.synthetic.number for pair in pairs] == [1, 2, 3, 4, 5, 6, 7, None, 8, 9, 10]
    assert [pair.source for pair in pairs[:5]] == sources[:1] * 5
    assert difference_in_words(pair_slices(sources, thin)) == ""
    assert difference_in_words(pairs).startswith("The source has 3 slices, the synthetic series 10.")


def test_thin_slices_whose_source_has_another_uid_are_found_by_their_place() -> None:
    sources = [Slice("1.1", 1, 1, 0.0), Slice("1.2", 1, 2, 5.0)]
    thin = [made(number, "gone", position_mm=float(number - 3)) for number in range(1, 11)]
    pairs = pair_slices(sources, thin)
    assert [pair.source for pair in pairs] == [sources[0]] * 5 + [sources[1]] * 5
