"""Rules as plain tables (dicts, lists and scalars, the common part of TOML and JSON) and back, without loss.

    name, enabled, description, priority, continue, pipeline, destinations, [options]
    [when]      one condition
    [[inputs]]  role and when, for each of several series; wait_limit_s

A condition is one table: ``{ all = [...] }``, ``{ any = [...] }``, ``{ not = {...} }``, or an attribute with
one comparison, ``{ attribute = "Modality", equals = "MR" }``.

Every error names the place, such as ``rules[2].when.all[1].equals``, what was found and what was expected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

from gateway.domain.comparisons import COMPARISONS
from gateway.domain.conditions import AllOf, AnyOf, Condition, Not
from gateway.domain.rules import PRIORITIES, Option, Rule, RuleInput
from gateway.domain.traces import shown
from gateway.errors import ConfigurationError

Kind = TypeVar("Kind")

MAX_RULES = 500
MAX_CONDITIONS = 200
MAX_DEPTH = 12

_GROUPS: dict[str, Callable[[tuple[Condition, ...]], Condition]] = {"all": AllOf, "any": AnyOf}
_CONDITION_WORDS = ("all", "any", "not", *COMPARISONS)
_INPUT_KEYS = ("role", "when")
_RULE_KEYS = (
    "name",
    "enabled",
    "description",
    "priority",
    "continue",
    "pipeline",
    "destinations",
    "options",
    "when",
    "inputs",
    "wait_limit_s",
)


def rules_from_table(table: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules of a whole file, ``{"rules": [...]}``, in order. Raises ConfigurationError."""
    _require_keys(table, ("rules",), "the file")
    entries = _of_kind(table.get("rules", []), list, "rules", "a list of rules")
    if len(entries) > MAX_RULES:
        raise ConfigurationError(f"rules: found {len(entries)}; expected at most {MAX_RULES}")
    rules = tuple(rule_from_table(entry, f"rules[{index}]") for index, entry in enumerate(entries))
    places: dict[str, int] = {}
    for index, rule in enumerate(rules):
        if rule.name in places:
            raise ConfigurationError(
                f"rules[{index}].name: found {rule.name} as in rules[{places[rule.name]}]; expected another name"
            )
        places[rule.name] = index
    return rules


def rules_to_table(rules: Sequence[Rule]) -> dict[str, Any]:
    """The whole file of these rules."""
    return {"rules": [rule_to_table(rule) for rule in rules]}


def rule_from_table(table: object, place: str = "rule") -> Rule:
    """The rule of one table, found at `place`. Raises ConfigurationError."""
    read = _Reader(_table(table, place), place)
    _require_keys(read.table, _RULE_KEYS, place)
    when = read.table.get("when")
    inputs = read.optional("inputs", list, "a list of tables with role and when", [])
    with _at(place):
        return Rule(
            name=read.required("name", str, "a text"),
            pipeline=read.required("pipeline", str, "the id of a pipeline"),
            destinations=read.texts("destinations"),
            when=None if when is None else condition_from_table(when, f"{place}.when"),
            inputs=tuple(_input(entry, f"{place}.inputs[{index}]") for index, entry in enumerate(inputs)),
            wait_limit_s=read.number("wait_limit_s"),
            description=read.optional("description", str, "a text", ""),
            enabled=read.optional("enabled", bool, "true or false", True),
            continues=read.optional("continue", bool, "true or false", False),
            priority=_priority(read.table.get("priority", PRIORITIES["normal"]), f"{place}.priority"),
            options=_options(read.optional("options", dict, "a table", {}), f"{place}.options"),
        )


def rule_to_table(rule: Rule) -> dict[str, Any]:
    """The table of one rule; what has its default is left out, except whether it is enabled."""
    words = {number: word for word, number in PRIORITIES.items()}
    table: dict[str, Any] = {"name": rule.name, "enabled": rule.enabled}
    if rule.description:
        table["description"] = rule.description
    table["pipeline"] = rule.pipeline
    table["destinations"] = list(rule.destinations)
    if rule.priority != PRIORITIES["normal"]:
        table["priority"] = words.get(rule.priority, rule.priority)
    if rule.continues:
        table["continue"] = True
    if rule.wait_limit_s is not None:
        table["wait_limit_s"] = rule.wait_limit_s
    if rule.options:
        table["options"] = dict(rule.options)
    if rule.when is not None:
        table["when"] = rule.when.to_table()
    if rule.inputs:
        table["inputs"] = [{"role": one.role, "when": one.when.to_table()} for one in rule.inputs]
    return table


