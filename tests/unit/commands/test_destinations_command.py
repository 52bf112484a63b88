"""``athanor destinations``: how each stands, held and released."""

from __future__ import annotations

from command_node import Node

from gateway.domain.states import DeliveryState

KEYS = {
    "name", "state", "waits_for", "queued", "sending", "failed", "oldest_at", "held_at", "held_by", "hold_reason",
    "quiet_until", "down_since", "failures", "not_before", "error",
}  # fmt: skip


def test_a_destination_of_which_nothing_is_known_is_open(node: Node) -> None:
    (row,) = node("destinations", "ls", "--json").json
    assert set(row) == KEYS
    assert (row["name"], row["state"], row["queued"], row["waits_for"]) == ("pacs", "open", 0, None)
    assert node("destinations").out == node("destinations", "ls").out


def test_hold_and_release_say_who_and_why(node: Node) -> None:
    node.receive()
    node.route()
    node.finish_job()
    assert node("destinations", "hold", "elsewhere", "--reason", "x").code == 3
    assert node("destinations", "hold", "pacs", "--reason", "upgrade").out == "pacs is held\n"
    again = node("destinations", "hold", "pacs", "--reason", "other")
    assert (again.code, again.out) == (1, "pacs is held already; see `athanor destinations`\n")
    (row,) = node("destinations", "ls", "--json").json
    assert (row["state"], row["queued"], row["hold_reason"]) == ("held", 1, "upgrade")
    assert any(": 1; held by " in problem for problem in node("status", "--json").json["problems"])
    shown = node("jobs", "show", 1).out
    assert f"held by {row['held_by']} since " in shown
    assert ": upgrade\n" in shown
    assert node("destinations", "release", "pacs", "--json").json == {"released": True}
    assert node("destinations", "release", "pacs").code == 1
    node.end_delivery(DeliveryState.DELIVERED)
