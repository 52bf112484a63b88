"""Rules as plain tables (dicts, lists and scalars, what TOML and JSON share) and back, without loss.

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

from gateway.domain.comparisons import COMPARISONS
from gateway.domain.conditions import AllOf, AnyOf, Condition, Not, attribute_name
from gateway.domain.rules import PRIORITIES, Option, Rule, RuleInput
from gateway.domain.traces import shown
from gateway.errors import ConfigurationError

Kind = TypeVar("Kind")
Table = Mapping[str, Any]

MAX_RULES = 500
MAX_CONDITIONS = 200
MAX_DEPTH = 12

_GROUPS: dict[str, type[AllOf] | type[AnyOf]] = {"all": AllOf, "any": AnyOf}
_CONDITION_WORDS = ("all", "any", "not", *COMPARISONS)
_RULE_KEYS = (
    *("name", "enabled", "description", "priority", "continue", "pipeline", "destinations", "options"),
    *("when", "inputs", "wait_limit_s"),
)


def rules_from_table(table: Table) -> tuple[Rule, ...]:
    """The rules of a whole file, ``{"rules": [...]}``, in order. Raises ConfigurationError."""
    _require_keys(table, {"rules"}, "file")
    entries: list[object] = _read(table, "", "rules", list, "a list of rules", default=[])
    if len(entries) > MAX_RULES:
        raise ConfigurationError(f"rules: found {len(entries)}; expected at most {MAX_RULES}")
    rules = tuple(rule_from_table(entry, f"rules[{index}]") for index, entry in enumerate(entries))
    places: dict[str, int] = {}
    for index, rule in enumerate(rules):
        first = places.setdefault(rule.name, index)
        if first != index:
            raise ConfigurationError(
                f"rules[{index}].name: found {rule.name}, the name of rules[{first}]; expected another"
            )
    return rules


def rules_to_table(rules: Sequence[Rule]) -> dict[str, Any]:
    """The whole file of these rules."""
    return {"rules": [rule_to_table(rule) for rule in rules]}


def rule_from_table(found: object, place: str = "rule") -> Rule:
    """The rule of one table, which stands at `place`. Raises ConfigurationError."""
    table = _of_kind(found, dict, place, "a table")
    _require_keys(table, _RULE_KEYS, place)
    inputs: list[object] = _read(table, place, "inputs", list, "a list of tables", default=[])
    parts: dict[str, Any] = {
        "name": _read(table, place, "name", str, "a text"),
        "pipeline": _read(table, place, "pipeline", str, "the id of a pipeline"),
        "destinations": _destinations(table, place),
        "when": condition_from_table(table["when"], f"{place}.when") if "when" in table else None,
        "inputs": tuple(_input(entry, f"{place}.inputs[{index}]") for index, entry in enumerate(inputs)),
        "wait_limit_s": _wait_limit_s(table, place),
        "description": _read(table, place, "description", str, "a text", default=""),
        "enabled": _read(table, place, "enabled", bool, "true or false", default=True),
        "continues": _read(table, place, "continue", bool, "true or false", default=False),
        "priority": _priority(table, place),
        "options": _options(table, place),
    }
    with _at(place):
        return Rule(**parts)


def rule_to_table(rule: Rule) -> dict[str, Any]:
    """The table of one rule, in the order in which people read it, without what has its default."""
    words = {number: word for word, number in PRIORITIES.items()}
    full = {
        "name": rule.name,
        "enabled": rule.enabled,
        "description": rule.description or None,
        "pipeline": rule.pipeline,
        "destinations": list(rule.destinations),
        "priority": None if words.get(rule.priority) == "normal" else words.get(rule.priority, rule.priority),
        "continue": rule.continues or None,
        "wait_limit_s": rule.wait_limit_s,
        "options": dict(rule.options) or None,
        "when": rule.when and rule.when.to_table(),
        "inputs": [{"role": one.role, "when": one.when.to_table()} for one in rule.inputs] or None,
    }
    return {key: value for key, value in full.items() if value is not None}


def canonical_json(rule: Rule) -> str:
    """The one text of this rule, whichever way it was written: 60 and 60.0 are the same number."""
    return json.dumps(_canonical(rule_to_table(rule)), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> Any:
    match value:
        case dict():
            return {key: _canonical(inner) for key, inner in value.items()}
        case list():
            return [_canonical(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
    return value


def digest(rule: Rule) -> str:
    """SHA-256 of the canonical JSON, hexadecimal; a rule that changed has another one."""
    return hashlib.sha256(canonical_json(rule).encode()).hexdigest()


def condition_from_table(found: object, place: str = "when") -> Condition:
    """The condition of one table, which stands at `place`. Raises ConfigurationError."""
    return _ConditionReader().read(found, place, depth=1)


class _ConditionReader:
    """Reads one tree of conditions and keeps it within bounds."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, found: object, place: str, depth: int) -> Condition:
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_CONDITIONS:
            raise ConfigurationError(
                f"{place}: found more than {MAX_DEPTH} levels or {MAX_CONDITIONS} conditions; expected fewer, "
                "split the rule"
            )
        table = _of_kind(found, dict, place, "a table with a condition")
        _require_keys(table, {"attribute", *_CONDITION_WORDS}, place)
        words = [word for word in _CONDITION_WORDS if word in table]
        if len(words) != 1:
            raise ConfigurationError(
                f"{place}: found {' and '.join(words) or 'no comparison'}; expected one of "
                f"{', '.join(_CONDITION_WORDS)}"
            )
        word = words[0]
        if word in COMPARISONS:
            return _comparison(table, place, word)
        if "attribute" in table:
            raise ConfigurationError(f"{place}.attribute: found beside {word}; expected inside its conditions")
        if word == "not":
            return Not(self.read(table["not"], f"{place}.not", depth + 1))
        return self._group(table, place, word, depth)

    def _group(self, table: Table, place: str, word: str, depth: int) -> Condition:
        entries: list[object] = _read(table, place, word, list, "a list of conditions")
        conditions = tuple(
            self.read(entry, f"{place}.{word}[{index}]", depth + 1) for index, entry in enumerate(entries)
        )
        with _at(f"{place}.{word}"):
            return _GROUPS[word](conditions)


