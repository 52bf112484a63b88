"""The rulebook: every version of every rule, and which of them are active, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway import logs
from gateway.dicom.header import resolve_attribute
from gateway.domain.rule_tables import digest, rule_from_table, rule_to_table
from gateway.domain.rules import Rule, require_activatable
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.store import by_hand
from gateway.store.database import Database, now
from gateway.store.outbox import insert_for
from gateway.store.rules_file import read_rules
from gateway.store.tables import rule_draft, rule_version
from pipelines.catalog import Catalog

log = logs.get("rules")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a rule, as a job refers to it."""

    id: int
    version: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Change:
    """What applying a list of rules did to one of them: added, changed, removed or unchanged."""

    name: str
    what: str
    version: int


def active(connection: Connection) -> list[Version]:
    """The rules in force, in their order."""
    rows = connection.execute(sa.select(rule_version).where(rule_version.c.active).order_by(rule_version.c.position))
    return [Version(row.id, row.version, rule_from_table(row.definition, f"rule {row.name}")) for row in rows]


def require_usable(rules: Sequence[Rule], settings: Settings) -> None:
    """Raise ConfigurationError when an enabled rule names a pipeline, destination or attribute that is not there."""
    catalog = Catalog.read(settings.models_dir)
    roles = {spec.id: [one.role for one in spec.inputs] for spec in catalog.values()}
    for rule in rules:
        if rule.enabled:
            require_activatable(
                rule, roles=roles, destinations=settings.destinations, resolve_attribute=resolve_attribute
            )


def apply(connection: Connection, rules: Sequence[Rule], *, author: str, reason: str) -> list[Change]:
    """Make `rules` the active list: what changed gets a new version, what is missing is retired and not lost."""
    in_force = {version.rule.name: version for version in active(connection)}
    connection.execute(sa.update(rule_version).where(rule_version.c.active).values(active=False))
    changes = []
    for position, rule in enumerate(rules):
        known = in_force.pop(rule.name, None)
        if known is not None and digest(known.rule) == digest(rule):
            connection.execute(
                sa.update(rule_version).where(rule_version.c.id == known.id).values(active=True, position=position)
            )
            changes.append(Change(rule.name, "unchanged", known.version))
        else:
            version = _insert(connection, rule, position, author, reason)
            changes.append(Change(rule.name, "added" if version == 1 else "changed", version))
    changes += [Change(name, "removed", version.version) for name, version in in_force.items()]
    return changes


def _insert(connection: Connection, rule: Rule, position: int, author: str, reason: str) -> int:
    latest = connection.execute(
        sa.select(sa.func.max(rule_version.c.version)).where(rule_version.c.name == rule.name)
    ).scalar_one()
    version = (latest or 0) + 1
    connection.execute(
        sa.insert(rule_version).values(
            name=rule.name,
            version=version,
            position=position,
            active=True,
            definition=rule_to_table(rule),
            digest=digest(rule),
            author=author,
            reason=reason,
            created_at=now(),
        )
    )
    return version


def history(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Every version of a rule, latest first, with author, reason and definition."""
    rows = connection.execute(
        sa.select(rule_version).where(rule_version.c.name == name).order_by(rule_version.c.version.desc())
    )
    return [dict(row._mapping) for row in rows]


def replaced(rules: Sequence[Rule], rule: Rule) -> list[Rule]:
    """`rules` with `rule` in the place of the one of its name, or at the end."""
    if rule.name not in {one.name for one in rules}:
        return [*rules, rule]
    return [rule if one.name == rule.name else one for one in rules]


def draft(connection: Connection, name: str) -> dict[str, Any] | None:
    """The draft of a rule: its definition, perhaps unfinished, by whom and when."""
    row = connection.execute(sa.select(rule_draft).where(rule_draft.c.name == name)).one_or_none()
    return dict(row._mapping) if row else None


def drafts(connection: Connection) -> list[dict[str, Any]]:
    """Every draft, latest first."""
    rows = connection.execute(sa.select(rule_draft).order_by(rule_draft.c.saved_at.desc()))
    return [dict(row._mapping) for row in rows]


def save_draft(connection: Connection, name: str, definition: Mapping[str, Any], author: str) -> None:
    """Keep a draft, in the place of an older one of that name; rules in force do not change."""
    values = {"definition": dict(definition), "author": author[:64], "saved_at": now()}
    connection.execute(
        insert_for(connection, rule_draft)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
    )


def drop_draft(connection: Connection, name: str) -> None:
    """Forget a draft."""
    connection.execute(sa.delete(rule_draft).where(rule_draft.c.name == name))


def enable(connection: Connection, name: str, settings: Settings, *, enabled: bool, author: str) -> bool:
    """Switch one active rule on or off, as a new version. False when there is none of that name.

    Raises ConfigurationError when the rule to be switched on cannot make jobs here.
    """
    rules = [version.rule for version in active(connection)]
    if name not in {rule.name for rule in rules}:
        return False
    switched = [replace(rule, enabled=enabled) if rule.name == name else rule for rule in rules]
    require_usable([rule for rule in switched if rule.name == name], settings)
    apply(connection, switched, author=author, reason="enabled" if enabled else "disabled")
    return True


def seed_rules(database: Database, settings: Settings) -> None:
    """Read the rules that the settings name into a database that has none yet."""
    seed = settings.rules.seed
    if seed is None:
        return
    with database.read() as connection:
        if connection.execute(sa.select(sa.exists().where(rule_version.c.name != by_hand.NAME))).scalar_one():
            return
    if not seed.exists():
        raise ConfigurationError(
            f"rules.seed: found no file {seed}; expected a TOML file of rules; name one, or leave the setting empty"
        )
    rules = read_rules(seed)
    require_usable(rules, settings)
    with database.write() as connection:
        apply(connection, rules, author="seed", reason=f"seeded from {seed.name}")
    log.info("rules seeded", rules=[rule.name for rule in rules])
