"""``athanor status``: well or not, and what to do about each problem."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from command_node import KINDS, Node

from gateway.domain.states import DeliveryState, JobState
from gateway.store import tables


def test_a_gateway_that_is_well(node: Node) -> None:
    node.alive()
    node.receive(3)
    node.route()
    node.finish_job()
    node.end_delivery(DeliveryState.DELIVERED)
    ran = node("status")
    assert ran.code == 0
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert lines[0] == "✓ the gateway is well"
    assert [line.split()[:2] for line in lines[2:6]] == [[name, "yes"] for name in sorted(KINDS)]
    assert "series      1 ROUTED" in lines
    assert "jobs        1 SUCCEEDED" in lines
    assert "deliveries  1 DELIVERED" in lines
    assert "instances   3, 0 refused or kept beside" in lines


def test_json_says_the_same_under_stable_keys(node: Node) -> None:
    node.alive()
    ran = node("status", "--json")
    assert ran.code == 0
    assert set(ran.json) == {
        "counts", "processes", "failed_lately", "destinations", "quarantine", "refusals", "disk", "problems", "held",
        "disabled_pipelines", "alerts",
        "commitments",
    }  # fmt: skip
    assert set(ran.json["counts"]) == {"series", "jobs", "deliveries", "instances", "oldest_job_s", "quarantined"}
    assert {"process", "age_s", "alive", "pid"} <= set(ran.json["processes"][0])
    assert set(ran.json["disk"]) == {"free_bytes", "reserve_bytes", "full_in_days"}
    assert ran.json["problems"] == []


def silent(node: Node, process: str, for_s: float) -> None:
    """The heartbeat of a process stops."""
    with node.database.write() as connection:
        beat = tables.heartbeat
        connection.execute(sa.update(beat).where(beat.c.process == process).values(at=time.time() - for_s))


def all_silent(node: Node) -> None:
    for process in KINDS:
        silent(node, process, 60)


def one_of_two_workers(node: Node) -> None:
    node.alive("process-1@host")
    silent(node, "process-1@host", 120)


def refused_job(node: Node, state: JobState) -> None:
    node.receive()
    node.route()
    node.end_job(state, "the generator ran out of memory")


def delivery(node: Node, state: DeliveryState) -> None:
    node.receive()
    node.route()
    node.finish_job()
    node.end_delivery(state, "transport connection: refused")


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (all_silent, "the gateway is not running; start it with `athanor up`"),
        (lambda node: silent(node, "scp", 20), "no SCP is running; its log says why; start it again"),
        (lambda node: silent(node, "process-0@host", 20), "no process worker is running"),
        (one_of_two_workers, "process-1@host gives no sign of life for 2 min"),
        (lambda node: refused_job(node, JobState.FAILED), "jobs that failed in 24 h: 1; see `athanor jobs ls"),
        (lambda node: delivery(node, DeliveryState.FAILED), "to pacs that failed: 1; transport connection: refused"),
        (lambda node: delivery(node, DeliveryState.QUEUED), "to pacs that are tried again: 1; transport connection"),
    ],
)
def test_each_problem_is_named_with_what_to_do(node: Node, happens: Callable[[Node], None], words: str) -> None:
    node.alive()
    happens(node)
    ran = node("status")
    assert ran.code == 4
    (problem,) = [line for line in ran.out.splitlines() if line.startswith("✗")]
    assert words in problem
    assert node("status", "--json").json["problems"] == [problem.removeprefix("✗ ")]


@pytest.mark.parametrize("state", [JobState.REFUSED, JobState.CANCELLED])
def test_a_job_that_ended_as_it_should_is_no_problem(node: Node, state: JobState) -> None:
    node.alive()
    refused_job(node, state)
    assert node("status").code == 0


def test_the_reserve_of_the_disk(node: Node) -> None:
    node.alive()
    text = node.settings_file.read_text().replace("reserve_bytes = 0", f"reserve_bytes = {1 << 62}")
    node.settings_file.write_text(text)
    ran = node("status")
    assert ran.code == 4
    assert "✗ the spool has reached its reserve and refuses instances (0xA700); free some space" in ran.out


def test_a_gateway_that_never_ran(node: Node) -> None:
    ran = node("status")
    assert ran.code == 4
    assert ran.out.splitlines()[0] == "✗ the gateway is not running; start it with `athanor up`"
