"""The file of rules that ships, the examples of the documentation, and files that cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.datadict import tag_for_keyword

from gateway.domain.comparisons import COMPARISONS
from gateway.domain.conditions import ASSOCIATION_ATTRIBUTES, AssociationFacts, Values
from gateway.domain.rules import PRIORITIES, evaluate, require_activatable, select
from gateway.errors import ConfigurationError
from gateway.store.rules_file import format_rules, parse_rules, read_rules

ROOT = Path(__file__).parents[3]
SEED = ROOT / "rules.toml"
COOKBOOK = ROOT / "docs" / "rules.md"


def resolve_keyword(name: str) -> str:
    if not name.startswith("(") and tag_for_keyword(name) is None:
        raise ConfigurationError(f"attribute: found {name}, expected a DICOM keyword")
    return name


def examples() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", COOKBOOK.read_text(encoding="utf-8"), re.DOTALL)


def test_the_seed_can_be_activated() -> None:
    rules = read_rules(SEED)
    roles = {"t1t2-to-stir": ("T1W", "T2W"), "t2-to-stir": ("T2W",)}
    assert [rule.name for rule in rules] == list(roles)
    for rule in rules:
        require_activatable(rule, roles=roles, destinations={"pacs"}, resolve_attribute=resolve_keyword)
    assert parse_rules(format_rules(rules)) == rules


def test_the_seed_matches_what_is_meant(sagittal_t2w: dict[str, Values], association: AssociationFacts) -> None:
    for rule in read_rules(SEED):
        trace = evaluate(rule, sagittal_t2w.get, association)
        assert trace.matched, trace.text


def test_the_seed_takes_both_contrasts_and_the_t2w_alone_when_no_t1w_comes(
    sagittal_t2w: dict[str, Values], association: AssociationFacts
) -> None:
    both, alone = read_rules(SEED)
    sagittal_t1w = sagittal_t2w | {
        "RepetitionTime": (550.0,), "EchoTime": (11.0,), "SeriesDescription": ("t1_tse_sag",)
    }  # fmt: skip
    for series, role in ((sagittal_t2w, "T2W"), (sagittal_t1w, "T1W")):
        (winner,) = select((both, alone), series.get, association).winners
        assert (winner.rule.name, winner.role) == ("t1t2-to-stir", role)
    (fallen,) = select((both, alone), sagittal_t2w.get, association, given_up={"t1t2-to-stir": "T1W"}).winners
    assert fallen.rule.name == "t2-to-stir"


@pytest.mark.parametrize(
    "change",
    [
        {"Modality": ("CT",)},
        {"ImageType": ("DERIVED", "SECONDARY")},
        {"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
        {"ScanningSequence": ("SE", "IR")},
        {"ScanningSequence": ("GR",)},
        {"EchoTime": (9.6,)},
        {"RepetitionTime": (600.0,)},
        {"InversionTime": (160.0,)},
        {"ScanOptions": ("FS",)},
        {"ContrastBolusAgent": ("Gadolinium",)},
        {"SeriesDescription": ("t2_tse_sag_fs",)},
        {"SeriesDescription": ("STIR sag",)},
        {"SeriesDescription": ("t2_tse_tra",), "ProtocolName": ("t2_tse_tra",)},
        {"BodyPartExamined": ("KNEE",)},
    ],
    ids=str,
)
def test_the_seed_leaves_other_series_alone(
    change: dict[str, Values], sagittal_t2w: dict[str, Values], association: AssociationFacts
) -> None:
    for rule in read_rules(SEED):
        trace = evaluate(rule, (sagittal_t2w | change).get, association)
        assert not trace.matched, rule.name


def test_the_seed_finds_the_spine_by_name_where_the_body_part_is_missing(
    sagittal_t2w: dict[str, Values], association: AssociationFacts
) -> None:
    _, seed = read_rules(SEED)
    del sagittal_t2w["BodyPartExamined"]
    assert not evaluate(seed, sagittal_t2w.get, association).matched
    sagittal_t2w["ProtocolName"] = ("L-Spine T2 sag",)
    assert evaluate(seed, sagittal_t2w.get, association).matched


@pytest.mark.parametrize("example", examples(), ids=lambda text: text.strip().splitlines()[0])
def test_every_example_of_the_cookbook_is_a_rule_that_works(example: str) -> None:
    rules = parse_rules(example, "docs/rules.md")
    assert rules
    assert parse_rules(format_rules(rules)) == rules
    for rule in rules:
        for attribute in rule.attributes.difference(ASSOCIATION_ATTRIBUTES):
            resolve_keyword(attribute)


def test_the_cookbook_names_every_word_of_the_language() -> None:
    text = COOKBOOK.read_text(encoding="utf-8")
    words = [*COMPARISONS, *PRIORITIES, *ASSOCIATION_ATTRIBUTES, "all", "any", "not", "continue", "wait_limit_s"]
    assert [word for word in words if f"`{word}`" not in text] == []


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read"):
        read_rules(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe4'")
    with pytest.raises(ConfigurationError, match=r"latin\.toml: cannot be read .*expected a TOML file in UTF-8"):
        read_rules(tmp_path / "latin.toml")


@pytest.mark.parametrize("text", ["rules = [", "a = " + "[" * 5000, "a = " + "9" * 5000], ids=["open", "deep", "long"])
def test_a_text_that_is_no_toml(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^mine: found no TOML: "):
        parse_rules(text, "mine")


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rules]]\nname = "x"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"^{path}: rules\[0\]\.pipeline: found none"):
        read_rules(path)
