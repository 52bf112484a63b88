"""The commands that run for long: what they say when they cannot, in lines of a log."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from athanor_command import athanor, write_settings

RULES = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { attribute = "Modality", equals = "MR" }
"""


@contextmanager
def started(settings: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``athanor up``, from the moment when its broker listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "--settings", settings, "up"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 30
    while not (settings.parent / "state" / "run" / "broker.sock").exists():
        assert time.monotonic() < until, "the broker did not start"
        time.sleep(0.02)
    yield process
    process.terminate()
    process.wait(60)


def run(settings: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and log of a process of its own."""
    command = [sys.executable, "-m", "gateway", *arguments]
    environment = {
        **os.environ, "ATHANOR_SETTINGS": str(settings), "ATHANOR_LOG_FORMAT": "json",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    return ran.returncode, [json.loads(line) for line in ran.stderr.splitlines()]


def test_migrate_makes_the_database_and_leaves_one_of_today_as_it_is(tmp_path: Path) -> None:
    settings = write_settings(tmp_path, RULES)
    code, log = run(settings, "migrate")
    assert code == 0
    assert {"rules seeded", "the database is up to date"} <= {line["event"] for line in log}
    assert {line["process"] for line in log} == {"migrate"}
    assert athanor("--settings", settings, "rules", "ls", "--json").json[0]["version"] == 1
    (tmp_path / "rules.toml").unlink()
    code, log = run(settings, "migrate")
    assert code == 0
    assert "rules seeded" not in {line["event"] for line in log}
    assert athanor("--settings", settings, "rules", "ls", "--json").json[0]["version"] == 1


@pytest.mark.parametrize("command", ["migrate", "up"])
def test_rules_that_are_not_there_are_a_matter_of_settings(tmp_path: Path, command: str) -> None:
    settings = write_settings(tmp_path)
    (tmp_path / "rules.toml").unlink()
    code, log = run(settings, command)
    assert code == 2
    (ended,) = [line for line in log if line["level"] == "critical"]
    assert ended["event"] == "ended"
    assert ended["reason"].startswith(f"rules.seed: found no file {tmp_path}/rules.toml")


def test_an_scp_whose_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = write_settings(tmp_path, RULES, listener={"port": port})
        assert run(settings, "migrate")[0] == 0
        code, log = run(settings, "scp")
    assert code == 2
    assert log[-1]["level"] == "critical"
    assert f"127.0.0.1 port {port}: Address already in use" in log[-1]["reason"]


def test_a_second_gateway_in_the_same_folder_leaves_the_first_alone(tmp_path: Path) -> None:
    settings = write_settings(tmp_path, RULES)
    with started(settings) as first:
        code, log = run(settings, "up")
        assert code == 2
        (line,) = log
        assert line["reason"].startswith(
            f"node.state_dir: found another `athanor up` in {tmp_path}/state; expected none"
        )
        assert first.poll() is None
        assert (tmp_path / "state" / "run" / "broker.sock").exists()


@pytest.mark.parametrize("command", [("up",), ("scp",), ("clock",), ("worker", "--queue", "process"), ("migrate",)])
def test_settings_that_do_not_fit_are_refused_before_anything_starts(tmp_path: Path, command: tuple[str, ...]) -> None:
    settings = write_settings(tmp_path, RULES, node={"uid_root": "1.2.x"})
    ran = athanor("--settings", settings, *command)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("UID root: found '1.2.x'")
    assert not (tmp_path / "state").exists()
