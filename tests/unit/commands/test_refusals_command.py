"""``athanor refusals`` and what ``athanor status`` says of them: who, how often, why, and what lets him in."""

from __future__ import annotations

from collections import Counter

from command_node import Node

from gateway.domain.refusal import Reason, Refusal
from gateway.store import refusals


def refuse(node: Node, *refused: Refusal, times: int = 1) -> None:
    with node.database.write() as connection:
        for at, one in enumerate(refused):
            refusals.record(connection, Counter({one: times}), 1_700_000_000.0 + at)


def test_each_line_says_what_lets_the_peer_in(node: Node) -> None:
    stranger = Refusal("10.0.0.7", "MR1", "ATHANOR", Reason.CALLING_AE_TITLE)
    refuse(node, Refusal("10.0.0.8", "", "", Reason.ADDRESS), stranger, times=12)
    ran = node("refusals")
    assert ran.code == 0
    first, second = ran.out.splitlines()[1:]
    assert first.split()[2:6] == ["12", "10.0.0.7", "MR1", "ATHANOR"]
    assert first.endswith('add to [listener.peers]: MR1 = "10.0.0.7"')
    assert "this address may not call" in second
    assert len(node("refusals", "--limit", 1).out.splitlines()) == 2
    keys = {"id", "address", "calling_ae_title", "called_ae_title", "reason", "count", "first_at", "last_at", "remedy"}
    assert {frozenset(row) for row in node("refusals", "--json").json} == {frozenset(keys)}


def test_they_can_be_forgotten(node: Node) -> None:
    refuse(node, Refusal("10.0.0.8", "", "", Reason.ADDRESS))
    assert node("refusals", "--clear").out == "forgotten: 1\n"
    assert node("refusals").out == "nobody was refused\n"


def test_status_shows_the_latest_and_is_no_less_well_for_it(node: Node) -> None:
    node.alive()
    refuse(node, *(Refusal(f"10.0.0.{n}", "MR1", "OTHER", Reason.CALLED_AE_TITLE) for n in range(7)), times=3)
    ran = node("status")
    assert ran.code == 0
    told = [line for line in ran.out.splitlines() if line.startswith("refused")]
    assert len(told) == 5
    assert "MR1 at 10.0.0.6, 3 times: another AE title than ours was called" in told[0]
    assert "let it call ATHANOR" in ran.out
    assert len(node("status", "--json").json["refusals"]) == 5
