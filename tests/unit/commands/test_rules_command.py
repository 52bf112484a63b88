"""``athanor rules``: try, apply, export, switch."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_node import RULES, Node
from small_series import write_small_series

RULE_KEYS = {"name", "version", "enabled", "pipeline", "destinations", "priority"}


@pytest.fixture
def acquired(tmp_path: Path) -> Path:
    """A folder of a T2W series."""
    write_small_series(tmp_path / "acquired", 1, 2)
    return tmp_path / "acquired"


def rules_file(node: Node, text: str) -> Path:
    file = node.folder / "new.toml"
    file.write_text(text, encoding="utf-8")
    return file


def versions(node: Node) -> dict[str, int]:
    return {row["name"]: row["version"] for row in node("rules", "ls", "--json").json}


def test_list(node: Node) -> None:
    ran = node("rules", "ls")
    assert ran.code == 0
    assert ran.out.splitlines()[1].split("  ")[0] == "stir"
    (row,) = node("rules", "ls", "--json").json
    assert set(row) == RULE_KEYS
    assert (row["name"], row["version"], row["enabled"], row["destinations"]) == ("stir", 1, True, ["pacs"])


def test_test_shows_each_condition_with_what_was_found(node: Node, acquired: Path) -> None:
    ran = node("rules", "test", acquired)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "stir  wins",
        "  ✓ all   2 of 2 hold",
        "      ✓ Modality equals 'MR'   found 'MR'",
        "      ✓ EchoTime between 70 and 150   found 100",
        "winner: stir",
    ]


def test_test_of_a_series_that_no_rule_takes(node: Node, tmp_path: Path) -> None:
    (file, _) = write_small_series(tmp_path / "short-echo", 1, 2, EchoTime=10.0)
    ran = node("rules", "test", file)
    assert ran.code == 1
    assert "      ✗ EchoTime between 70 and 150   found 10\n" in ran.out
    assert "no enabled rule matches: the series would be kept and shown as UNMATCHED" in ran.out


def test_test_of_a_synthetic_series_says_that_the_guard_stops_it(node: Node, tmp_path: Path) -> None:
    (file, _) = write_small_series(tmp_path / "marked", 1, 2, SyntheticData="YES")
    ran = node("rules", "test", file)
    assert ran.code == 1
    assert "stir  wins" in ran.out
    assert "would end BLOCKED, whatever the rules say: Synthetic Data" in ran.out
    assert node("rules", "test", file, "--json").json["blocked"].startswith("Synthetic Data")


def test_test_as_json(node: Node, acquired: Path) -> None:
    ran = node("rules", "test", acquired, "--json")
    assert set(ran.json) == {"blocked", "winners", "conflicts", "rules"}
    assert ran.json["winners"] == ["stir"]
    assert ran.json["blocked"] is None
    (rule,) = ran.json["rules"]
    assert set(rule) == {"name", "outcome", "reason", "role", "trace"}
    assert set(rule["trace"]["children"][0]) == {"operator", "matched", "attribute", "expected", "found", "children"}


def test_test_takes_rules_from_a_file_and_a_sender_by_name_without_a_database(
    node: Node, acquired: Path, tmp_path: Path
) -> None:
    file = rules_file(
        node,
        '[[rules]]\nname = "from-ct"\npipeline = "t2-to-stir"\ndestinations = ["pacs"]\n'
        'when = { attribute = "calling_ae_title", equals = "CT1" }\n',
    )
    (node.settings.node.state_dir / "athanor.sqlite").unlink()
    assert node("rules", "test", acquired, "--rules", file).code == 1
    assert node("rules", "test", acquired, "--rules", file, "--calling", "CT1").code == 0


def test_test_without_a_dicom_file(node: Node, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter.txt").write_text("Dear colleague")
    ran = node("rules", "test", tmp_path / "papers")
    assert ran.code == 3
    assert "found no DICOM file; expected one, or a folder of one series" in ran.err


CHANGED = RULES.replace("[70, 150]", "[80, 150]")
ADDED = RULES + RULES.replace('"stir"', '"stir-too"')


def test_apply_gives_new_versions_to_what_changed(node: Node) -> None:
    assert node("rules", "apply", rules_file(node, RULES)).out == "unchanged   stir@1\n"
    assert node("rules", "apply", rules_file(node, CHANGED)).out == "changed     stir@2\n"
    assert node("rules", "apply", rules_file(node, ADDED)).out == "changed     stir@3\nadded       stir-too@1\n"
    assert node("rules", "apply", rules_file(node, RULES)).out == "unchanged   stir@3\nremoved     stir-too@1\n"
    assert versions(node) == {"stir": 3}


def test_a_dry_run_says_what_would_change_and_changes_nothing(node: Node) -> None:
    ran = node("rules", "apply", "--dry-run", rules_file(node, CHANGED))
    assert ran.code == 0
    assert ran.out == "changed     stir@2\ndry run: nothing was changed\n"
    assert versions(node) == {"stir": 1}
    assert node("rules", "apply", "--dry-run", "--json", rules_file(node, CHANGED)).json == {
        "applied": False,
        "changes": [{"name": "stir", "what": "changed", "version": 2}],
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"t2-to-stir"', '"t3-to-stir"'), "rule stir, pipeline: found t3-to-stir; expected one of "),
        (('["pacs"]', '["archive"]'), "rule stir, destinations: found archive; expected one of pacs"),
        (("EchoTime", "EchoTimes"), "EchoTimes"),
        (("between", "betwen"), "betwen"),
        (("[[rules]]", "[[rules"), "found no TOML"),
    ],
)
def test_rules_that_could_not_work_are_refused_whole(node: Node, change: tuple[str, str], words: str) -> None:
    ran = node("rules", "apply", rules_file(node, ADDED.replace(*change, 1)))
    assert ran.code == 2
    assert ran.out == ""
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert versions(node) == {"stir": 1}


def test_what_is_exported_can_be_applied_and_changes_nothing(node: Node) -> None:
    node("rules", "apply", rules_file(node, ADDED))
    exported = node("rules", "export")
    assert exported.code == 0
    ran = node("rules", "apply", rules_file(node, exported.out))
    assert ran.out == "unchanged   stir@1\nunchanged   stir-too@1\n"
    assert node("rules", "export").out == exported.out


def test_a_rule_is_switched_off_and_on(node: Node, acquired: Path) -> None:
    assert node("rules", "disable", "stir").out == "stir is disabled\n"
    assert node("rules", "test", acquired).code == 1
    assert node("rules", "test", acquired).out.startswith("stir  disabled\n  ✓ all   2 of 2 hold\n")
    assert node("rules", "enable", "stir").out == "stir is enabled\n"
    assert node("rules", "test", acquired).code == 0
    assert versions(node) == {"stir": 3}


def test_a_rule_is_not_switched_on_when_its_destination_is_gone(node: Node) -> None:
    node("rules", "disable", "stir")
    node.settings_file.write_text(node.settings_file.read_text().replace("[destinations.pacs]", "[destinations.ris]"))
    ran = node("rules", "enable", "stir")
    assert ran.code == 2
    assert "rule stir, destinations: found pacs; expected one of ris" in ran.err
    assert node("rules", "ls", "--json").json[0]["enabled"] is False


@pytest.mark.parametrize("command", ["enable", "disable"])
def test_a_rule_that_is_not_known(node: Node, command: str) -> None:
    ran = node("rules", command, "strir")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "found no rule 'strir'; see `athanor rules ls`\n"
