"""What needs a person: causes, and the letters that tell of them. No word of them is a patient attribute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_LONGEST_CAUSE, _LONGEST_TITLE, _LONGEST_LINK = 160, 200, 255


class Severity(StrEnum):
    """How soon somebody should look."""

    CRITICAL = "critical"  # nothing is received, or nothing is made
    WARNING = "warning"  # something waits or fails, the rest goes on


class Channel(StrEnum):
    """A way in which people are told."""

    EMAIL = "email"
    WEBHOOK = "webhook"


class Change(StrEnum):
    """What a letter is about; reminders are numbered."""

    OPENED = "opened"
    RESOLVED = "resolved"
    REMINDER = "reminder"


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that is wrong now, however many series it concerns.

    `key` stays the same as long as it is the same thing. `times` counts the series, jobs, deliveries or attempts that
    it is about. It has to last for `grace_s` before it is an alert.
    """

    key: str
    severity: Severity
    title: str
    advice: str
    link: str
    times: int = 1
    grace_s: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", _one_line(self.key, _LONGEST_CAUSE))
        object.__setattr__(self, "title", _one_line(self.title, _LONGEST_TITLE))
        object.__setattr__(self, "link", _one_line(self.link, _LONGEST_LINK))


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to one channel. The same `id` is the same message, should it come twice."""

    id: str
    subject: str
    text: str
    document: Mapping[str, Any]


def _one_line(text: str, longest: int) -> str:
    """Without line ends and control characters: an AE title is what a stranger sent, and a title becomes a Subject."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)[:longest]
