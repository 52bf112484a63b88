"""What every page needs: the node's parts, and how a template becomes an answer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from gateway.admin.access import csrf_token
from gateway.domain.durations import duration
from gateway.domain.roles import Role, may
from gateway.domain.states import DeliveryState, JobState, SeriesState
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.people import Somebody
from gateway.store.spool import Spool

_HERE = Path(__file__).parent
STATIC = _HERE / "static"

MENU = (
    ("Dashboard", "/", Role.VIEWER),
    ("Studies", "/studies", Role.VIEWER),
    ("Queue", "/queue", Role.VIEWER),
    ("Rules", "/rules", Role.VIEWER),
    ("Pipelines", "/pipelines", Role.VIEWER),
    ("Destinations", "/destinations", Role.VIEWER),
    ("Senders", "/senders", Role.VIEWER),
    ("Alerts", "/alerts", Role.VIEWER),
    ("People", "/people", Role.ADMINISTRATOR),
    ("Audit", "/audit", Role.AUDITOR),
    ("Settings", "/settings", Role.AUDITOR),
    ("Help", "/help", Role.VIEWER),
)

_GOOD = {SeriesState.ROUTED, JobState.SUCCEEDED, DeliveryState.DELIVERED}
_BAD = {SeriesState.FAILED, JobState.REFUSED}
_PLAIN = {SeriesState.UNMATCHED, SeriesState.BLOCKED, JobState.CANCELLED, JobState.SUPERSEDED}


@dataclass(frozen=True, slots=True)
class Site:
    """The parts of the node that pages show and change."""

    settings: Settings
    database: Database
    spool: Spool
    directory: Directory
    stopping: threading.Event
    templates: Environment = field(default_factory=lambda: _environment())

    def page(self, request: Request, template: str, code: int = 200, **values: Any) -> HTMLResponse:
        """A whole page, or the part of one that htmx asks for by the same template."""
        somebody: Somebody | None = getattr(request.state, "somebody", None)
        content = self.templates.get_template(template).render(
            request=request,
            menu=[(name, place) for name, place, role in MENU if somebody and may(somebody.role, role)],
            path=request.url.path,
            somebody=somebody,
            csrf=csrf_token(request),
            ae_title=self.settings.node.ae_title,
            may=lambda role: somebody is not None and may(somebody.role, Role(role)),
            **values,
        )
        return HTMLResponse(content, code)


def address_of(request: Request) -> str:
    """The address that a request came from."""
    return request.client.host if request.client else ""


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,  # a misspelt name is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        when=_when,
        age=_age,
        seconds=_seconds,
        bytes=_bytes,
        tone=_tone,
        plain=_plain,
        query=lambda values: urlencode(values),
    )
    return environment


def _when(at: float | None) -> Markup | str:
    """A moment; the page's script turns it into local time."""
    if at is None:
        return "–"
    utc = datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z", utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def _age(at: float | None) -> str:
    return "–" if at is None else duration(time.time() - at)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _plain(value: Any) -> str:
    """What an event has to tell, as a person would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _tone(state: str) -> str:
    """How a state is coloured; the word itself always stands beside the colour."""
    return "good" if state in _GOOD else "bad" if state in _BAD else "plain" if state in _PLAIN else ""
