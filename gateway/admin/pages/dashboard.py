"""The dashboard: one sentence that says whether the gateway is well, and the figures behind it."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from gateway.admin.routes import Routes
from gateway.admin.site import Site
from gateway.store.health import health


def router(site: Site) -> Routes:
    """The dashboard, the part of it that renews itself, and the same as JSON."""
    routes = Routes()

    def report() -> dict[str, Any]:
        with site.database.read() as connection:
            return health(connection, site.settings)

    @routes.page("/")
    def dashboard(request: Request) -> Response:
        return site.page(request, "dashboard.html", report=report())

    @routes.page("/dashboard/now")
    def now(request: Request) -> Response:
        return site.page(request, "dashboard_now.html", report=report())

    @routes.api("GET", "/status", tags=["operation"], summary="Whether the gateway is well, and what to do")
    def status() -> dict[str, Any]:
        return report()

    return routes
