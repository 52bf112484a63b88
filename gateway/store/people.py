"""People, their sessions, API keys, and the audit trail of what they did.

Cookies and keys are kept as SHA-256 digests: whoever reads the database cannot use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.roles import Role
from gateway.errors import AthanorError
from gateway.store import paging
from gateway.store.database import now
from gateway.store.outbox import insert_for
from gateway.store.paging import Cut, Page
from gateway.store.tables import api_key, audit, person, web_session

IDLE_S = 30 * 60.0  # a session ends after so long without use,
LONGEST_S = 12 * 3600.0  # and after so long in any case
_SESSIONS_SHOWN = 500
_SEEN_EVERY_S = 60.0  # how old `seen_at` gets before it is written again: not every page is a write

_SHOWN = [column for column in person.c if column.name != "password_hash"]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Somebody:
    """Whoever is behind a request: a person with a session, or an API key, which has none."""

    name: str
    role: Role
    person_id: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What is needed to decide about a login."""

    person_id: int
    name: str
    role: Role
    password_hash: str | None
    is_locked: bool


def is_anybody(connection: Connection) -> bool:
    """Whether there is a person at all; the first one is made with the set-up token."""
    return connection.execute(sa.select(sa.exists().select_from(person))).scalar_one()


def add_person(
    connection: Connection,
    name: str,
    role: Role,
    password_hash: str | None,
    *,
    issuer: str | None = None,
    subject: str | None = None,
) -> bool:
    """Make an account; with `issuer` one that an identity provider vouches for. False when the name is taken."""
    statement = (
        insert_for(connection, person)
        .values(
            name=name, role=role, password_hash=password_hash, active=True,
            created_at=now(), failed_logins=0, locked_until=0.0, issuer=issuer, subject=subject,
        )
        .on_conflict_do_nothing()
        .returning(person.c.id)
    )  # fmt: skip
    return connection.execute(statement).scalar_one_or_none() is not None


def change_person(connection: Connection, name: str, *, kept_session: str = "", **values: Any) -> bool:
    """Change role, password_hash or active; False when there is nobody of that name.

    Open sessions end, for they were given to who the person was before; the one with the digest `kept_session` stays.
    """
    found = connection.execute(
        sa.update(person).where(person.c.name == name).values(**values).returning(person.c.id)
    ).scalar_one_or_none()
    if found is None:
        return False
    end_sessions(connection, found, kept_session)
    return True


def set_role(connection: Connection, name: str, role: Role) -> bool:
    """Give a person another role; False when there is nobody. Raises AthanorError when that may not be done here."""
    if role is not Role.ADMINISTRATOR:
        _require_other_administrator(connection, name)
    _require_own(connection, name, "the role follows the groups there")
    return change_person(connection, name, role=role)


def set_active(connection: Connection, name: str, *, active: bool) -> bool:
    """Let a person in or shut one out; False when there is nobody. Raises AthanorError for the last administrator."""
    if not active:
        _require_other_administrator(connection, name)
    return change_person(connection, name, active=active)


def set_password(connection: Connection, name: str, password_hash: str, *, kept_session: str = "") -> bool:
    """Give a person another password, and open the account if wrong ones locked it. False when there is nobody.

    Raises AthanorError for a person whom an identity provider vouches for: a password would outlive its word.
    """
    _require_own(connection, name, "the password is changed there")
    return change_person(
        connection, name, kept_session=kept_session,
        password_hash=password_hash, failed_logins=0, locked_until=0.0,
    )  # fmt: skip


def _require_other_administrator(connection: Connection, name: str) -> None:
    if administrators(connection) == [name]:
        raise AthanorError(f"{name} is the last administrator; make another one first")


def _require_own(connection: Connection, name: str, words: str) -> None:
    found = find(connection, name)
    if found and found["issuer"]:
        raise AthanorError(f"{name} logs in at {found['issuer']}: {words}")


def administrators(connection: Connection) -> list[str]:
    """Names of the active administrators: the last one must not be taken away."""
    rows = connection.execute(
        sa.select(person.c.name).where(person.c.active, person.c.role == Role.ADMINISTRATOR)
    ).scalars()
    return list(rows)


def account(connection: Connection, name: str) -> Account | None:
    """The active account of that name."""
    row = connection.execute(
        sa.select(person, (person.c.locked_until > now()).label("is_locked")).where(
            person.c.name == name, person.c.active
        )
    ).one_or_none()
    return Account(row.id, row.name, Role(row.role), row.password_hash, bool(row.is_locked)) if row else None


def find(connection: Connection, name: str) -> Row | None:
    """The account of that name, active or not, without its password."""
    row = connection.execute(sa.select(*_SHOWN).where(person.c.name == name)).one_or_none()
    return dict(row._mapping) if row else None


def vouched_for(connection: Connection, issuer: str, subject: str) -> Row | None:
    """The account of whom an identity provider calls `subject`, active or not."""
    row = connection.execute(
        sa.select(*_SHOWN).where(person.c.issuer == issuer, person.c.subject == subject)
    ).one_or_none()
    return dict(row._mapping) if row else None


def record_failed_login(connection: Connection, person_id: int, *, free: int, first_s: float, longest_s: float) -> None:
    """Count a failed login; after `free` of them each locks the account for twice as long as the last."""
    failed = connection.execute(
        sa.update(person)
        .where(person.c.id == person_id)
        .values(failed_logins=person.c.failed_logins + 1)
        .returning(person.c.failed_logins)
    ).scalar_one()
    if failed > free:
        wait_s = min(first_s * 2.0 ** min(failed - free - 1, 32), longest_s)
        connection.execute(sa.update(person).where(person.c.id == person_id).values(locked_until=now() + wait_s))


