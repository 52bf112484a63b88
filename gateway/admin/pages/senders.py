"""Senders: who may call, and who was refused lately, with what would let them in."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from gateway.admin.routes import Routes
from gateway.admin.site import Site
from gateway.store import refusals

_SHOWN = 100


def router(site: Site) -> Routes:
    """The page and the same as JSON."""
    routes = Routes()

    def latest() -> list[dict[str, Any]]:
        with site.database.read() as connection:
            return refusals.latest(connection, _SHOWN, site.settings.node.ae_title)

    @routes.page("/senders")
    def page(request: Request) -> Response:
        settings = site.settings
        return site.page(
            request, "senders.html", rows=latest(), listener=settings.listener, over_http=sorted(settings.web.senders)
        )

    @routes.api("GET", "/refusals", tags=["senders"], summary="Who was refused lately, and what lets them in")
    def api() -> list[dict[str, Any]]:
        return latest()

    return routes
