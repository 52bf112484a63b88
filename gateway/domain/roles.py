"""Who may do what on the web port."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a person or an API key may do."""

    VIEWER = "viewer"  # look at everything but people and the audit trail
    OPERATOR = "operator"  # also retry, resend, cancel, hold and release
    ADMINISTRATOR = "administrator"  # also rules, people, keys
    AUDITOR = "auditor"  # look, and read the audit trail; change nothing


_MAY = {
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.VIEWER, Role.OPERATOR}),
    Role.ADMINISTRATOR: frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR, Role.AUDITOR}),
    Role.AUDITOR: frozenset({Role.VIEWER, Role.AUDITOR}),
}


def may(role: Role, needed: Role) -> bool:
    """Whether somebody with `role` may do what `needed` is asked for."""
    return needed in _MAY[role]
