"""People, their sessions, API keys, and the audit trail of what they did.

Cookies and keys are kept as SHA-256 digests: whoever reads the database cannot use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.roles import Role
from gateway.store.database import now
from gateway.store.outbox import insert_for
from gateway.store.tables import api_key, audit, person, web_session

_SEEN_EVERY_S = 60.0  # how old `seen_at` gets before it is written again: not every page is a write

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


def add_person(connection: Connection, name: str, role: Role, password_hash: str | None) -> bool:
    """Make an account; False when the name is taken."""
    statement = (
        insert_for(connection, person)
        .values(
            name=name, role=role, password_hash=password_hash, active=True,
            created_at=now(), failed_logins=0, locked_until=0.0,
        )
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(person.c.id)
    )  # fmt: skip
    return connection.execute(statement).scalar_one_or_none() is not None


def change_person(connection: Connection, name: str, **values: Any) -> bool:
    """Change role, password_hash or active; open sessions end, for they were given to who the person was before."""
    found = connection.execute(
        sa.update(person).where(person.c.name == name).values(**values).returning(person.c.id)
    ).scalar_one_or_none()
    if found is None:
        return False
    connection.execute(sa.delete(web_session).where(web_session.c.person_id == found))
    return True


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
    """A good login: remember the session and forget the failures."""
    connection.execute(
        sa.update(person).where(person.c.id == person_id).values(last_login_at=now(), failed_logins=0, locked_until=0.0)
    )
    connection.execute(
        sa.insert(web_session).values(
            digest=digest, person_id=person_id, created_at=now(), seen_at=now(),
            address=address[:64], agent=agent[:200],
        )
    )  # fmt: skip


def of_session(connection: Connection, digest: str, *, idle_s: float, longest_s: float) -> tuple[Somebody, bool] | None:
    """Who has this session, and whether `seen_at` should be written; None when it ended."""
    row = connection.execute(
        sa.select(person.c.id, person.c.name, person.c.role, (now() - web_session.c.seen_at).label("idle_s"))
        .join(person, person.c.id == web_session.c.person_id)
        .where(
            web_session.c.digest == digest,
            person.c.active,
            web_session.c.seen_at > now() - idle_s,
            web_session.c.created_at > now() - longest_s,
        )
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


def sessions(connection: Connection, person_id: int | None = None) -> list[Row]:
    """Open sessions, of one person or of all, latest first."""
    query = sa.select(web_session, person.c.name).join(person, person.c.id == web_session.c.person_id)
    if person_id is not None:
        query = query.where(web_session.c.person_id == person_id)
    return [dict(row._mapping) for row in connection.execute(query.order_by(web_session.c.seen_at.desc()))]


def people(connection: Connection) -> list[Row]:
    """Every account, without its password."""
    columns = [column for column in person.c if column.name != "password_hash"]
    return [dict(row._mapping) for row in connection.execute(sa.select(*columns).order_by(person.c.name))]


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


def keys(connection: Connection) -> list[Row]:
    """Every API key, without its digest, latest first."""
    columns = [column for column in api_key.c if column.name != "digest"]
    return [dict(row._mapping) for row in connection.execute(sa.select(*columns).order_by(api_key.c.id.desc()))]


def note(connection: Connection, somebody: Somebody, address: str, what: str, subject: str = "", **detail: Any) -> None:
    """Add to the audit trail, in the transaction of what was done."""
    connection.execute(
        sa.insert(audit).values(
            at=now(), who=somebody.name[:64], role=somebody.role, address=address[:64],
            what=what, subject=subject[:128], detail=detail,
        )
    )  # fmt: skip


def audit_trail(connection: Connection, limit: int, before: int | None = None, who: str | None = None) -> list[Row]:
    """What was done, newest first; `before` is the id after which to go on."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    if who:
        query = query.where(audit.c.who == who)
    return [dict(row._mapping) for row in connection.execute(query)]
