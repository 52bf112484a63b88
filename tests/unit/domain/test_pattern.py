"""The matcher against the `re` module, which is the definition of the syntax, and against time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.pattern import MAX_PATTERN_LENGTH, MAX_STEPS, Pattern
from gateway.errors import ConfigurationError

ALPHABET = "ab1_ -"
literals = st.sampled_from(["a", "b", "1", "_", " ", "-", "A", "B"])
atoms = (
    literals
    | st.sampled_from([".", "^", "$", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\b", r"\-"])
    | st.sampled_from(["[ab]", "[^a]", "[a-z]", "[A-Z1]", r"[\d_]", r"[^\w-]", "[-a]"])
)
quantifiers = st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{0,2}", "{1,}", "{0}"])
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("(?:{}){}".format, inner, quantifiers),
        st.builds("{}|{}".format, inner, inner),
        st.lists(inner, max_size=4).map("".join),
    ),
    max_leaves=8,
).filter(bool)


@settings(max_examples=600, deadline=None)
@given(patterns, st.text(alphabet=ALPHABET + "AB", max_size=10))
def test_it_finds_what_re_finds(pattern: str, value: str) -> None:
    if r"\b" in pattern and not value:
        return
    assert Pattern(pattern).search(value) == bool(re.search(pattern, value, re.IGNORECASE | re.DOTALL))


@pytest.mark.parametrize(
    ("pattern", "value", "found"),
    [
        ("t2.*sag|sag.*t2", "SAG T2 TSE", True),
        (r"\bfs\b", "T2 FS SAG", True),
        (r"\bfs\b", "OFFSET", False),
        (r"\bfs\b", "offs fs", True),
        (r"\BSET\b", "OFFSET", True),
        ("^stir$", "STIR", True),
        ("^stir$", "STIR 2", False),
        ("ä+", "LENDENWIRBELSÄULE", True),
        ("a$", "a\n", False),
        ("a.b", "a\nb", True),
        (r"te\s*=\s*\d{2,3}", "TR=4000 TE = 102", True),
        (r"[\]\[]", "x]", True),
        ("[a-]", "-", True),
    ],
)
def test_examples(pattern: str, value: str, found: bool) -> None:
    assert Pattern(pattern).search(value) is found


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("(a+)+$", "a" * 10_000),
        ("(a+)+$", "a" * 10_000 + "!"),
        ("a*a*a*a*a*b", "a" * 10_000),
        ("(x+x+)+y", "x" * 10_000),
        ("(a|a?)+$", "a" * 10_000 + "b"),
        ("(.*){50}c", "ab" * 5_000),
    ],
)
def test_patterns_that_make_a_backtracking_matcher_hang_take_no_time(pattern: str, value: str) -> None:
    compiled = Pattern(pattern)
    started_s = time.process_time()
    compiled.search(value)
    assert time.process_time() - started_s < 0.1


def test_the_largest_program_on_the_longest_value_is_bounded() -> None:
    """Every place a new set of alternatives: no memory of met sets helps."""
    compiled = Pattern("[01]*1[01]{200}[01]{200}x")
    value = "".join(format(number, "b") for number in range(200))[:1024]
    started_s = time.process_time()
    assert not compiled.search(value)
    assert time.process_time() - started_s < 5


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", "found a pattern of 0 characters, expected 1 to 256"),
        ("a" * (MAX_PATTERN_LENGTH + 1), "found a pattern of 257 characters"),
        ("(a", "a group that is never closed"),
        ("a)", "a group that was never opened"),
        ("[a", "a [ that is never closed"),
        ("[]", "an empty [ ]"),
        ("[z-a]", "a range that is none"),
        (r"[a-\d]", "a range that is none"),
        ("*a", "* with nothing to repeat"),
        ("a|+", "+ with nothing to repeat"),
        ("a**", "a quantifier after a quantifier"),
        ("a*+", "a quantifier after a quantifier"),
        ("a{3", "a count that is none"),
        ("a{3,2}", "a count that is none"),
        ("a{x}", "a count that is none"),
        ("a{1000}", "a count that is none"),
        (r"(a)\1", r"\1; expected one of"),
        ("a\\", "found \\; expected one of"),
        ("(?=a)", "(? and an extension"),
        ("(?<n>a)", "(? and an extension"),
        ("(?i)a", "(? and an extension"),
        ("(" * 40 + ")" * 40, "more than 32 groups"),
        ("(a{30}){30}", f"more than {MAX_STEPS} steps"),
        ("((((a{9}){9}){9}){9}){9}", f"more than {MAX_STEPS} steps"),
        ("a{400}b{400}", f"more than {MAX_STEPS} steps"),
    ],
)
def test_what_is_refused_and_why(pattern: str, found: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(found)):
        Pattern(pattern)


@pytest.mark.parametrize(
    ("wildcards", "value", "found"),
    [
        ("*SAG*", "t2 sag tse", True),
        ("SAG*", "T2 SAG", False),
        ("T?", "T2", True),
        ("T?", "T", False),
        ("a.c", "abc", False),
        ("[a]*(b)", "[A] (B)", True),
        ("*" * 100, "x" * 1000, True),
        ("*a" * 50, "a" * 1000 + "b", False),
    ],
)
def test_wildcards_cover_the_whole_value(wildcards: str, value: str, found: bool) -> None:
    assert Pattern.from_wildcards(wildcards).search(value) is found


@pytest.mark.parametrize("length", [0, 101])
def test_wildcards_are_bounded(length: int) -> None:
    with pytest.raises(ConfigurationError, match=f"found a text of {length} characters, expected 1 to 100"):
        Pattern.from_wildcards("*" * length)
