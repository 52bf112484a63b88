"""The comparisons that a rule can make with an attribute; `COMPARISONS` has them by the word of the rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, ClassVar

from gateway.domain.conditions import Comparison, Value, Values
from gateway.domain.pattern import Pattern
from gateway.domain.traces import shown, shown_values
from gateway.errors import ConfigurationError

Number = int | float
Scalar = str | int | float

# Longer values are not searched for patterns.
MAX_SEARCHED_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Exists(Comparison[bool]):
    """The attribute has a value; with `false`, it has none."""

    operator: ClassVar[str] = "exists"

    def check(self) -> None:
        if not isinstance(self.operand, bool):
            raise _unexpected(self.operand, "true or false")

    def passes(self, value: Value) -> bool:
        return True

    def holds(self, values: Values) -> bool:
        return bool(values) is self.operand


@dataclass(frozen=True, slots=True)
class Equals(Comparison[Scalar]):
    """A value is this text or this number."""

    operator: ClassVar[str] = "equals"

    def check(self) -> None:
        _require_scalar(self.operand)

    def passes(self, value: Value) -> bool:
        return _equal(self.operand, value)


@dataclass(frozen=True, slots=True)
class OneOf(Comparison[tuple[Scalar, ...]]):
    """A value is one of these texts or numbers."""

    operator: ClassVar[str] = "one_of"

    def check(self) -> None:
        if not isinstance(self.operand, tuple) or not self.operand:
            raise _unexpected(self.operand, "a list of texts or numbers")
        for one in self.operand:
            _require_scalar(one)

    def passes(self, value: Value) -> bool:
        return any(_equal(one, value) for one in self.operand)


@dataclass(frozen=True, slots=True)
class Contains(Comparison[str]):
    """A value contains this text."""

    operator: ClassVar[str] = "contains"

    def check(self) -> None:
        _require_text(self.operand)

    def passes(self, value: Value) -> bool:
        return _folded(self.operand) in _folded(_as_text(value))


@dataclass(frozen=True, slots=True)
class Glob(Comparison[str]):
    """A whole value fits this text with the wildcards ``*`` (any text) and ``?`` (any character)."""

    operator: ClassVar[str] = "glob"
    pattern: Pattern = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        _require_text(self.operand)
        object.__setattr__(self, "pattern", Pattern.from_wildcards(self.operand.strip()))

    def passes(self, value: Value) -> bool:
        return _found(self.pattern, value)


@dataclass(frozen=True, slots=True)
class Regex(Comparison[str]):
    """This pattern occurs in a value (`gateway.domain.pattern` has the syntax)."""

    operator: ClassVar[str] = "regex"
    pattern: Pattern = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        _require_text(self.operand)
        object.__setattr__(self, "pattern", Pattern(self.operand))

    def passes(self, value: Value) -> bool:
        return _found(self.pattern, value)


@dataclass(frozen=True, slots=True)
class Greater(Comparison[Number]):
    """A value is a number above this one."""

    operator: ClassVar[str] = "greater"

    def check(self) -> None:
        _require_number(self.operand)

    def passes(self, value: Value) -> bool:
        number = _as_number(value)
        return number is not None and number > self.operand


@dataclass(frozen=True, slots=True)
class Less(Comparison[Number]):
    """A value is a number below this one."""

    operator: ClassVar[str] = "less"

    def check(self) -> None:
        _require_number(self.operand)

    def passes(self, value: Value) -> bool:
        number = _as_number(value)
        return number is not None and number < self.operand


@dataclass(frozen=True, slots=True)
class Between(Comparison[tuple[Number, Number]]):
    """A value is a number from the first to the second of these, both included."""

    operator: ClassVar[str] = "between"

    def check(self) -> None:
        if not isinstance(self.operand, tuple) or len(self.operand) != 2:
            raise _unexpected(self.operand, "a list of two numbers")
        for one in self.operand:
            _require_number(one)
        if self.operand[0] > self.operand[1]:
            raise _unexpected(self.operand, "two numbers, the smaller one first")

    def passes(self, value: Value) -> bool:
        number = _as_number(value)
        return number is not None and self.operand[0] <= number <= self.operand[1]

    @property
    def expected(self) -> str:
        return f"{shown(self.operand[0])} and {shown(self.operand[1])}"


@dataclass(frozen=True, slots=True)
class InNetwork(Comparison[tuple[str, ...]]):
    """The source address lies in one of these networks, written as CIDR (RFC 4632): ``10.1.0.0/16``."""

    operator: ClassVar[str] = "in_network"
    networks: tuple[IPv4Network | IPv6Network, ...] = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        if self.attribute != "source_address":
            raise ConfigurationError(f"found attribute {self.attribute}; expected source_address")
        if not isinstance(self.operand, tuple) or not self.operand:
            raise _unexpected(self.operand, "a list of networks")
        object.__setattr__(self, "networks", tuple(_network(one) for one in self.operand))

    def passes(self, value: Value) -> bool:
        try:
            address = ip_address(_as_text(value))
        except ValueError:
            return False
        # a socket that listens on both protocols shows IPv4 peers as ::ffff:10.1.2.3
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


COMPARISONS: dict[str, type[Comparison[Any]]] = {
    kind.operator: kind for kind in (Exists, Equals, OneOf, Contains, Glob, Regex, Greater, Less, Between, InNetwork)
}


def _equal(expected: Scalar, value: Value) -> bool:
    if isinstance(expected, str) and isinstance(value, str):
        return _folded(expected) == _folded(value)
    number = _as_number(expected)
    return number is not None and number == _as_number(value)


def _found(pattern: Pattern, value: Value) -> bool:
    text = _as_text(value).strip()
    return len(text) <= MAX_SEARCHED_LENGTH and pattern.search(text)


def _folded(text: str) -> str:
    return text.strip().casefold()


def _as_text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def _as_number(value: Scalar) -> float | None:
    """The finite number that this is or reads as, else None."""
    if isinstance(value, str) and "_" in value:  # Python's grouping sign, which no DICOM number has
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _network(text: object) -> IPv4Network | IPv6Network:
    if isinstance(text, str):
        try:
            return ip_network(text)
        except ValueError:
            pass
    raise _unexpected(text, "a network such as 10.1.0.0/16, whose bits beyond the prefix are 0")


def _require_text(value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise _unexpected(value, "a text")


def _require_number(value: object, expected: str = "a number") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or _as_number(value) is None:
        raise _unexpected(value, expected)


def _require_scalar(value: object) -> None:
    if isinstance(value, str):
        _require_text(value)
    else:
        _require_number(value, "a text or a number")


def _unexpected(found: object, expected: str) -> ConfigurationError:
    text = f"[{shown_values(found)}]" if isinstance(found, tuple | list) else shown(found)
    return ConfigurationError(f"found {text}; expected {expected}")
