"""``athanor users``: who may use the web port, changed on the command line, and noted as that."""

from __future__ import annotations

import io
import sys

import pytest
from athanor_command import Ran
from command_node import Node

from gateway.admin.access import Access, NotAllowed
from gateway.domain.roles import Role
from gateway.store import people

PASSWORD, NEW = "a long enough password", "another long enough password"


def typed(monkeypatch: pytest.MonkeyPatch, node: Node, *arguments: object, password: str = PASSWORD) -> Ran:
    """Call it with a password on standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
    return node("users", *arguments, "--password-stdin")


def may_log_in(node: Node, name: str, password: str) -> bool:
    try:
        Access(node.database).log_in(name, password, "127.0.0.1", "")
    except NotAllowed:
        return False
    return True


def test_the_way_back_in_for_who_forgot_the_password(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nobody yet" in node("users").out
    assert typed(monkeypatch, node, "add", "ada", "--role", "administrator").code == 0
    assert not any(may_log_in(node, "ada", "forgotten") for _ in range(5))
    assert not may_log_in(node, "ada", PASSWORD), "locked"
    ran = typed(monkeypatch, node, "password", "ada", password=NEW)
    assert ran.code == 0, ran.err
    assert NEW not in ran.out + ran.err
    assert may_log_in(node, "ada", NEW)
    assert not may_log_in(node, "ada", PASSWORD)
    with node.database.read() as connection:
        done = [(row["what"], row["who"]) for row in people.audit_trail(connection, 50) if row["subject"] == "ada"]
    assert [what for what, _ in done] == ["set a password", "added a person"]
    assert all(who.startswith("command line ") for _, who in done)


def test_roles_and_who_is_shut_out(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, node, "add", "ada", "--role", "administrator")
    typed(monkeypatch, node, "add", "bob")
    assert typed(monkeypatch, node, "add", "bob").code == 1
    assert node("users", "deactivate", "ada").code == 1, "the last administrator stays"
    assert node("users", "role", "bob", "administrator", "--json").json == {"name": "bob", "role": "administrator"}
    assert may_log_in(node, "ada", PASSWORD)
    assert [row["name"] for row in node("users", "sessions", "--json").json] == ["ada"]
    assert node("users", "deactivate", "ada").code == 0
    assert node("users", "sessions", "--json").json == []
    assert not may_log_in(node, "ada", PASSWORD)
    assert node("users", "activate", "ada").code == 0
    assert may_log_in(node, "ada", PASSWORD)
    rows = {row["name"]: row for row in node("users", "ls", "--json").json}
    assert rows["bob"]["role"] == "administrator"
    assert not any("password" in key for row in rows.values() for key in row)
    assert node("users", "ls").out.splitlines()[1].split()[:3] == ["ada", "administrator", "yes"]


def test_sessions_are_ended(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, node, "add", "ada", "--role", "auditor")
    assert may_log_in(node, "ada", PASSWORD)
    assert "127.0.0.1" in node("users", "sessions", "ada").out
    assert node("users", "sessions", "--end").code == 2, "of whom"
    assert node("users", "sessions", "ada", "--end").out == "ended: 1\n"
    assert node("users", "sessions", "ada", "--json").json == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("role", "nobody", "viewer"), 3),
        (("activate", "nobody"), 3),
        (("sessions", "nobody"), 3),
        (("sessions", "nobody", "--end"), 3),
        (("role", "nobody", "king"), 2),
    ],
)
def test_what_is_not_there(node: Node, arguments: tuple[str, ...], code: int) -> None:
    assert node("users", *arguments).code == code


def test_a_password_is_never_an_argument_nor_short(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(monkeypatch, node, "add", "ada", password="short").code == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ran = node("users", "add", "ada")
    assert ran.code == 2
    assert "--password-stdin" in ran.err
    with node.database.read() as connection:
        assert people.people(connection) == []


def test_whom_a_provider_vouches_for_is_changed_there(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    with node.database.write() as connection:
        people.add_person(connection, "eve", Role.VIEWER, None, issuer="https://id.example", subject="7")
    for ran in (typed(monkeypatch, node, "password", "eve"), node("users", "role", "eve", "administrator")):
        assert ran.code == 1
        assert "https://id.example" in ran.err
    assert "https://id.example" in node("users").out
