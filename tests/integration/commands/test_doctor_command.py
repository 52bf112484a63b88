"""``athanor doctor``: what is not well is found, and has its fix beside it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from athanor_command import Athanor, Ran
from test_send_command import at

import pipelines
from gateway.commands.sandbox import SmallPacs
from gateway.network.scp import ScpConfig, StorageScp
from pipelines.catalog import Catalog
from pipelines.runtime_choices import Choice, Machine, record

MakeNode = Callable[..., Athanor]
RULES = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { attribute = "Modality", equals = "MR" }
"""
WEIGHTS = Path(pipelines.__file__).resolve().parents[1] / "weights"
FINDING_KEYS = {"check", "well", "found", "fix"}


def finding(ran: Ran, check: str) -> dict[str, Any]:
    (found,) = [one for one in ran.json if one["check"] == check]
    return dict(found)


def test_a_machine_that_has_everything(node: MakeNode, pacs: SmallPacs, tmp_path: Path) -> None:
    command = node(RULES, destinations=at(pacs))
    ran = command("doctor")
    assert ran.code == 0, ran.out
    assert ran.err == ""
    # one line of weights for each model that ships
    assert list(dict.fromkeys(tuple(line.split()[:2]) for line in ran.out.splitlines())) == [
        ("✓", check)
        for check in (
            "port",
            "disk",
            "database",
            "rules",
            "broker",
            "device",
            "codecs",
            "weights",
            "runtime",
            "destination",
        )
    ]
    assert not (tmp_path / "node" / "state").exists(), "nothing was made by looking"
    ran = command("doctor", "--json")
    assert all(set(one) == FINDING_KEYS for one in ran.json)
    assert all(one["well"] for one in ran.json)


def test_a_database_that_is_there(node: MakeNode, pacs: SmallPacs) -> None:
    command = node(RULES, destinations=at(pacs))
    assert command("migrate").code == 0
    ran = command("doctor", "--json")
    assert ran.code == 0
    assert finding(ran, "database")["found"] == "sqlite answers"
    assert "0.0 s from that of the database" in finding(ran, "clock")["found"]
    assert finding(ran, "rules")["found"] == "enabled: stir"


def test_which_models_were_measured_on_this_machine(node: MakeNode, pacs: SmallPacs, tmp_path: Path) -> None:
    command = node(RULES, destinations=at(pacs))
    found = finding(command("doctor", "--json"), "runtime")
    assert (found["well"], found["found"][:32]) == (True, "the fastest was measured for 0 o")
    assert "`athanor bench inference --record`" in found["found"]
    digests = [spec.generator.sha256 for spec in Catalog.read(WEIGHTS).values() if spec.enabled]
    here, elsewhere = Machine.here(os.cpu_count() or 1), Machine("another processor", 1, {})
    state = tmp_path / "node" / "state"
    record(
        state / "runtimes.json",
        [Choice(digests[0], here, "eager", 0.0, {}), Choice(digests[1], elsewhere, "eager", 0.0, {})],
    )
    found = finding(command("doctor", "--json"), "runtime")
    assert f"measured for 1 of {len(digests)} enabled" in found["found"]
    record(state / "runtimes.json", [Choice(digest, here, "eager", 0.0, {}) for digest in digests])
    found = finding(command("doctor", "--json"), "runtime")
    assert found["found"] == f"the fastest was measured for {len(digests)} of {len(digests)} enabled pipelines"


def test_a_taken_port(node: MakeNode) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ran = node(RULES, listener={"port": port})("doctor", "--json")
    assert ran.code == 4
    found = finding(ran, "port")
    assert (found["well"], found["found"]) == (False, f"127.0.0.1:{port}: Address already in use")
    assert found["fix"] == "stop the program that holds it, or change listener.address and listener.port"


def test_our_own_scp_holds_the_port(node: MakeNode, pacs: SmallPacs, tmp_path: Path) -> None:
    scp = StorageScp(ScpConfig(ae_title="ATHANOR", port=0), SmallPacs(tmp_path / "own"))
    scp.start()
    try:
        port = scp.port
        ran = node(RULES, listener={"port": port}, destinations=at(pacs))("doctor", "--json")
    finally:
        scp.stop(1.0)
    assert ran.code == 0
    assert finding(ran, "port")["found"] == f"127.0.0.1:{port}: our SCP answers C-ECHO"


