"""The metrics of a process: what they are called, what their labels can hold, and where they are shown."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from gateway import metrics
from gateway.__main__ import app
from gateway.commands.sandbox import free_port
from gateway.settings.watch import Metrics

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "athanor.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
NAME = re.compile(r"\bathanor_[a-z_]+\b")


def declared() -> dict[str, Any]:
    """Our metrics as Prometheus names them: counters with _total."""
    found = {}
    for family in metrics.registry.collect():
        if family.name.startswith("athanor_"):
            found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


ALL = declared()
SAMPLES = {f"{name}{end}" for name in ALL for end in ("", "_bucket", "_count", "_sum")}


def value(name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    return found if found is not None else 0.0


@pytest.mark.parametrize("name", ALL)
def test_a_name_says_its_unit_and_the_help_is_a_sentence(name: str) -> None:
    family = ALL[name]
    assert family.documentation.endswith(".")
    assert len(family.documentation.split()) >= 4
    if family.type == "histogram":
        assert name.endswith("_seconds")
    assert not re.search(r"_(ms|mb|kb|minutes)\b", name)


@pytest.mark.parametrize("name", ALL)
def test_every_metric_is_documented_with_its_labels(name: str) -> None:
    (row,) = re.findall(rf"(?m)^\| `{name}` \|(.*)$", DOCUMENT)
    (declaration,) = [one for one in vars(metrics).values() if getattr(one, "_name", "") == name.removesuffix("_total")]
    assert set(re.findall(r"`([a-z_]+)`", row.split("|")[0])) == set(declaration._labelnames)


def test_no_metric_is_documented_that_is_not_there() -> None:
    assert set(NAME.findall(DOCUMENT)) <= SAMPLES


def test_the_ports_are_documented() -> None:
    for role, offset in metrics.PORT_OFFSETS.items():
        assert re.search(rf"(?m)^\| `{role}-N` \| port \+ {offset} \+ N \|", DOCUMENT), role


def test_no_two_processes_share_a_port() -> None:
    settings = Metrics(port=9400)
    ports = [metrics.port_of(settings, f"{role}-{n}") for role in metrics.PORT_OFFSETS for n in range(10)]
    assert len(set(ports)) == len(ports)


def test_without_a_port_nothing_listens() -> None:
    assert metrics.port_of(Metrics(), "scp-0") is None
    assert metrics.serve(Metrics(), "scp-0") is None


def test_a_process_shows_its_metrics_and_itself() -> None:
    base = free_port()
    port = metrics.serve(Metrics(port=base), "scp-0")
    assert port == base
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    assert {"athanor_received_instances", "athanor_build_info", "process_resident_memory_bytes"} <= families


def test_a_port_that_is_taken_stops_nothing() -> None:
    base = free_port()
    assert metrics.serve(Metrics(port=base), "scp-0") == base
    assert metrics.serve(Metrics(port=base), "scp-0") is None


def test_only_peers_of_the_settings_are_told_apart() -> None:
    callers = metrics.Callers({"SCANNER1"})
    before = value("athanor_received_instances_total", calling_ae_title="other")
    for number in range(50):
        callers.stored(f"ZYXWVUT{number}", 10, time.perf_counter())
    callers.stored("SCANNER1", 10, time.perf_counter())
    assert value("athanor_received_instances_total", calling_ae_title="other") == before + 50
    assert value("athanor_received_instances_total", calling_ae_title="SCANNER1") >= 1
    assert b"ZYXWVUT" not in generate_latest(metrics.registry)


def test_a_status_that_a_peer_makes_up_makes_no_new_label() -> None:
    labels = {metrics.status_label(status) for status in range(0x10000)}
    assert len(labels) < 40
    assert metrics.status_label(0xA700) == "0xA700"
    assert metrics.status_label(0xC123) == "0xCxxx"
    assert metrics.status_label(409) == "other"


def test_a_clock_that_stands_by_shows_nothing_of_what_waits() -> None:
    waiting = metrics.Waiting(
        {"process": (3, 7.5)}, {"RECEIVING": 2}, {"QUEUED": 3}, {("pacs", "FAILED"): 1}, {"pacs": 60.0}
    )
    metrics.show_leadership(True)
    metrics.show_queues(waiting, ["route", "process"])
    assert value("athanor_queue_rows", stage="process") == 3
    assert value("athanor_queue_age_seconds", stage="process") == 7.5
    assert metrics.registry.get_sample_value("athanor_queue_rows", {"stage": "route"}) == 0
    assert value("athanor_deliveries_open", destination="pacs", state="FAILED") == 1
    metrics.show_leadership(False)
    assert metrics.registry.get_sample_value("athanor_queue_rows", {"stage": "process"}) is None
    assert metrics.registry.get_sample_value("athanor_delivery_age_seconds", {"destination": "pacs"}) is None


def expressions_of_the_dashboard(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        yield from (target["expr"] for target in panel.get("targets", ()))
        yield from expressions_of_the_dashboard(panel.get("panels", []))


EXPRESSIONS = list(expressions_of_the_dashboard(DASHBOARD["panels"]))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]


def test_dashboard_and_alerts_name_metrics_that_there_are() -> None:
    assert len(EXPRESSIONS) >= 15
    assert len(RULES) >= 10
    for expression in [*EXPRESSIONS, *(rule["expr"] for rule in RULES)]:
        names = set(NAME.findall(expression))
        assert names or "up{" in expression or "process_" in expression, expression
        assert names <= SAMPLES, expression
        assert expression.count("(") == expression.count(")"), expression


def test_every_panel_says_what_it_shows_in_which_unit() -> None:
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_every_alert_says_what_to_do_and_where_it_is_written() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^#+ (.+)$", operations)
    }
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        document, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert document == "docs/operations.md"
        assert anchor in anchors, rule["alert"]
        # what is told to do can be done
        for command in re.findall(r"`athanor ([a-z]+)", rule["annotations"]["summary"]):
            assert command in get_command(app).commands  # type: ignore[attr-defined]
