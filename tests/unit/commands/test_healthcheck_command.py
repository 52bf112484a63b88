"""``athanor healthcheck``: the processes of one role on this host, and no others."""

from __future__ import annotations

import socket

import sqlalchemy as sa
from command_node import Node

from gateway.store import heartbeats, tables

HERE = socket.gethostname()


def beat(node: Node, *processes: str, age_s: float = 0.0) -> None:
    for process in processes:
        heartbeats.Heart(node.database, process)
        table = tables.heartbeat
        with node.database.write() as connection:
            connection.execute(sa.update(table).where(table.c.process == process).values(at=table.c.at - age_s))


def test_a_process_that_lives_is_healthy(node: Node) -> None:
    beat(node, f"clock-0@{HERE}", f"transfer-1@{HERE}")
    assert node("healthcheck", "clock").code == 0
    assert node("healthcheck", "transfer").code == 0


def test_one_that_has_fallen_silent_is_not(node: Node) -> None:
    beat(node, f"process-0@{HERE}")
    beat(node, f"process-1@{HERE}", age_s=60)
    ran = node("healthcheck", "process")
    assert ran.code == 1
    assert "process-1" in ran.err
    assert "no sign of life for 60 s" in ran.err


def test_the_process_of_another_host_says_nothing_of_this_one(node: Node) -> None:
    beat(node, "scp-0@elsewhere")
    ran = node("healthcheck", "scp")
    assert ran.code == 1
    assert "no process of it on this host" in ran.err


def test_a_role_that_is_none_is_wrong_usage(node: Node) -> None:
    assert node("healthcheck", "broker").code == 2