def _comparison(table: Table, place: str, word: str) -> Condition:
    name = _read(table, place, "attribute", str, "a DICOM keyword or tag")
    with _at(f"{place}.attribute"):
        attribute = attribute_name(name)
    operand = table[word]
    with _at(f"{place}.{word}"):
        return COMPARISONS[word](attribute, tuple(operand) if isinstance(operand, list) else operand)


def _input(found: object, place: str) -> RuleInput:
    table = _of_kind(found, dict, place, "a table with role and when")
    _require_keys(table, {"role", "when"}, place)
    role = _read(table, place, "role", str, "a role of the pipeline")
    when = condition_from_table(table.get("when"), f"{place}.when")
    with _at(place):
        return RuleInput(role, when)


def _destinations(table: Table, place: str) -> tuple[str, ...]:
    entries: list[object] = _read(table, place, "destinations", list, "a list of names")
    return tuple(
        _of_kind(entry, str, f"{place}.destinations[{index}]", "a name") for index, entry in enumerate(entries)
    )


def _wait_limit_s(table: Table, place: str) -> float | None:
    value = table.get("wait_limit_s")
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ConfigurationError(f"{place}.wait_limit_s: found {shown(value)}; expected seconds")


def _priority(table: Table, place: str) -> int:
    value = table.get("priority", "normal")
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigurationError(f"{place}.priority: found {shown(value)}; expected {', '.join(PRIORITIES)} or 0 to 9")


def _options(table: Table, place: str) -> dict[str, Option]:
    options: dict[str, Any] = _read(table, place, "options", dict, "a table", default={})
    for name, value in options.items():
        if not isinstance(value, str | int | float):
            raise ConfigurationError(
                f"{place}.options.{name}: found {shown(value)}; expected a text, a number, true or false"
            )
    return options


def _read(table: Table, place: str, key: str, kind: type[Kind], expected: str, *, default: Kind | None = None) -> Kind:
    """The value of `key`, which must be of `kind`; without a default it must be there."""
    full_place = f"{place}.{key}".removeprefix(".")
    if key in table:
        return _of_kind(table[key], kind, full_place, expected)
    if default is None:
        raise ConfigurationError(f"{full_place}: found none; expected {expected}")
    return default


def _of_kind(value: object, kind: type[Kind], place: str, expected: str) -> Kind:
    if isinstance(value, kind):
        return value
    raise ConfigurationError(f"{place}: found {shown(value)}; expected {expected}")


def _require_keys(table: Table, known: Collection[str], place: str) -> None:
    for key in table:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            advice = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(
                f"{place}: found the key {shown(key)}; expected {', '.join(sorted(known))}{advice}"
            )


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Puts the place in front of an error of a constructor, which does not know where it stands."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from None
