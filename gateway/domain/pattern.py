"""Regular expressions that are searched in time proportional to the length of the value.

A rule's pattern is written by people and runs on text that peers send, so a pattern such as ``(a+)+$`` must
not stop the gateway. The `re` module backtracks; this matcher follows all alternatives at once (K. Thompson,
"Regular expression search algorithm", CACM 11(6), 1968) and remembers the sets of them that it has met.

Upper and lower case are one. A pattern is searched anywhere in the value unless it is anchored.

    x   .           this character, any character       ^   $     the beginning, the end of the value
    [a-z]  [^a-z]   one of these, none of these         \\b  \\B    at the edge of a word, not at one
    \\d  \\w  \\s      digit, word character, white space  \\D \\W \\S  the opposites
    ( )   (?: )     a group                             a|b       either
    *   +   ?       any number, at least one, at most   {3}  {2,}  {2,4}   so many
                    one; a further ``?`` changes nothing
    \\.  \\*  \\( ...   the character itself

Refused: back references, look-around, flags, named groups, possessive quantifiers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.errors import ConfigurationError

MAX_PATTERN_LENGTH = 256
MAX_WILDCARD_LENGTH = 100
# Steps of the compiled pattern, in which counted repeats are written out.
MAX_STEPS = 512
MAX_GROUP_DEPTH = 32

_CharacterTest = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Take:
    """Goes on when the next character passes."""

    accepts: _CharacterTest


@dataclass(frozen=True, slots=True)
class _Fork:
    """Goes on at each of these distances at once."""

    distances: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Assert:
    """Goes on when the characters before and after this place pass; empty text stands for an end."""

    holds: Callable[[str, str], bool]


_Steps = tuple[_Take | _Fork | _Assert, ...]
_Threads = frozenset[int]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern ready to search. Raises ConfigurationError for one malformed, refused or too large."""

    text: str
    _steps: _Steps = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.text) <= MAX_PATTERN_LENGTH:
            raise ConfigurationError(
                f"found a pattern of {len(self.text)} characters, expected 1 to {MAX_PATTERN_LENGTH}"
            )
        object.__setattr__(self, "_steps", _Compiler(self.text).compile())

    @classmethod
    def from_wildcards(cls, text: str) -> Pattern:
        """The pattern of a whole value: ``*`` is any text, ``?`` any character (PS3.4 C.2.2.2.4)."""
        if not 1 <= len(text) <= MAX_WILDCARD_LENGTH:
            raise ConfigurationError(f"found a text of {len(text)} characters, expected 1 to {MAX_WILDCARD_LENGTH}")
        wildcards = {"*": ".*", "?": "."}
        return cls("^" + "".join(wildcards.get(char) or _escaped(char) for char in text) + "$")

    def search(self, value: str) -> bool:
        """Whether the pattern occurs in `value`; takes at most len(value) times the number of steps."""
        moves: dict[tuple[_Threads, bool, bool, str], _Threads | None] = {}
        threads: _Threads = frozenset()
        before = ""
        for after in (*value, ""):
            key = (threads, before == "", _is_word(before), after)
            if key not in moves:
                moves[key] = self._move(threads, before, after)
            following = moves[key]
            if following is None:
                return True
            threads, before = following, after
        return False

    def _move(self, threads: _Threads, before: str, after: str) -> _Threads | None:
        """The threads beyond `after`; None when the pattern ends in front of it."""
        waiting = [0, *threads]  # the pattern may begin at every place
        reached: set[int] = set()
        beyond: set[int] = set()
        while waiting:
            at = waiting.pop()
            if at == len(self._steps):
                return None
            if at in reached:
                continue
            reached.add(at)
            match self._steps[at]:
                case _Take(accepts):
                    if after and accepts(after):
                        beyond.add(at + 1)
                case _Fork(distances):
                    waiting.extend(at + distance for distance in distances)
                case _Assert(holds):
                    if holds(before, after):
                        waiting.append(at + 1)
        return frozenset(beyond)


