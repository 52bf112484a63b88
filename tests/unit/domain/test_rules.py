"""Which rule wins, what a selection shows, and which rules may be activated."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.comparisons import Contains, Equals
from gateway.domain.conditions import AssociationFacts, Lookup
from gateway.domain.rules import Outcome, Rule, RuleInput, evaluate, require_activatable, select
from gateway.errors import ConfigurationError

MR = Equals("Modality", "MR")
CT = Equals("Modality", "CT")


def rule(name: str = "any-mr", **changes: Any) -> Rule:
    parts: dict[str, Any] = {"pipeline": "t2-to-stir", "destinations": ("pacs",), "when": MR}
    return Rule(name=name, **(parts | changes))


def outcomes(rules: list[Rule], lookup: Lookup, association: AssociationFacts) -> list[str]:
    return [one.outcome.value for one in select(rules, lookup, association).evaluations]


def test_the_first_rule_that_matches_wins(lookup: Lookup, association: AssociationFacts) -> None:
    rules = [rule("ct", when=CT), rule("first"), rule("second", priority=9)]
    selection = select(rules, lookup, association)
    assert [one.rule.name for one in selection.winners] == ["first"]
    assert [one.outcome for one in selection.evaluations] == [Outcome.NOT_MATCHED, Outcome.WON, Outcome.SHADOWED]


def test_continue_lets_the_rules_behind_it_win_as_well(lookup: Lookup, association: AssociationFacts) -> None:
    rules = [rule("a", continues=True), rule("b", pipeline="denoise"), rule("c", pipeline="other")]
    assert outcomes(rules, lookup, association) == ["won", "won", "shadowed"]


def test_a_rule_that_continues_does_not_reopen_what_is_decided(lookup: Lookup, association: AssociationFacts) -> None:
    rules = [rule("a"), rule("b", continues=True), rule("c")]
    assert outcomes(rules, lookup, association) == ["won", "shadowed", "shadowed"]


def test_a_disabled_rule_is_evaluated_but_never_wins(lookup: Lookup, association: AssociationFacts) -> None:
    selection = select([rule("off", enabled=False), rule("on")], lookup, association)
    assert [one.outcome for one in selection.evaluations] == [Outcome.DISABLED, Outcome.WON]
    assert selection.evaluations[0].trace.matched


def test_nothing_matches(lookup: Lookup, association: AssociationFacts) -> None:
    assert select([rule(when=CT)], lookup, association).winners == ()
    assert select([], lookup, association).evaluations == ()


def test_two_results_of_one_pipeline_in_one_place_are_a_conflict(lookup: Lookup, association: AssociationFacts) -> None:
    both = ("archive", "pacs")
    rules = [rule("a", continues=True, destinations=both), rule("b")]
    (conflict,) = select(rules, lookup, association).conflicts
    assert conflict.startswith("rules a and b both send a result of t2-to-stir to pacs: the reader gets two series")
    apart = [rules[0], rule("b", pipeline="other"), rule("c", destinations=("research",))]
    assert select(apart, lookup, association).conflicts == ()


def test_shadowed_rules_are_no_conflict(lookup: Lookup, association: AssociationFacts) -> None:
    assert select([rule("a"), rule("b")], lookup, association).conflicts == ()


def test_a_rule_may_ask_for_the_association(lookup: Lookup, association: AssociationFacts) -> None:
    asked = rule(when=Equals("calling_ae_title", "mr1"))
    assert evaluate(asked, lookup, association).matched
    assert not evaluate(asked, lookup, replace(association, calling_ae_title="CT1")).matched


def test_the_selection_can_be_kept_as_json(lookup: Lookup, association: AssociationFacts) -> None:
    kept = json.loads(json.dumps(select([rule()], lookup, association).to_table()))
    assert kept["conflicts"] == []
    assert kept["rules"][0]["outcome"] == "won"
    assert kept["rules"][0]["trace"] == {
        "operator": "equals",
        "matched": True,
        "attribute": "Modality",
        "expected": "'MR'",
        "found": "'MR'",
        "children": [],
    }


T1W = RuleInput("T1W", Contains("SeriesDescription", "t1"))
T2W = RuleInput("T2W", Contains("SeriesDescription", "t2"))
T1_AND_T2 = (T1W, T2W)


def test_a_series_takes_the_role_whose_condition_it_meets(lookup: Lookup, association: AssociationFacts) -> None:
    asked = rule(inputs=T1_AND_T2, wait_limit_s=600)
    selection = select([asked], lookup, association)
    assert selection.winners[0].role == "T2W"
    assert selection.winners[0].trace.text == (
        "[x] all: 2 of 2 hold\n"
        "    [x] Modality equals 'MR': 'MR'\n"
        "    [x] any: takes the role T2W\n"
        "        [ ] role T1W\n"
        "            [ ] SeriesDescription contains 't1': 't2_tse_sag_384'\n"
        "        [x] role T2W\n"
        "            [x] SeriesDescription contains 't2': 't2_tse_sag_384'"
    )


def test_a_series_takes_the_first_of_two_roles(lookup: Lookup, association: AssociationFacts) -> None:
    asked = rule(inputs=(RuleInput("one", MR), RuleInput("two", MR)), wait_limit_s=1, when=None)
    assert select([asked], lookup, association).winners[0].role == "one"


def test_a_rule_that_gave_up_lets_the_rules_behind_it_decide(lookup: Lookup, association: AssociationFacts) -> None:
    rules = [rule("both", inputs=T1_AND_T2, wait_limit_s=600), rule("alone"), rule("last")]
    first, second, third = select(rules, lookup, association, given_up={"both": "T1W"}).evaluations
    assert (first.outcome, first.reason, first.role) == (Outcome.GAVE_UP, "T1W", "T2W")
    assert (second.outcome, third.outcome) == (Outcome.WON, Outcome.SHADOWED)


@pytest.mark.parametrize("when", [CT, None])
def test_a_series_without_a_role_or_without_the_common_condition(
    when: Equals | None, lookup: Lookup, association: AssociationFacts
) -> None:
    inputs = T1_AND_T2 if when else (T1W,)
    asked = rule(when=when, inputs=inputs, wait_limit_s=1 if when else None)
    (evaluation,) = select([asked], lookup, association).evaluations
    assert evaluation.outcome is Outcome.NOT_MATCHED
    assert evaluation.role == ""


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "T2 to STIR"}, "name: found 'T2 to STIR'; expected 1 to 64 lower-case letters or digits"),
        ({"name": ""}, "name: found ''"),
        ({"pipeline": "../x"}, "pipeline: found '../x'"),
        ({"destinations": ()}, "destinations: found none; expected at least one"),
        ({"destinations": ("pacs", "pacs")}, "destinations: found pacs more than once"),
        ({"destinations": ("a b",)}, "destinations: found 'a b'"),
        ({"priority": 10}, "priority: found 10; expected 0 to 9"),
        ({"priority": -1}, "priority: found -1"),
        ({"options": {"A": 1}}, "options: found 'A'"),
        ({"options": {"a": "x" * 2000}}, "options.a: found 2000 characters; expected at most 1024"),
        ({"when": None}, "when: found no condition"),
        ({"inputs": (RuleInput("a", MR), RuleInput("a", CT))}, "inputs, role: found a more than once"),
        ({"inputs": T1_AND_T2}, "wait_limit_s: found None; expected seconds above 0 to wait for the last of 2 series"),
        ({"inputs": T1_AND_T2, "wait_limit_s": 0}, "wait_limit_s: found 0"),
        ({"wait_limit_s": 5}, "wait_limit_s: found with fewer than two inputs; expected none, remove it"),
    ],
)
def test_rules_that_make_no_sense_are_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        rule(**changes)
    assert str(caught.value).startswith(error)


def test_roles_have_names() -> None:
    with pytest.raises(ConfigurationError, match="role: found 'T2 W'"):
        RuleInput("T2 W", MR)


def test_a_rule_cannot_be_changed_through_its_options() -> None:
    options = {"a": 1}
    made = rule(options=options)
    options["a"] = 2
    assert made.options["a"] == 1
    with pytest.raises(TypeError):
        made.options["a"] = 3  # type: ignore[index]
    assert len({made, rule(options={"a": 1})}) == 1


def activate(asked: Rule) -> None:
    def resolve(name: str) -> str:
        if name not in {"Modality", "SeriesDescription"}:
            raise ConfigurationError(f"attribute: found {name}; did you mean Modality?")
        return name

    require_activatable(
        asked,
        roles={"t2-to-stir": ("T2W",), "t1-t2-to-stir": ("T1W", "T2W")},
        destinations={"pacs", "research"},
        resolve_attribute=resolve,
    )


@pytest.mark.parametrize(
    "asked",
    [
        rule(),
        rule(when=Equals("source_address", "10.0.0.1")),
        rule(when=None, inputs=(RuleInput("T2W", MR),)),
        rule(destinations=("pacs", "research")),
        rule(pipeline="t1-t2-to-stir", inputs=T1_AND_T2, wait_limit_s=60),
        rule(pipeline="t1-t2-to-stir", inputs=(T2W, T1W), wait_limit_s=60),
    ],
)
def test_rules_that_may_be_activated(asked: Rule) -> None:
    activate(asked)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (rule(pipeline="t2-to-stirr"), "pipeline: found t2-to-stirr; expected one of .*did you mean t2-to-stir?"),
        (rule(destinations=("pacs", "cloud")), "destinations: found cloud; expected one of pacs, research"),
        (rule(when=Equals("Modallity", "MR")), "rule any-mr: attribute: found Modallity; did you mean Modality?"),
        (rule(inputs=T1_AND_T2, wait_limit_s=60), "inputs: found T1W, T2W; expected T2W, the inputs of t2-to-stir"),
        (rule(pipeline="t1-t2-to-stir"), "inputs: found none; expected T1W, T2W, .* each with its condition"),
        (rule(pipeline="t1-t2-to-stir", inputs=(T1W,)), "inputs: found T1W; expected T1W, T2W"),
        (rule(inputs=(RuleInput("T1W", MR),)), "inputs: found T1W; expected T2W, the inputs of t2-to-stir"),
    ],
)
def test_rules_that_may_not_be_activated(asked: Rule, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        activate(asked)
