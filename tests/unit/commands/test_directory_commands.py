"""``athanor senders``, ``athanor destinations set`` and ``remove``: the directory from the command line."""

from __future__ import annotations

from command_node import Node

from gateway.commands import console
from gateway.store import directory_entries
from gateway.store.directory_entries import Kind


def test_a_sender_is_allowed_listed_and_removed(node: Node) -> None:
    ran = node("senders", "allow", "CT1", "10.20.3.8", "10.20.4.0/24", "--note", "room 3")
    assert ran.code == 0
    listed = node("senders", "ls", "--json").json
    (kept,) = [one for one in listed if one["version"]]
    assert (kept["ae_title"], kept["addresses"], kept["note"]) == ("CT1", ["10.20.3.8", "10.20.4.0/24"], "room 3")
    assert "10.20.3.8, 10.20.4.0/24" in node("senders").out
    assert node("senders", "remove", "CT1").code == 0
    assert node("senders", "remove", "CT1").code == console.NOT_FOUND
    assert not [one for one in node("senders", "ls", "--json").json if one["version"]]


def test_a_wrong_address_is_named(node: Node) -> None:
    ran = node("senders", "allow", "CT1", "10.20.3.256")
    assert ran.code == console.USAGE
    assert "found '10.20.3.256'; expected an address" in ran.err


def test_a_destination_is_set_shown_and_removed(node: Node) -> None:
    assert node("destinations", "set", "pacs2", "ae_title=PACS2", "host=127.0.0.1", "port=1", "label=false").code == 0
    assert "pacs2" in [row["name"] for row in node("destinations", "ls", "--json").json]
    # it has the same rights as one of the settings
    assert node("destinations", "hold", "pacs2", "--reason", "it moves").code == 0
    asked = node("echo", "pacs2", "--json")
    assert "connection refused" in asked.json["explanation"]
    with node.database.read() as connection:
        entry = directory_entries.find(connection, Kind.DESTINATION, "pacs2")
    assert entry is not None
    assert dict(entry.definition) == {"ae_title": "PACS2", "host": "127.0.0.1", "port": 1, "label": False}
    assert node("destinations", "remove", "pacs2", "--reason", "it is gone").code == 0
    assert "pacs2" not in node("destinations", "ls").out
    assert node("destinations", "remove", "pacs2").code == console.NOT_FOUND


def test_a_destination_that_cannot_be_is_refused(node: Node) -> None:
    ran = node("destinations", "set", "pacs2", "ae_title=PACS2", "host=127.0.0.1", "port=99999")
    assert ran.code == console.USAGE
    assert "port: found '99999'" in ran.err
    assert node("destinations", "set", "pacs2", "host").code == console.USAGE
