"""The audit trail: who did what on the web port, newest first."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response

from gateway.admin.routes import LARGEST_ID, Routes
from gateway.admin.site import Site
from gateway.domain.roles import Role
from gateway.store import people

_PAGE = 100

Before = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]
Who = Annotated[str, Query(max_length=64)]


def router(site: Site) -> Routes:
    """The page and the same as JSON."""
    routes = Routes()

    def trail(before: int | None, who: str) -> tuple[list[dict[str, Any]], int | None]:
        with site.database.read() as connection:
            rows = people.audit_trail(connection, _PAGE + 1, before, who)
        return rows[:_PAGE], rows[_PAGE - 1]["id"] if len(rows) > _PAGE else None

    @routes.page("/audit", Role.AUDITOR)
    def page(request: Request, before: Before = None, who: Who = "") -> Response:
        rows, following = trail(before, who)
        return site.page(request, "audit.html", rows=rows, following=following, who=who)

    @routes.api("GET", "/audit", Role.AUDITOR, tags=["people"], summary="The audit trail, newest first")
    def api(before: Before = None, who: Who = "") -> dict[str, Any]:
        rows, following = trail(before, who)
        return {"entries": rows, "before": following}

    return routes
