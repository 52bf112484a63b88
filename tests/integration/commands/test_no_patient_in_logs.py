"""No patient attribute enters a log, whatever is sent and wherever it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from logging_node import MIXED_UP, PATIENT

PROGRAM = Path(__file__).with_name("logging_node.py")
TESTS = Path(__file__).parents[2]
# parts of the values too: a library may split a name or shorten an id. No time and no duration can hold one of them.
WORDS = {"Zyxwvut", "Quentin", "47Z11", "19610523", "08Z15", "SECRET", "Refers", *PATIENT.values()}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATHANOR_")}
    environment["PYTHONPATH"] = f"{TESTS}:{TESTS.parent}"
    command = [sys.executable, PROGRAM, tmp_path_factory.mktemp("logging-node")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def lines(ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_the_values_were_received(ran: subprocess.CompletedProcess[str]) -> None:
    assert PATIENT["PatientName"] in ran.stdout
    assert PATIENT["PatientID"] in ran.stdout


def test_the_log_tells_what_happened(lines: list[dict[str, Any]]) -> None:
    events = Counter(line["event"] for line in lines)
    assert events["association opened"] == len(MIXED_UP) + 4
    assert events["instance refused"] >= 6
    assert events["conflicting instance"] == 1
    assert events["series complete"] >= 6
    assert events["routed"] == events["series complete"]
    assert {line["state"] for line in lines if line["event"] == "ended"} >= {"REFUSED"}
    assert events["attempt failed"] >= 1
    assert events["uncaught"] == 1
    assert events["warned"] >= 1


def test_no_patient_attribute_is_in_the_log(ran: subprocess.CompletedProcess[str]) -> None:
    found = [line for line in ran.stderr.splitlines() if any(word in line for word in WORDS)]
    assert found == []


def test_each_line_is_one_json_object_that_says_who_and_when(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        assert line["process"] == "stages", line
        assert line["level"] in {"info", "warning", "error", "critical"}
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
        assert line["event"]


def test_each_line_carries_the_id_of_what_it_is_about(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if line["event"] in {"association opened", "association ended", "instance refused", "conflicting instance"}:
            assert line.get("association"), line
        if line["event"] in {"series complete", "routed"}:
            assert isinstance(line["series"], int), line
        if line["event"] in {"started", "ended", "attempt failed"}:
            assert line["job"], line


def test_where_a_foreign_error_came_from_is_kept(lines: list[dict[str, Any]]) -> None:
    (uncaught,) = [line for line in lines if line["event"] == "uncaught"]
    assert uncaught["exception"].endswith("ValueError")
    assert "logging_node.py" in uncaught["exception"]
