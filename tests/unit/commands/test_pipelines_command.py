"""``athanor pipelines`` and ``athanor settings``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_node import Node

STIR = "t2-to-stir"


def test_disable_and_enable_say_who_and_why(node: Node) -> None:
    assert node("pipelines", "disable", "no-such", "--reason", "x").code == 3
    assert node("pipelines", "disable", STIR, "--reason", "dark canal").out == f"{STIR} is disabled\n"
    again = node("pipelines", "disable", STIR, "--reason", "x")
    assert (again.code, again.out) == (1, f"{STIR} is disabled already; see `athanor pipelines show`\n")
    row = next(one for one in node("pipelines", "ls", "--json").json if one["id"] == STIR)
    assert (row["enabled"], row["switch"]["reason"]) == (False, "dark canal")
    series_id = node.receive()
    node.route()
    shown = node("jobs", "show", series_id).out
    assert f"rule stir matches, but its pipeline {STIR} is disabled\n" in shown
    assert "rule stir: matches, but its pipeline is disabled by " in shown
    assert ": dark canal" in node("pipelines", "show", STIR).out
    assert node("pipelines", "enable", STIR, "--json").json == {"enabled": True}
    assert node("pipelines", "enable", STIR).code == 1
    assert node("jobs", "route", series_id).code == 0
    node.route()
    assert [job["state"] for job in node("jobs", "show", series_id, "--json").json["jobs"]] == ["QUEUED"]
    node("pipelines", "disable", STIR, "--reason", "again")
    assert f"{STIR} is disabled by " in node("jobs", "show", series_id).out
    assert any(f": 1; {STIR} is disabled by " in problem for problem in node("status", "--json").json["problems"])


def test_show_says_what_it_takes_and_what_is_wrong(node: Node) -> None:
    out = node("pipelines", "show", STIR).out
    assert "takes T2W: Modality MR; " in out
    assert "TE, ms 70 to 150" in out
    assert "Hides marrow oedema" in out
    assert node("pipelines").out == node("pipelines", "ls").out
    assert node("pipelines", "show", "no-such").code == 3


def test_a_model_that_ships_disabled_says_so(node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    released = node.settings.models_dir / STIR
    shutil.copytree(released, tmp_path / "models" / STIR)
    manifest = (released / "manifest.toml").read_text(encoding="utf-8").replace("enabled = true", "enabled = false")
    (tmp_path / "models" / STIR / "manifest.toml").write_text(manifest, encoding="utf-8")
    monkeypatch.setenv("ATHANOR_WEIGHTS_DIR", str(tmp_path / "models"))
    (row,) = node("pipelines", "ls", "--json").json
    assert (row["enabled"], row["enabled_in_manifest"]) == (False, False)
    assert "disabled" in node("pipelines", "ls").out
    assert "disabled in its manifest" in node("pipelines", "show", STIR).out


def test_settings_say_where_each_came_from(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_LISTENER__PORT", "4711")
    monkeypatch.setenv("ATHANOR_LISTENER__PEERS", '{"MR1": "192.0.2.7"}')
    monkeypatch.setenv("ATHANOR_BROKER__URL", "redis://athanor:geheim@broker/0")
    rows = {row["key"]: row for row in node("settings", "--json").json}
    port = rows["listener.port"]
    assert (port["value"], port["default"], port["origin"], port["source"]) == (
        "4711", "11112", "environment", "ATHANOR_LISTENER__PORT"
    )  # fmt: skip
    assert "MR1 = 192.0.2.7/32" in rows["listener.peers"]["value"]
    assert rows["listener.peers"]["origin"] == "environment"
    assert rows["destinations.pacs.host"]["origin"] == "file"
    assert rows["destinations.pacs.host"]["source"] == str(node.settings_file.resolve())
    assert rows["broker.url"]["value"] == "not shown"
    assert rows["assemble.quiet_s"]["origin"] == "default"
    out = node("settings", "--given").out
    assert "geheim" not in out
    assert "assemble.quiet_s" not in out
    assert node("settings", "no such setting").code == 3
