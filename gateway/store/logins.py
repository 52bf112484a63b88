"""Logins at an identity provider: those under way, and who may come in.

An attempt is used once, in the browser that began it, or never.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.roles import Role
from gateway.errors import AthanorError
from gateway.store import people
from gateway.store.database import now
from gateway.store.people import Somebody
from gateway.store.tables import login_attempt

WITHIN_S = 600.0  # how long somebody may take at the provider


@dataclass(frozen=True, slots=True)
class Attempt:
    """What we have to remember while somebody is at the provider."""

    nonce: str  # comes back in the ID token
    verifier: str  # shown with the code (RFC 7636)
    place: str  # the page to go on with


def begin(connection: Connection, state: str, browser: str, attempt: Attempt) -> None:
    """Remember an attempt under the digests of its state and of its browser's cookie; forget those that are too old."""
    connection.execute(sa.delete(login_attempt).where(login_attempt.c.until < now()))
    connection.execute(
        sa.insert(login_attempt).values(
            state=state, browser=browser, nonce=attempt.nonce, verifier=attempt.verifier,
            place=attempt.place, until=now() + WITHIN_S,
        )
    )  # fmt: skip


def take(connection: Connection, state: str, browser: str) -> Attempt | None:
    """The attempt, which is used with this; None when it is unknown, of another browser, too old or used."""
    row = connection.execute(
        sa.delete(login_attempt)
        .where(login_attempt.c.state == state, login_attempt.c.browser == browser, login_attempt.c.until > now())
        .returning(login_attempt.c.nonce, login_attempt.c.verifier, login_attempt.c.place)
    ).one_or_none()
    return Attempt(row.nonce, row.verifier, row.place) if row else None


def let_in(
    connection: Connection, issuer: str, subject: str, name: str, role: Role | None, address: str
) -> Somebody | str:
    """The person whom `issuer` calls `subject`, made at the first login, with the role of today; or why not.

    Without a role, which follows the groups at the provider, nobody gets in; nor does who was shut out here. What
    sessions they had end.
    """
    row = people.vouched_for(connection, issuer, subject)
    is_out = row is not None and not row["active"]
    if role is None or is_out:
        why = "your account is shut out here" if is_out else "none of your groups at the provider has a role here"
        if row:
            people.end_sessions(connection, row["id"])
        people.note(connection, Somebody(row["name"] if row else name, Role.VIEWER), address, "login failed", why=why)
        return why
    if row is None:
        return _added(connection, issuer, subject, name, role, address)
    somebody = Somebody(row["name"], role, row["id"])
    if row["role"] != role:
        people.change_person(connection, row["name"], role=role)
        people.note(connection, somebody, address, "changed a role", row["name"], role=role, by="groups")
    return somebody


def _added(connection: Connection, issuer: str, subject: str, name: str, role: Role, address: str) -> Somebody:
    """A new person without a password. Whose name is taken gets the provider's behind it, never the other's account."""
    for free in (name, f"{name}@{urlsplit(issuer).hostname}"[:64]):
        if people.add_person(connection, free, role, None, issuer=issuer, subject=subject):
            row = people.vouched_for(connection, issuer, subject)
            assert row is not None, "it was just made"
            somebody = Somebody(free, role, row["id"])
            people.note(connection, somebody, address, "added a person", free, role=role)
            return somebody
    raise AthanorError(f"{name} is the name of somebody else here; log in again, or ask an administrator of Athanor")
