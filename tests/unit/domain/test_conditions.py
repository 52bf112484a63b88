"""What each comparison means, and what a trace says about it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.domain.comparisons import COMPARISONS, Equals, Exists, InNetwork, Regex
from gateway.domain.conditions import AllOf, AnyOf, AssociationFacts, Comparison, Lookup, Not, Values
from gateway.domain.traces import LOGGABLE
from gateway.errors import ConfigurationError


def comparison(operator: str, operand: Any, attribute: str = "SeriesDescription") -> Comparison[Any]:
    return COMPARISONS[operator](attribute, operand)


@pytest.mark.parametrize(
    ("operator", "operand", "values", "holds"),
    [
        ("exists", True, ("x",), True),
        ("exists", True, (0.0,), True),
        ("exists", False, ("x",), False),
        ("equals", "mr", ("MR",), True),
        ("equals", " MR ", ("MR  ",), True),
        ("equals", "M", ("MR",), False),
        ("equals", "STRASSE", ("straße",), True),
        ("equals", 102, (102.0,), True),
        ("equals", 102, ("102.0 ",), True),
        ("equals", "102", (102.0,), True),
        ("equals", "102", ("102.0",), False),
        ("equals", 102, ("102 ms",), False),
        ("equals", 1, ("1_0",), False),
        ("equals", 10, ("1_0",), False),
        ("equals", "PRIMARY", ("ORIGINAL", "PRIMARY"), True),
        ("one_of", ("SE", "RM"), ("rm",), True),
        ("one_of", ("SE", 3), (3.0,), True),
        ("one_of", ("SE", "RM"), ("GR", "EP"), False),
        ("contains", "sag", ("T2 SAG TSE",), True),
        ("contains", "sag", ("axial",), False),
        ("contains", ".5", (1.5,), True),
        ("glob", "t2*sag*", ("T2_TSE_SAG",), True),
        ("glob", "t2", ("T2_TSE_SAG",), False),
        ("glob", "T?", (" t2 ",), True),
        ("regex", "t2.*sag", ("x T2 tse SAG",), True),
        ("regex", "^sag", ("T2 SAG",), False),
        ("regex", r"^1\.5$", (1.5,), True),
        ("greater", 100, (102.0,), True),
        ("greater", 102, (102.0,), False),
        ("greater", 100, ("high",), False),
        ("greater", 100, ("inf",), False),
        ("greater", 100, (10.0, 200.0), True),
        ("less", 102, (101.9,), True),
        ("less", 102, (102.0,), False),
        ("less", 102, ("nan",), False),
        ("between", (60, 150), (60.0,), True),
        ("between", (60, 150), (150.0,), True),
        ("between", (60, 150), (150.1,), False),
        ("between", (60, 150), ("80",), True),
    ],
)
def test_comparisons(operator: str, operand: Any, values: Values, holds: bool) -> None:
    trace = comparison(operator, operand).evaluate({"SeriesDescription": values}.get)
    assert trace.matched is holds
    assert Not(comparison(operator, operand)).evaluate({"SeriesDescription": values}.get).matched is not holds


@pytest.mark.parametrize(
    ("network", "address", "holds"),
    [
        ("10.20.0.0/16", "10.20.30.40", True),
        ("10.20.0.0/16", "::ffff:10.20.30.40", True),
        ("10.21.0.0/16", "10.20.30.40", False),
        ("fd00::/8", "fd00::1", True),
        ("fd00::/8", "10.20.30.40", False),
        ("10.20.30.40/32", "10.20.30.40", True),
        ("10.20.30.40", "10.20.30.40", True),
        ("10.0.0.0/8", "not an address", False),
    ],
)
def test_networks(network: str, address: str, holds: bool) -> None:
    facts = AssociationFacts("MR1", "ATHANOR", address)
    trace = InNetwork("source_address", ("192.0.2.0/24", network)).evaluate(facts.beside(lambda _: None))
    assert trace.matched is holds


@pytest.mark.parametrize("operator", [name for name in COMPARISONS if name not in ("exists", "in_network")])
@pytest.mark.parametrize(("values", "text"), [(None, "absent"), ((), "empty"), (("",), "empty")])
def test_without_a_value_no_comparison_holds_and_its_opposite_does(
    operator: str, values: Values | None, text: str
) -> None:
    operand: Any = {"one_of": ("a",), "between": (0, 1)}.get(operator, 0 if operator in ("greater", "less") else "*")
    if operator == "regex":
        operand = ".*"
    asked = comparison(operator, operand)
    trace = asked.evaluate(lambda _: values)
    assert not trace.matched
    assert trace.found == text
    assert Not(asked).evaluate(lambda _: values).matched


def test_an_attribute_without_a_value_does_not_exist(lookup: Lookup) -> None:
    assert not Exists("InversionTime", True).evaluate(lookup).matched
    assert not Exists("ContrastBolusAgent", True).evaluate(lookup).matched
    assert Exists("InversionTime", False).evaluate(lookup).matched
    assert Exists("ContrastBolusAgent", False).evaluate(lookup).matched


def test_groups_evaluate_every_condition(lookup: Lookup) -> None:
    true, false = Equals("Modality", "MR"), Equals("Modality", "CT")
    assert AllOf((true, true)).evaluate(lookup).matched
    assert not AllOf((false, true)).evaluate(lookup).matched
    assert AnyOf((false, true)).evaluate(lookup).matched
    assert not AnyOf((false, false)).evaluate(lookup).matched
    decided_at_once = AllOf((false, true, true)).evaluate(lookup)
    assert [child.matched for child in decided_at_once.children] == [False, True, True]
    assert decided_at_once.found == "2 of 3 hold"


def test_private_attributes_are_asked_for_by_upper_case_tag(lookup: Lookup) -> None:
    asked = Equals("(0019,10ab)", 1.5)
    assert asked.attribute == "(0019,10AB)"
    assert asked.evaluate(lookup).matched


def test_the_association_has_attributes_too(lookup: Lookup, association: AssociationFacts) -> None:
    both = association.beside(lookup)
    assert Equals("calling_ae_title", "MR1").evaluate(both).matched
    assert Equals("called_ae_title", "ATHANOR").evaluate(both).matched
    assert Equals("Modality", "MR").evaluate(both).matched


def test_the_trace_is_read_like_a_checklist(lookup: Lookup) -> None:
    condition = AllOf(
        (
            Equals("Modality", "MR"),
            comparison("between", (60, 150), "EchoTime"),
            Not(Exists("InversionTime", True)),
            comparison("one_of", ("SE", "RM"), "ScanOptions"),
        )
    )
    assert condition.evaluate(lookup).text == (
        "[ ] all: 3 of 4 hold\n"
        "    [x] Modality equals 'MR': 'MR'\n"
        "    [x] EchoTime between 60 and 150: 102\n"
        "    [x] not\n"
        "        [ ] InversionTime exists true: absent\n"
        "    [ ] ScanOptions one of 'SE', 'RM': 'PFP', 'SFS'"
    )


def test_long_values_are_shortened_in_a_trace() -> None:
    many = Equals("ImageType", "x").evaluate(lambda _: tuple("abcdefghijkl"))
    assert many.found.endswith("'h' and 4 more")
    long = Equals("ImageType", "x").evaluate(lambda _: ("y" * 5000,))
    assert len(long.found) < 100


def test_no_patient_value_reaches_a_redacted_trace(lookup: Lookup) -> None:
    condition = AllOf(
        (
            Equals("PatientName", "DOE^JANE"),
            Not(AnyOf((Regex("(0010,0010)", "jane"), Equals("Modality", "CT")))),
            comparison("contains", "Roe", "SeriesDescription"),
            Exists("PatientBirthDate", True),
        )
    )
    found = {**{name: lookup(name) for name in ("Modality", "PatientName")}, "(0010,0010)": ("DOE^JANE",)}
    found["SeriesDescription"] = ("Jane Roe, T2 sag",)
    trace = condition.evaluate(found.get)
    assert "DOE^JANE" in trace.text
    redacted = trace.redacted()
    assert not any(secret in redacted.text.casefold() for secret in ("doe", "jane", "roe"))
    assert "Modality equals 'CT': 'MR'" in redacted.text
    assert "PatientBirthDate exists (redacted): absent" in redacted.text
    assert [child.matched for child in redacted.children] == [child.matched for child in trace.children]


def test_what_may_be_logged_never_names_the_patient() -> None:
    assert not [name for name in LOGGABLE if "Patient" in name and name != "PatientPosition"]


@pytest.mark.parametrize(
    ("operator", "operand", "error"),
    [
        ("exists", "yes", "found 'yes'; expected true or false"),
        ("equals", True, "found true; expected a text or a number"),
        ("equals", " ", "found ' '; expected a text"),
        ("equals", float("nan"), "found nan; expected a text or a number"),
        ("equals", 10**400, "found a number too large; expected a text or a number"),
        ("equals", {"a": 1}, "found a table; expected a text or a number"),
        ("one_of", (), r"found \[\]; expected a list of texts or numbers"),
        ("one_of", "SE", "found 'SE'; expected a list of texts or numbers"),
        ("one_of", ("SE", False), "found false; expected a text or a number"),
        ("contains", 5, "found 5; expected a text"),
        ("glob", "", "found ''; expected a text"),
        ("regex", "(a", "pattern, character 2: found a group that is never closed"),
        ("greater", "100", "found '100'; expected a number"),
        ("less", True, "found true; expected a number"),
        ("between", (1,), r"found \[1\]; expected a list of two numbers"),
        ("between", (2, 1), r"found \[2, 1\]; expected two numbers, the smaller one first"),
        ("between", ("a", 1), "found 'a'; expected a number"),
        ("in_network", ("10.0.0.0/8",), "found attribute SeriesDescription; expected source_address"),
    ],
)
def test_operands_that_make_no_sense_are_refused(operator: str, operand: Any, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        comparison(operator, operand)


@pytest.mark.parametrize("network", ["10.1.2.3/8", "10.0.0.0/33", "scanner", 10])
def test_networks_that_are_none_are_refused(network: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a network such as"):
        InNetwork("source_address", (network,))


@pytest.mark.parametrize("name", ["modality", "", "Series Description", "(0019,10XY)", "0019,10AB", "X" * 80, "Größe"])
def test_attributes_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a DICOM keyword such as SeriesDescription"):
        Equals(name, "x")


def test_a_group_needs_a_condition() -> None:
    with pytest.raises(ConfigurationError, match="found an empty list"):
        AllOf(())


def test_a_hostile_pattern_on_a_hostile_value_takes_no_time() -> None:
    asked = Regex("ImageComments", "(a+)+$")
    started_s = time.process_time()
    assert asked.evaluate(lambda _: ("a" * 1024,)).matched
    assert not asked.evaluate(lambda _: ("a" * 1023 + "!",)).matched
    assert not asked.evaluate(lambda _: ("a" * 10_000,)).matched  # longer than what is searched
    assert time.process_time() - started_s < 0.1