def open_session(connection: Connection, person_id: int, digest: str, address: str, agent: str) -> None:
    """A good login: remember the session, forget the failures and the sessions that ended by themselves."""
    connection.execute(sa.delete(web_session).where(~_is_open()))
    connection.execute(
        sa.update(person).where(person.c.id == person_id).values(last_login_at=now(), failed_logins=0, locked_until=0.0)
    )
    connection.execute(
        sa.insert(web_session).values(
            digest=digest, person_id=person_id, created_at=now(), seen_at=now(),
            address=address[:64], agent=agent[:200],
        )
    )  # fmt: skip


def of_session(connection: Connection, digest: str) -> tuple[Somebody, bool] | None:
    """Who has this session, and whether `seen_at` should be written; None when it ended."""
    row = connection.execute(
        sa.select(person.c.id, person.c.name, person.c.role, (now() - web_session.c.seen_at).label("idle_s"))
        .join(person, person.c.id == web_session.c.person_id)
        .where(web_session.c.digest == digest, person.c.active, _is_open())
    ).one_or_none()
    return (Somebody(row.name, Role(row.role), row.id), row.idle_s > _SEEN_EVERY_S) if row else None


def touch_session(connection: Connection, digest: str) -> None:
    """The session is in use."""
    connection.execute(sa.update(web_session).where(web_session.c.digest == digest).values(seen_at=now()))


def end_session(connection: Connection, digest: str, person_id: int | None = None) -> bool:
    """Log out, or revoke; with `person_id` only when it is that person's."""
    statement = sa.delete(web_session).where(web_session.c.digest == digest)
    if person_id is not None:
        statement = statement.where(web_session.c.person_id == person_id)
    return connection.execute(statement).rowcount == 1


def end_sessions(connection: Connection, person_id: int, kept_session: str = "") -> int:
    """End the sessions of a person but the one with the digest `kept_session`; how many there were."""
    return connection.execute(
        sa.delete(web_session).where(web_session.c.person_id == person_id, web_session.c.digest != kept_session)
    ).rowcount


def sessions(connection: Connection, person_id: int | None = None) -> list[Row]:
    """Open sessions, of one person or of all, latest first; 500 at most."""
    query = sa.select(web_session, person.c.name).join(person, person.c.id == web_session.c.person_id)
    if person_id is not None:
        query = query.where(web_session.c.person_id == person_id)
    query = query.where(_is_open()).order_by(web_session.c.seen_at.desc()).limit(_SESSIONS_SHOWN)
    return [dict(row._mapping) for row in connection.execute(query)]


def _is_open() -> sa.ColumnElement[bool]:
    return sa.and_(web_session.c.seen_at > now() - IDLE_S, web_session.c.created_at > now() - LONGEST_S)


def people(connection: Connection) -> list[Row]:
    """Every account, without its password."""
    return [dict(row._mapping) for row in connection.execute(sa.select(*_SHOWN).order_by(person.c.name))]


def people_page(connection: Connection, limit: int, cut: Cut) -> Page:
    """Accounts by name, without their passwords."""
    return paging.page(connection, sa.select(*_SHOWN), (person.c.name,), cut, limit, falling=False)


def add_key(connection: Connection, name: str, digest: str, role: Role, created_by: str) -> int:
    """Keep a new API key; its id."""
    key_id: int = connection.execute(
        sa.insert(api_key)
        .values(name=name, digest=digest, role=role, created_by=created_by, created_at=now())
        .returning(api_key.c.id)
    ).scalar_one()
    return key_id


def of_key(connection: Connection, digest: str) -> tuple[Somebody, bool] | None:
    """Whose API key this is, and whether its use should be written; None when it is unknown or revoked."""
    row = connection.execute(
        sa.select(api_key.c.name, api_key.c.role, (now() - api_key.c.used_at).label("idle_s")).where(
            api_key.c.digest == digest, api_key.c.revoked_at.is_(None)
        )
    ).one_or_none()
    if row is None:
        return None
    return Somebody(f"key {row.name}", Role(row.role)), row.idle_s is None or row.idle_s > _SEEN_EVERY_S


def touch_key(connection: Connection, digest: str) -> None:
    """The key is in use."""
    connection.execute(sa.update(api_key).where(api_key.c.digest == digest).values(used_at=now()))


def revoke_key(connection: Connection, key_id: int) -> bool:
    """Make a key useless; False when there is none that is in force."""
    return (
        connection.execute(
            sa.update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None)).values(revoked_at=now())
        ).rowcount
        == 1
    )


def keys(connection: Connection, created_by: str | None = None) -> list[Row]:
    """Every API key, or those that one person made, without their digests, latest first."""
    query = sa.select(*(column for column in api_key.c if column.name != "digest")).order_by(api_key.c.id.desc())
    if created_by is not None:
        query = query.where(api_key.c.created_by == created_by)
    return [dict(row._mapping) for row in connection.execute(query)]


def note(connection: Connection, somebody: Somebody, address: str, what: str, subject: str = "", **detail: Any) -> None:
    """Add to the audit trail, in the transaction of what was done."""
    connection.execute(
        sa.insert(audit).values(
            at=now(), who=somebody.name[:64], role=somebody.role, address=address[:64],
            what=what, subject=subject[:128], detail=detail,
        )
    )  # fmt: skip


def audit_page(connection: Connection, who: str, limit: int, cut: Cut) -> Page:
    """What was done, by one or by all, newest first."""
    query = sa.select(audit)
    if who:
        query = query.where(audit.c.who == who)
    return paging.page(connection, query, (audit.c.id,), cut, limit)


def audit_trail(connection: Connection, limit: int) -> list[Row]:
    """The latest of what was done, newest first."""
    return audit_page(connection, "", limit, Cut()).rows
