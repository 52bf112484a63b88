"""Rules: which series go through which pipeline, and where the result goes.

Rules are asked in the order of their list, and the first one that matches wins: it makes the Job. A rule that
says `continue` lets the rules behind it be asked as well, each of which may make a Job of its own.

A rule is written for one series (`when`), or for several series of one study, each with its role and
condition (`inputs`). A series that takes a role of such a rule waits for the others of its study; when they do not come
in time the rule gives up, and the rules behind it are asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from gateway.domain.conditions import ASSOCIATION_ATTRIBUTES, AssociationFacts, Condition, Lookup
from gateway.domain.traces import Trace, shown
from gateway.errors import ConfigurationError

Option = str | int | float | bool

# A Job of higher priority is started first; it never interrupts one that runs.
PRIORITIES: Mapping[str, int] = MappingProxyType({"low": 2, "normal": 5, "high": 7, "urgent": 9})
HIGHEST_PRIORITY = 9

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_OPTION = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_MAX_OPTION_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class RuleInput:
    """One series that a rule asks for: the role it plays in the pipeline, and the condition it meets."""

    role: str
    when: Condition

    def __post_init__(self) -> None:
        _require_name("role", self.role, _WORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A routing rule. Raises ConfigurationError unless its parts fit together.

    `wait_limit_s` is how long a rule with several inputs waits for the last of them, from the first one on.
    """

    name: str
    pipeline: str
    destinations: tuple[str, ...]
    when: Condition | None = None
    inputs: tuple[RuleInput, ...] = ()
    wait_limit_s: float | None = None
    description: str = ""
    enabled: bool = True
    continues: bool = False
    priority: int = PRIORITIES["normal"]
    options: Mapping[str, Option] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _require_name("name", self.name, _NAME)
        _require_name("pipeline", self.pipeline, _NAME)
        _require_different("destinations", self.destinations)
        for destination in self.destinations:
            _require_name("destinations", destination, _WORD)
        if not 0 <= self.priority <= HIGHEST_PRIORITY:
            raise ConfigurationError(f"priority: found {self.priority}; expected 0 to {HIGHEST_PRIORITY}")
        for name, value in self.options.items():
            _require_name("options", name, _OPTION)
            if isinstance(value, str) and len(value) > _MAX_OPTION_LENGTH:
                raise ConfigurationError(
                    f"options.{name}: found {len(value)} characters; expected at most {_MAX_OPTION_LENGTH}"
                )
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))
        self._require_conditions()

    def _require_conditions(self) -> None:
        if self.when is None and not self.inputs:
            raise ConfigurationError("when: found no condition; expected one, or inputs with one each")
        if self.inputs:
            _require_different("inputs, role", [one.role for one in self.inputs])
        if len(self.inputs) > 1 and (self.wait_limit_s is None or self.wait_limit_s <= 0):
            raise ConfigurationError(
                f"wait_limit_s: found {self.wait_limit_s}; expected seconds above 0 to wait for the last of "
                f"{len(self.inputs)} series"
            )
        if len(self.inputs) <= 1 and self.wait_limit_s is not None:
            raise ConfigurationError("wait_limit_s: found with fewer than two inputs; expected none, remove it")

    @property
    def attributes(self) -> frozenset[str]:
        """Every attribute that its conditions ask for."""
        conditions = [one.when for one in self.inputs] + ([self.when] if self.when else [])
        return frozenset(name for condition in conditions for name in condition.attributes)


def evaluate(rule: Rule, lookup: Lookup, association: AssociationFacts) -> Trace:
    """What `rule`, enabled or not, says of the series that `lookup` reads: every condition's outcome."""
    trace, _ = _evaluate(rule, lookup, association)
    return trace


def _evaluate(rule: Rule, lookup: Lookup, association: AssociationFacts) -> tuple[Trace, str]:
    """The trace, and the role that the series takes: the first input that it fits, "" for a rule without."""
    both = association.beside(lookup)
    common = rule.when.evaluate(both) if rule.when else None
    if not rule.inputs:
        assert common is not None
        return common, ""
    traces = [one.when.evaluate(both) for one in rule.inputs]
    roles = tuple(
        Trace("role", trace.matched, expected=one.role, children=(trace,))
        for one, trace in zip(rule.inputs, traces, strict=True)
    )
    role = next((trace.expected for trace in roles if trace.matched), "")
    trace = Trace("any", bool(role), found=f"takes the role {role}" if role else "takes no role", children=roles)
    if common is not None:
        held = common.matched + trace.matched
        trace = Trace("all", held == 2, found=f"{held} of 2 hold", children=(common, trace))
    return trace, role if trace.matched else ""


