"""Rules to tables and back without loss, and errors that lead to the place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.comparisons import COMPARISONS, Scalar
from gateway.domain.conditions import AllOf, AnyOf, Condition, Not
from gateway.domain.rule_tables import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_RULES,
    canonical_json,
    condition_from_table,
    digest,
    rule_from_table,
    rule_to_table,
    rules_from_table,
    rules_to_table,
)
from gateway.domain.rules import Rule, RuleInput
from gateway.errors import ConfigurationError
from gateway.store.rules_file import format_rules, parse_rules

printable = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
texts = st.text(printable, min_size=1, max_size=12).filter(str.strip)
numbers = st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9, allow_nan=False)
scalars: st.SearchStrategy[Scalar] = texts | numbers
attributes = st.sampled_from(["Modality", "EchoTime", "(0019,10AB)", "calling_ae_title"])
operands: dict[str, st.SearchStrategy[Any]] = {
    "exists": st.booleans(),
    "equals": scalars,
    "one_of": st.lists(scalars, min_size=1, max_size=3).map(tuple),
    "contains": texts,
    "glob": texts,
    "regex": st.sampled_from(["a+b", r"\bsag\b", r"[\d_]{2,3}", "t2|t1"]),
    "greater": numbers,
    "less": numbers,
    "between": st.tuples(numbers, numbers).map(sorted).map(tuple),
    "in_network": st.lists(st.sampled_from(["10.0.0.0/8", "fd00::/8"]), min_size=1, max_size=2).map(tuple),
}
comparisons: st.SearchStrategy[Condition] = st.one_of(
    [
        st.builds(COMPARISONS[word], st.just("source_address") if word == "in_network" else attributes, operand)
        for word, operand in operands.items()
    ]
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    roles = draw(st.lists(names, max_size=3, unique=True))
    return Rule(
        name=draw(names),
        pipeline=draw(names),
        destinations=tuple(draw(st.lists(names, min_size=1, max_size=3, unique=True))),
        when=draw(conditions if not roles else st.none() | conditions),
        inputs=tuple(RuleInput(role, draw(conditions)) for role in roles),
        wait_limit_s=draw(st.floats(0.1, 1e6) | st.integers(1, 3600)) if len(roles) > 1 else None,
        description=draw(st.just("") | texts),
        enabled=draw(st.booleans()),
        continues=draw(st.booleans()),
        priority=draw(st.integers(0, 9)),
        options=draw(st.dictionaries(names.filter(str.isalpha), texts | numbers | st.booleans(), max_size=3)),
    )


quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(rules())
def test_a_rule_survives_its_table_json_and_toml(rule: Rule) -> None:
    assert rule_from_table(rule_to_table(rule)) == rule
    assert rule_from_table(json.loads(canonical_json(rule))) == rule
    assert parse_rules(format_rules([rule])) == (rule,)


@quick
@given(rules())
def test_a_canonical_table_survives_the_rule(rule: Rule) -> None:
    table = rule_to_table(rule)
    assert rule_to_table(rule_from_table(table)) == table
    assert digest(rule_from_table(json.loads(canonical_json(rule)))) == digest(rule)


@quick
@given(st.lists(rules(), max_size=3, unique_by=lambda rule: rule.name))
def test_a_file_keeps_the_order(several: list[Rule]) -> None:
    assert rules_from_table(rules_to_table(several)) == tuple(several)
    assert parse_rules(format_rules(several)) == tuple(several)


def table(**changes: Any) -> dict[str, Any]:
    return {
        "name": "t2-to-stir",
        "pipeline": "t2-to-stir",
        "destinations": ["pacs"],
        "when": {"attribute": "Modality", "equals": "MR"},
        **changes,
    }


def test_the_shortest_rule_has_the_defaults() -> None:
    rule = rule_from_table(table())
    assert (rule.enabled, rule.continues, rule.priority, rule.description) == (True, False, 5, "")
    assert rule_to_table(rule) == table(enabled=True)


def test_priorities_are_words_or_numbers() -> None:
    assert rule_from_table(table(priority="urgent")).priority == 9
    assert rule_from_table(table(priority=3)).priority == 3
    assert rule_to_table(rule_from_table(table(priority=9)))["priority"] == "urgent"


def test_the_digest_is_that_of_the_content() -> None:
    one = table(when={"attribute": "EchoTime", "between": [60, 150]})
    same = {key: one[key] for key in reversed(one)} | {"when": {"between": [60.0, 150.0], "attribute": "EchoTime"}}
    other = table(when={"attribute": "EchoTime", "between": [60, 151]})
    assert digest(rule_from_table(one)) == digest(rule_from_table(same | {"priority": "normal"}))
    assert digest(rule_from_table(one)) != digest(rule_from_table(other))
    assert len(digest(rule_from_table(one))) == 64


def deep(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"attribute": "Modality", "equals": "MR"}
    for _ in range(levels):
        inner = {"not": inner}
    return inner


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"naem": "x"}, "rules[0]: found the key 'naem'; expected continue, description,"),
        ({"naem": "x"}, "did you mean name?"),
        ({"name": 5}, "rules[0].name: found 5; expected a text"),
        ({"name": "A"}, "rules[0]: name: found 'A'; expected 1 to 64 lower-case letters"),
        ({"enabled": "yes"}, "rules[0].enabled: found 'yes'; expected true or false"),
        ({"enabled": 1}, "rules[0].enabled: found 1; expected true or false"),
        ({"destinations": "pacs"}, "rules[0].destinations: found 'pacs'; expected a list of names"),
        ({"destinations": [1]}, "rules[0].destinations[0]: found 1; expected a name"),
        ({"priority": "soon"}, "rules[0].priority: found 'soon'; expected low, normal, high, urgent or 0 to 9"),
        ({"priority": 11}, "rules[0]: priority: found 11; expected 0 to 9"),
        ({"priority": True}, "rules[0].priority: found true"),
        ({"options": [1]}, "rules[0].options: found a list; expected a table"),
        ({"options": {"a": [1]}}, "rules[0].options.a: found a list; expected a text, a number, true or false"),
        ({"wait_limit_s": "1 h"}, "rules[0].wait_limit_s: found '1 h'; expected seconds"),
        ({"inputs": [{"when": {}}]}, "rules[0].inputs[0].role: found none; expected a role of the pipeline"),
        ({"inputs": [{"role": "a"}]}, "rules[0].inputs[0].when: found none; expected a table with a condition"),
        ({"inputs": ["a"]}, "rules[0].inputs[0]: found 'a'; expected a table with role and when"),
        ({"when": []}, "rules[0].when: found a list; expected a table with a condition"),
        ({"when": {}}, "rules[0].when: found no comparison; expected one of all, any, not, exists, equals"),
        ({"when": {"all": []}}, "rules[0].when.all: found an empty list; expected at least one condition"),
        ({"when": {"all": {}}}, "rules[0].when.all: found a table; expected a list of conditions"),
        (
            {"when": {"all": [{"attribute": "Modality", "equals": "MR"}, {"attribute": "EchoTime", "equals": []}]}},
            "rules[0].when.all[1].equals: found []; expected a text or a number",
        ),
        (
            {"when": {"not": {"any": [{"attribute": "Modality", "regex": "(a"}]}}},
            "rules[0].when.not.any[0].regex: pattern, character 2: found a group that is never closed",
        ),
        ({"when": {"equals": "MR"}}, "rules[0].when.attribute: found none; expected a DICOM keyword or tag"),
        ({"when": {"attribute": 3, "equals": 3}}, "rules[0].when.attribute: found 3; expected a DICOM keyword"),
        ({"when": {"attribute": "modality", "equals": 3}}, "rules[0].when.attribute: found attribute 'modality'"),
        (
            {"when": {"attribute": "Modality", "equals": "MR", "contains": "M"}},
            "rules[0].when: found equals and contains; expected one of",
        ),
        ({"when": {"attribute": "Modality", "eqals": "MR"}}, "did you mean equals?"),
        (
            {"when": {"attribute": "Modality", "not": {"attribute": "Modality", "equals": "MR"}}},
            "rules[0].when.attribute: found beside not; expected inside its conditions",
        ),
        ({"when": deep(MAX_DEPTH)}, f"found more than {MAX_DEPTH} levels or {MAX_CONDITIONS} conditions"),
        (
            {"when": {"all": [{"attribute": "Modality", "equals": "MR"}] * MAX_CONDITIONS}},
            f"found more than {MAX_DEPTH} levels or {MAX_CONDITIONS} conditions",
        ),
        (
            {"when": {"attribute": "EchoTime", "equals": "__import__('os').system('true')", "eval": "1"}},
            "rules[0].when: found the key 'eval'",
        ),
    ],
)
def test_errors_name_the_place(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        rules_from_table({"rules": [table(**changes)]})
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("whole", "error"),
    [
        ({"rule": []}, "file: found the key 'rule'; expected rules; did you mean rules?"),
        ({"rules": {}}, "rules: found a table; expected a list of rules"),
        ({"rules": [3]}, "rules[0]: found 3; expected a table"),
        ({"rules": [table(), table()]}, "rules[1].name: found t2-to-stir, the name of rules[0]; expected another"),
        ({"rules": [table()] * (MAX_RULES + 1)}, f"rules: found {MAX_RULES + 1}; expected at most {MAX_RULES}"),
    ],
)
def test_errors_of_a_whole_file(whole: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        rules_from_table(whole)
    assert str(caught.value).startswith(error)


def test_trees_within_the_bounds_are_read() -> None:
    condition_from_table(deep(MAX_DEPTH - 1))
    condition_from_table({"all": [{"attribute": "Modality", "equals": "MR"}] * (MAX_CONDITIONS - 1)})
    assert rules_from_table({}) == ()