class _Compiler:
    """Turns the text of a pattern into steps by recursive descent; each method reads one part of it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def compile(self) -> _Steps:
        steps = self._alternatives()
        if self._next():
            raise self._refused("a group that was never opened")
        return steps

    def _alternatives(self) -> _Steps:
        steps = self._sequence()
        while self._skip("|"):
            other = self._sequence()
            steps = (_Fork((1, len(steps) + 2)), *steps, _Fork((len(other) + 1,)), *other)
        return steps

    def _sequence(self) -> _Steps:
        steps: _Steps = ()
        while self._next() not in ("", "|", ")"):
            steps += self._repeated()
            if len(steps) > MAX_STEPS:
                raise self._too_large()
        return steps

    def _repeated(self) -> _Steps:
        steps = self._atom()
        at_least, at_most = self._quantifier()
        if len(steps) * max(at_least, at_most or 0, 1) > MAX_STEPS:
            raise self._too_large()
        again: _Steps
        if at_most is None:
            again = (_Fork((1, len(steps) + 2)), *steps, _Fork((-len(steps) - 1,)))
        else:
            again = (_Fork((1, len(steps) + 1)), *steps) * (at_most - at_least)
        return steps * at_least + again

    def _quantifier(self) -> tuple[int, int | None]:
        """At least and at most how often, None for any number."""
        if self._skip("*"):
            bounds: tuple[int, int | None] = (0, None)
        elif self._skip("+"):
            bounds = (1, None)
        elif self._skip("?"):
            bounds = (0, 1)
        elif self._skip("{"):
            bounds = self._counts()
        else:
            return 1, 1
        self._skip("?")
        if self._next() in ("*", "+", "?", "{"):
            raise self._refused("a quantifier after a quantifier")
        return bounds

    def _counts(self) -> tuple[int, int | None]:
        at_least = self._number()
        at_most: int | None = at_least
        if self._skip(","):
            at_most = None if self._next() == "}" else self._number()
        if not self._skip("}") or (at_most is not None and at_most < at_least):
            raise self._refused("a count that is none", "{3}, {2,} or {2,4}")
        return at_least, at_most

    def _number(self) -> int:
        digits = ""
        while self._next() and self._next() in "0123456789":
            digits += self._take()
        if not 1 <= len(digits) <= 3:
            raise self._refused("a count that is none", "{3}, {2,} or {2,4}")
        return int(digits)

    def _atom(self) -> _Steps:
        char = self._take()
        match char:
            case "(":
                return self._group()
            case "[":
                return (_Take(self._character_class()),)
            case "\\":
                return (self._escape(),)
            case ".":
                return (_Take(lambda _: True),)
            case "^":
                return (_Assert(lambda before, after: before == ""),)
            case "$":
                return (_Assert(lambda before, after: after == ""),)
            case "*" | "+" | "?" | "{":
                raise self._refused(f"{char} with nothing to repeat", f"a character before it, or \\{char}")
        return (_Take(_one_of(frozenset(char), (), ())),)

    def _group(self) -> _Steps:
        if self._skip("?") and not self._skip(":"):
            raise self._refused("(? and an extension", "( or (?:")
        self._depth += 1
        if self._depth > MAX_GROUP_DEPTH:
            raise self._refused(f"more than {MAX_GROUP_DEPTH} groups in each other")
        steps = self._alternatives()
        if not self._skip(")"):
            raise self._refused("a group that is never closed")
        self._depth -= 1
        return steps

    def _escape(self) -> _Take | _Assert:
        char = self._take()
        if char in _EDGES:
            return _Assert(_EDGES[char])
        if char in _CLASSES:
            return _Take(_CLASSES[char])
        return _Take(_one_of(frozenset(self._literal(char)), (), ()))

    def _literal(self, escaped: str) -> str:
        """The character that a backslash protects."""
        if not escaped or escaped.isalnum():
            raise self._refused(f"\\{escaped}", "one of \\d \\w \\s \\b, their capitals, or a protected sign")
        return escaped

    def _character_class(self) -> _CharacterTest:
        negated = self._skip("^")
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        classes: list[_CharacterTest] = []
        while not self._skip("]"):
            low = self._class_member()
            if callable(low):
                classes.append(low)
            elif self._next() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._skip("-")
                high = self._class_member()
                if callable(high) or high < low:
                    raise self._refused("a range that is none", "such as a-z")
                ranges.append((low, high))
            else:
                singles.add(low)
        if not (singles or ranges or classes):
            raise self._refused("an empty [ ]", "at least one character in it")
        test = _one_of(frozenset(singles), tuple(ranges), tuple(classes))
        return _opposite(test) if negated else test

    def _class_member(self) -> str | _CharacterTest:
        char = self._take()
        if not char:
            raise self._refused("a [ that is never closed", "]")
        if char != "\\":
            return char
        escaped = self._take()
        return _CLASSES.get(escaped) or self._literal(escaped)

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._next()
        self._at += len(char)
        return char

    def _skip(self, char: str) -> bool:
        found = self._next() == char
        self._at += found
        return found

    def _refused(self, found: str, expected: str = "the syntax of docs/rules.md") -> ConfigurationError:
        return ConfigurationError(f"pattern, character {self._at}: found {found}; expected {expected}")

    def _too_large(self) -> ConfigurationError:
        return ConfigurationError(
            f"found a pattern of more than {MAX_STEPS} steps; expected fewer or shorter counted repeats"
        )


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _escaped(char: str) -> str:
    return char if char.isalnum() else f"\\{char}"


def _one_of(
    singles: frozenset[str], ranges: tuple[tuple[str, str], ...], classes: tuple[_CharacterTest, ...]
) -> _CharacterTest:
    """A test for these characters, blind to case."""

    def accepts(char: str) -> bool:
        return any(
            one in singles or any(low <= one <= high for low, high in ranges) or any(passes(one) for passes in classes)
            for one in {char, char.lower(), char.upper()}
        )

    return accepts


def _opposite(test: _CharacterTest) -> _CharacterTest:
    return lambda char: not test(char)


_CLASSES: dict[str, _CharacterTest] = {"d": str.isdecimal, "w": _is_word, "s": str.isspace}
_CLASSES |= {letter.upper(): _opposite(test) for letter, test in _CLASSES.items()}
_EDGES: dict[str, Callable[[str, str], bool]] = {
    "b": lambda before, after: _is_word(before) != _is_word(after),
    "B": lambda before, after: _is_word(before) == _is_word(after),
}