class Outcome(StrEnum):
    """What became of one rule of the list."""

    WON = "won"
    SHADOWED = "shadowed"  # it matches, but a rule before it won and does not continue
    NOT_MATCHED = "not-matched"
    DISABLED = "disabled"
    GAVE_UP = "gave-up"  # it matches, but the other series that it asks for did not come in time
    PIPELINE_DISABLED = "pipeline-disabled"  # it matches and decides, but somebody disabled its pipeline


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One rule of the list: disabled ones are evaluated too, for the screen.

    `role` is the part that a matching series plays, "" for a rule without inputs. `reason` says who disabled its
    pipeline and why, or what the rule waited for in vain.
    """

    rule: Rule
    trace: Trace
    role: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Every rule of the list with its outcome, and what is contradictory about those that won."""

    evaluations: tuple[Evaluation, ...]
    conflicts: tuple[str, ...]

    @property
    def winners(self) -> tuple[Evaluation, ...]:
        """The rules that make a Job, in order; none when nothing matches."""
        return tuple(one for one in self.evaluations if one.outcome is Outcome.WON)

    def to_table(self) -> dict[str, Any]:
        """The selection as plain dicts and lists, to be kept as JSON."""
        return {
            "conflicts": list(self.conflicts),
            "rules": [
                {
                    "name": one.rule.name,
                    "outcome": one.outcome.value,
                    "reason": one.reason,
                    "role": one.role,
                    "trace": one.trace.to_table(),
                }
                for one in self.evaluations
            ],
        }


def select(
    rules: Sequence[Rule],
    lookup: Lookup,
    association: AssociationFacts,
    disabled_pipelines: Mapping[str, str] = MappingProxyType({}),
    given_up: Mapping[str, str] = MappingProxyType({}),
) -> Selection:
    """Ask every rule about one series: the first enabled one that matches wins, and any that it lets follow.

    `disabled_pipelines` says of each pipeline that may make no job who disabled it and why. A rule with such a pipeline
    still decides: a series never goes another way than its rule says because a pipeline is out of use. `given_up` says
    of each rule that waited in vain for the other series of the study what it lacked: it decides nothing any more.
    """
    evaluations = []
    decided = False
    for rule in rules:
        trace, role = _evaluate(rule, lookup, association)
        reason = ""
        if not rule.enabled:
            outcome = Outcome.DISABLED
        elif not trace.matched:
            outcome = Outcome.NOT_MATCHED
        elif rule.name in given_up:
            outcome, reason = Outcome.GAVE_UP, given_up[rule.name]
        else:
            outcome = Outcome.SHADOWED if decided else Outcome.WON
            if outcome is Outcome.WON and rule.pipeline in disabled_pipelines:
                outcome, reason = Outcome.PIPELINE_DISABLED, disabled_pipelines[rule.pipeline]
            decided = decided or not rule.continues
        evaluations.append(Evaluation(rule, trace, role, outcome, reason))
    winners = [one.rule for one in evaluations if one.outcome is Outcome.WON]
    return Selection(tuple(evaluations), _conflicts(winners))


def _conflicts(winners: Sequence[Rule]) -> tuple[str, ...]:
    found = []
    for index, first in enumerate(winners):
        for second in winners[index + 1 :]:
            common = [name for name in first.destinations if name in second.destinations]
            if first.pipeline == second.pipeline and common:
                found.append(
                    f"rules {first.name} and {second.name} both send a result of {first.pipeline} to "
                    f"{', '.join(common)}: the reader gets two series; remove continue or a destination"
                )
    return tuple(found)


def require_activatable(
    rule: Rule,
    *,
    roles: Mapping[str, Sequence[str]],
    destinations: Collection[str],
    resolve_attribute: Callable[[str], str],
) -> None:
    """Raises ConfigurationError unless `rule` can make Jobs here.

    `roles` are the inputs of each installed pipeline, `destinations` the configured names, and
    `resolve_attribute` raises for a name that no data set can have. A rule names every input of its pipeline, in any
    order; that of a pipeline with one input may leave it out.
    """
    place = f"rule {rule.name}"
    _require_known(f"{place}, pipeline", rule.pipeline, roles)
    for destination in rule.destinations:
        _require_known(f"{place}, destinations", destination, destinations)
    for attribute in sorted(rule.attributes.difference(ASSOCIATION_ATTRIBUTES)):
        try:
            resolve_attribute(attribute)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}") from None
    expected = list(roles[rule.pipeline])
    asked = [one.role for one in rule.inputs] or expected
    if len(expected) > 1 and not rule.inputs:
        raise ConfigurationError(
            f"{place}, inputs: found none; expected {', '.join(expected)}, the inputs of {rule.pipeline}, each with "
            "its condition, and wait_limit_s"
        )
    if sorted(asked) != sorted(expected):
        raise ConfigurationError(
            f"{place}, inputs: found {', '.join(asked)}; expected {', '.join(expected)}, the inputs of {rule.pipeline}"
        )


def _require_name(place: str, found: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(found):
        letters = "letters" if form is _WORD else "lower-case letters"
        raise ConfigurationError(
            f"{place}: found {shown(found)}; expected 1 to 64 {letters} or digits, with . _ - between them"
        )


def _require_different(place: str, names: Sequence[str]) -> None:
    if not names:
        raise ConfigurationError(f"{place}: found none; expected at least one")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigurationError(f"{place}: found {', '.join(repeated)} more than once; expected each once")


def _require_known(place: str, found: str, known: Collection[str]) -> None:
    if found in known:
        return
    near = get_close_matches(found, known, n=1)
    advice = f"; did you mean {near[0]}?" if near else ""
    raise ConfigurationError(f"{place}: found {found}; expected one of {', '.join(sorted(known)) or 'none'}{advice}")