def test_a_destination_that_is_not_reached(node: MakeNode) -> None:
    ran = node(RULES)("doctor")
    assert ran.code == 4
    lines = ran.out.splitlines()
    (row,) = [index for index, line in enumerate(lines) if line.startswith("✗")]
    assert lines[row].startswith("✗ destination pacs: transport connection: 127.0.0.1 port ")
    assert lines[row + 1].strip().startswith("check host, port, AE titles")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one released model, the only one in use."""
    model = tmp_path / "models" / "t2-to-stir"
    shutil.copytree(WEIGHTS / "t2-to-stir", model)
    monkeypatch.setenv("ATHANOR_WEIGHTS_DIR", str(tmp_path / "models"))
    return model


def test_one_byte_of_the_weights_is_wrong(node: MakeNode, pacs: SmallPacs, weights: Path) -> None:
    command = node(RULES, destinations=at(pacs))
    assert command("doctor").code == 0
    content = bytearray((weights / "generator.safetensors").read_bytes())
    content[-1] ^= 1
    (weights / "generator.safetensors").write_bytes(content)
    ran = command("doctor", "--json")
    assert ran.code == 4
    found = finding(ran, "weights")
    assert not found["well"]
    assert "sha256" in found["found"]
    assert found["fix"] == "restore this folder from the release"


def test_a_manifest_that_cannot_be_read(node: MakeNode, weights: Path) -> None:
    (weights / "manifest.toml").write_text("id = 3")
    ran = node(RULES)("doctor", "--json")
    assert ran.code == 4
    assert "manifest.toml" in finding(ran, "weights")["found"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (RULES.replace('["pacs"]', '["archive"]'), "rule stir, destinations: found archive; expected one of pacs"),
        (RULES.replace("[[rules]]", "[[rules]]\nenabled = false"), "enabled: none"),
        ("[[rules", "found no TOML"),
    ],
)
def test_rules_that_will_not_work(node: MakeNode, rules: str, words: str) -> None:
    found = finding(node(rules)("doctor", "--json"), "rules")
    assert not found["well"]
    assert words in found["found"]
    assert "athanor rules" in found["fix"]


@pytest.mark.parametrize(
    ("section", "values", "check", "words"),
    [
        ("database", {"url": "postgresql://127.0.0.1:1/x"}, "database", "Connection refused"),
        ("broker", {"url": "redis://127.0.0.1:1/0"}, "broker", "Connection refused"),
        ("broker", {"url": "kafka://b"}, "broker", "expected one of redis://"),
        ("spool", {"reserve_bytes": 1 << 62}, "disk", "GB free, reserve"),
        ("listener", {"address": "192.0.2.1"}, "port", "Cannot assign requested address"),
        ("node", {"state_dir": "rules.toml/state"}, "disk", "rules.toml cannot be written"),
    ],
)
def test_what_is_missing_has_a_fix(
    node: MakeNode, section: str, values: dict[str, object], check: str, words: str
) -> None:
    deliver = {"connect_timeout_s": 0.2}
    found = finding(node(RULES, deliver=deliver, **{section: values})("doctor", "--json"), check)
    assert not found["well"]
    assert words in found["found"]
    assert len(found["fix"].split()) >= 3


def test_no_destination_at_all(node: MakeNode, tmp_path: Path) -> None:
    command = node(RULES)
    file = tmp_path / "node" / "settings.toml"
    file.write_text(file.read_text().partition("[destinations")[0])
    found = finding(command("doctor", "--json"), "destination")
    assert (found["found"], found["fix"]) == ("none", "add [destinations.NAME] to settings.toml")


def test_a_destination_that_shall_commit_and_cannot(node: MakeNode, pacs: SmallPacs) -> None:
    command = node(RULES, destinations={"pacs": {**at(pacs)["pacs"], "commitment": True}})
    found = finding(command("doctor", "--json"), "commitment")
    assert not found["well"]
    assert "does not accept Storage Commitment Push Model" in found["found"]
    assert "destinations.pacs.commitment = false" in found["fix"]