def canonical_json(rule: Rule) -> str:
    """The one text that every writing of the same rule leads to."""
    return json.dumps(rule_to_table(rule), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(rule: Rule) -> str:
    """SHA-256 of the canonical JSON, hexadecimal: two versions of a rule are equal when it is."""
    return hashlib.sha256(canonical_json(rule).encode()).hexdigest()


def condition_from_table(table: object, place: str = "when") -> Condition:
    """The condition of one table, found at `place`. Raises ConfigurationError."""
    return _Conditions().read(table, place, depth=1)


class _Conditions:
    """Reads one tree of conditions and counts them."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, table: object, place: str, depth: int) -> Condition:
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_CONDITIONS:
            raise ConfigurationError(
                f"{place}: found more than {MAX_DEPTH} levels or {MAX_CONDITIONS} conditions; expected fewer, "
                "split the rule"
            )
        fields = _table(table, place)
        _require_keys(fields, ("attribute", *_CONDITION_WORDS), place)
        words = [word for word in _CONDITION_WORDS if word in fields]
        if len(words) != 1:
            raise ConfigurationError(
                f"{place}: found {' and '.join(words) or 'no comparison'}; expected exactly one of "
                f"{', '.join(_CONDITION_WORDS)}"
            )
        word = words[0]
        if word in COMPARISONS:
            return _comparison(word, fields, place)
        if "attribute" in fields:
            raise ConfigurationError(f"{place}: found attribute beside {word}; expected it inside")
        return self._joined(word, fields[word], f"{place}.{word}", depth + 1)

    def _joined(self, word: str, inner: object, place: str, depth: int) -> Condition:
        if word == "not":
            return Not(self.read(inner, place, depth))
        entries = _of_kind(inner, list, place, "a list of conditions")
        with _at(place):
            return _GROUPS[word](
                tuple(self.read(entry, f"{place}[{index}]", depth) for index, entry in enumerate(entries))
            )


def _comparison(word: str, fields: Mapping[str, Any], place: str) -> Condition:
    if "attribute" not in fields:
        raise ConfigurationError(f"{place}.attribute: found none; expected the attribute to compare")
    attribute = _of_kind(fields["attribute"], str, f"{place}.attribute", "a DICOM keyword or tag")
    operand = fields[word]
    with _at(f"{place}.{word}"):
        return COMPARISONS[word](attribute, tuple(operand) if isinstance(operand, list) else operand)


def _input(table: object, place: str) -> RuleInput:
    read = _Reader(_table(table, place), place)
    _require_keys(read.table, _INPUT_KEYS, place)
    role = read.required("role", str, "a role of the pipeline")
    when = condition_from_table(read.required("when", dict, "a condition"), f"{place}.when")
    with _at(place):
        return RuleInput(role, when)


def _priority(found: object, place: str) -> int:
    if isinstance(found, str) and found in PRIORITIES:
        return PRIORITIES[found]
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    raise ConfigurationError(f"{place}: found {shown(found)}; expected {', '.join(PRIORITIES)} or 0 to 9")


def _options(table: Mapping[str, Any], place: str) -> dict[str, Option]:
    for name, value in table.items():
        _of_kind(value, str | int | float | bool, f"{place}.{name}", "a text, a number, true or false")
    return dict(table)


class _Reader:
    """Reads the keys of one table with their kinds."""

    def __init__(self, table: Mapping[str, Any], place: str) -> None:
        self.table = table
        self._place = place

    def required(self, key: str, kind: type[Kind], expected: str) -> Kind:
        if key not in self.table:
            raise ConfigurationError(f"{self._place}.{key}: found none; expected {expected}")
        return _of_kind(self.table[key], kind, f"{self._place}.{key}", expected)

    def optional(self, key: str, kind: type[Kind], expected: str, default: Kind) -> Kind:
        return self.required(key, kind, expected) if key in self.table else default

    def texts(self, key: str) -> tuple[str, ...]:
        entries = self.required(key, list, "a list of names")
        return tuple(
            _of_kind(entry, str, f"{self._place}.{key}[{index}]", "a name") for index, entry in enumerate(entries)
        )

    def number(self, key: str) -> float | None:
        if key not in self.table:
            return None
        value = self.table[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ConfigurationError(f"{self._place}.{key}: found {shown(value)}; expected seconds above 0")
        return value
