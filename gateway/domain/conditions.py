"""Conditions on a series: comparisons of one attribute each (`comparisons.py`), joined by all, any and not.

What holds for every comparison:

- An attribute with several values passes when any of its values passes.
- Text is compared without regard to upper and lower case and to blanks at its ends.
- A number given in a rule is compared as a number, also with text that reads as one.
- An attribute that is absent, or present without a value, passes no comparison; `not` around it holds. The
  trace says "absent" or "empty".
- Every condition is evaluated, also behind one that decided already, so that a trace shows them all.

Nothing of a rule is ever run as code. Constructors raise ConfigurationError for what makes no sense.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from gateway.domain.traces import ABSENT, EMPTY, Trace, shown, shown_values
from gateway.errors import ConfigurationError

Value = str | float
Values = tuple[Value, ...]
Lookup = Callable[[str], Values | None]
OperandT = TypeVar("OperandT")

ASSOCIATION_ATTRIBUTES = ("calling_ae_title", "called_ae_title", "source_address")

_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{0,63}", re.ASCII)
_TAG = re.compile(r"\([0-9A-F]{4},[0-9A-F]{4}\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AssociationFacts:
    """Who sent the series, to whom and from which address: attributes beside those of the data set."""

    calling_ae_title: str
    called_ae_title: str
    source_address: str

    def beside(self, lookup: Lookup) -> Lookup:
        """`lookup` that also answers for the association."""

        def both(attribute: str) -> Values | None:
            if attribute in ASSOCIATION_ATTRIBUTES:
                return (getattr(self, attribute),)
            return lookup(attribute)

        return both


class Condition(ABC):
    """Something that holds for a series or does not."""

    __slots__ = ()

    @abstractmethod
    def evaluate(self, lookup: Lookup) -> Trace:
        """Whether it holds, with what was found."""

    @abstractmethod
    def to_table(self) -> dict[str, Any]:
        """The condition as plain dicts, lists and scalars."""

    @property
    @abstractmethod
    def attributes(self) -> frozenset[str]:
        """Every attribute that it asks for."""


@dataclass(frozen=True, slots=True)
class Group(Condition):
    """Several conditions, at least one."""

    conditions: tuple[Condition, ...]
    operator: ClassVar[str]

    def __post_init__(self) -> None:
        if not self.conditions:
            raise ConfigurationError("found an empty list; expected at least one condition")

    @abstractmethod
    def decides(self, held: int) -> bool:
        """Whether the group holds when `held` of its conditions do."""

    def evaluate(self, lookup: Lookup) -> Trace:
        traces = tuple(condition.evaluate(lookup) for condition in self.conditions)
        held = sum(trace.matched for trace in traces)
        found = f"{held} of {len(traces)} hold"
        return Trace(self.operator, self.decides(held), found=found, children=traces)

    def to_table(self) -> dict[str, Any]:
        return {self.operator: [condition.to_table() for condition in self.conditions]}

    @property
    def attributes(self) -> frozenset[str]:
        return frozenset(name for condition in self.conditions for name in condition.attributes)


@dataclass(frozen=True, slots=True)
class AllOf(Group):
    """Holds when every one of its conditions holds."""

    operator: ClassVar[str] = "all"

    def decides(self, held: int) -> bool:
        return held == len(self.conditions)


@dataclass(frozen=True, slots=True)
class AnyOf(Group):
    """Holds when at least one of its conditions holds."""

    operator: ClassVar[str] = "any"

    def decides(self, held: int) -> bool:
        return held > 0


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """Holds when its condition does not, also because an attribute is absent."""

    condition: Condition

    def evaluate(self, lookup: Lookup) -> Trace:
        trace = self.condition.evaluate(lookup)
        return Trace("not", not trace.matched, children=(trace,))

    def to_table(self) -> dict[str, Any]:
        return {"not": self.condition.to_table()}

    @property
    def attributes(self) -> frozenset[str]:
        return self.condition.attributes


@dataclass(frozen=True, slots=True)
class Comparison(Condition, Generic[OperandT]):
    """What a rule asks of one attribute; `operand` is the value that stands in the rule."""

    attribute: str
    operand: OperandT
    operator: ClassVar[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "attribute", attribute_name(self.attribute))
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raises ConfigurationError for an operand that this comparison cannot use."""

    @abstractmethod
    def passes(self, value: Value) -> bool:
        """Whether one value of the attribute passes."""

    def evaluate(self, lookup: Lookup) -> Trace:
        found = lookup(self.attribute)
        values = tuple(value for value in found or () if value != "")
        text = ABSENT if found is None else shown_values(values) or EMPTY
        return Trace(self.operator, self.holds(values), self.attribute, self.expected, text)

    def holds(self, values: Values) -> bool:
        return any(self.passes(value) for value in values)

    @property
    def expected(self) -> str:
        """The operand for people."""
        return shown_values(self.operand) if isinstance(self.operand, tuple) else shown(self.operand)

    def to_table(self) -> dict[str, Any]:
        operand = list(self.operand) if isinstance(self.operand, tuple) else self.operand
        return {"attribute": self.attribute, self.operator: operand}

    @property
    def attributes(self) -> frozenset[str]:
        return frozenset({self.attribute})


def attribute_name(name: str) -> str:
    """`name` as data sets are asked for it: a keyword, an upper-case tag, or one of the association.

    Raises ConfigurationError for a text of any other form. Whether DICOM knows the keyword is not asked here.
    """
    tag = name.upper()
    if name in ASSOCIATION_ATTRIBUTES or _KEYWORD.fullmatch(name):
        return name
    if _TAG.fullmatch(tag):
        return tag
    raise ConfigurationError(
        f"found attribute {shown(name)}; expected a DICOM keyword such as SeriesDescription, a tag such as "
        f"(0019,10AB), or one of {', '.join(ASSOCIATION_ATTRIBUTES)}"
    )
