"""``athanor users``: who may use the web port; also the way back in when nobody remembers a password."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from gateway.domain.roles import Role
from gateway.store import people

app = typer.Typer(help="Who may use the web port: list, add, role, deactivate, activate, password, sessions.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="a person")]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input, one line")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Who may use the web port: list, add, role, deactivate, activate, password, sessions."""
    if context.invoked_subcommand is None:
        list_people()


@app.command("ls")
def list_people(json: Json = False) -> None:
    """List the people: role, whether they may log in and how, and when they did last."""
    with console.database() as database, database.read() as connection:
        rows = people.people(connection)
    if json:
        console.show_json(rows)
        return
    if not rows:
        say("nobody yet; `athanor users add NAME --role administrator` makes the first one")
        return
    show_table(
        ("name", "role", "may log in", "by", "last login", "failed logins"),
        [
            (
                row["name"],
                row["role"],
                "yes" if row["active"] else "no",
                row["issuer"] or "password",
                console.local_time(row["last_login_at"]),
                str(row["failed_logins"]),
            )
            for row in rows
        ],
    )


@app.command("add")
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="what the person may do")] = Role.VIEWER,
    password_stdin: Stdin = False,
    json: Json = False,
) -> None:
    """Add a person with a password, which is asked for."""
    if not name.isprintable() or not 1 <= len(name) <= 64:
        console.fail("NAME: expected 1 to 64 printable characters", console.USAGE)
    password_hash = _password_hash(from_stdin=password_stdin)
    with _change("added a person", name, role=role) as connection:
        if not people.add_person(connection, name, role, password_hash):
            console.fail(f"found {name} among the people; expected a name that is free")
    _tell(json, {"added": name, "role": role}, f"{name} may log in as {role}")


@app.command("role")
def change_role(
    name: Name,
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="viewer, operator, administrator or auditor")],
    json: Json = False,
) -> None:
    """Give a person another role; open sessions of the person end."""
    with _change("changed a role", name, role=role) as connection:
        _require(people.set_role(connection, name, role), name)
    _tell(json, {"name": name, "role": role}, f"{name} is {role}")


@app.command("deactivate")
def deactivate(name: Name, json: Json = False) -> None:
    """Shut a person out; open sessions of the person end."""
    with _change("shut out", name) as connection:
        _require(people.set_active(connection, name, active=False), name)
    _tell(json, {"name": name, "active": False}, f"{name} is shut out")


@app.command("activate")
def activate(name: Name, json: Json = False) -> None:
    """Let a person in again."""
    with _change("let in", name) as connection:
        _require(people.set_active(connection, name, active=True), name)
    _tell(json, {"name": name, "active": True}, f"{name} may log in")


@app.command("password")
def set_password(name: Name, password_stdin: Stdin = False, json: Json = False) -> None:
    """Give a person another password, which is asked for, and open the account if wrong ones locked it."""
    password_hash = _password_hash(from_stdin=password_stdin)
    with _change("set a password", name) as connection:
        _require(people.set_password(connection, name, password_hash), name)
    _tell(json, {"name": name}, f"{name} has the new password; open sessions of {name} ended")


@app.command("sessions")
def sessions(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="a person; without, everybody")] = None,
    end: Annotated[bool, typer.Option("--end", help="end all sessions of NAME instead")] = False,
    json: Json = False,
) -> None:
    """List the open sessions: whose, since when, last seen, from where and with what."""
    if end:
        _end_sessions(name, json)
        return
    with console.database() as database, database.read() as connection:
        rows = people.sessions(connection, _find(connection, name) if name else None)
    if json:
        console.show_json(rows)
        return
    show_table(
        ("name", "since", "last seen", "from", "with"),
        [
            (
                row["name"],
                console.local_time(row["created_at"]),
                console.local_time(row["seen_at"]),
                row["address"],
                row["agent"],
            )
            for row in rows
        ],
    )


def _end_sessions(name: str | None, json: bool) -> None:
    if name is None:
        console.fail("--end: found no NAME; expected the person whose sessions are to end", console.USAGE)
    with _change("ended sessions", name) as connection:
        ended = people.end_sessions(connection, _find(connection, name))
    _tell(json, {"ended": ended}, f"ended: {ended}")


@contextmanager
def _change(what: str, name: str, **detail: str) -> Iterator[Any]:
    """A transaction with its line in the audit trail, under the name of whoever gives the command."""
    somebody = people.Somebody(f"command line {console.operator()}", Role.ADMINISTRATOR)
    with console.database() as database, database.write() as connection:
        yield connection
        people.note(connection, somebody, "", what, name, **detail)


def _password_hash(*, from_stdin: bool) -> str:
    """The hash of a password that was typed twice, or read from standard input: an argument would stand in `ps`."""
    from gateway.admin.access import NotAllowed, hash_password

    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)
    else:
        console.fail("found no terminal to ask for the password; expected one, or --password-stdin", console.USAGE)
    try:
        return hash_password(password)
    except NotAllowed as error:
        console.fail(str(error), console.USAGE)


def _find(connection: Any, name: str) -> int:
    found = people.find(connection, name)
    _require(found is not None, name)
    assert found is not None, "else we left"
    return int(found["id"])


def _require(is_there: bool, name: str) -> None:
    if not is_there:
        console.fail(f"there is nobody of the name {name}; `athanor users` lists the people", console.NOT_FOUND)


def _tell(json: bool, document: dict[str, Any], words: str) -> None:
    if json:
        console.show_json(document)
    else:
        say(words)


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="users")
