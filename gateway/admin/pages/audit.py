"""The audit trail: who did what on the web port, newest first."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response

from gateway.admin.routes import PageKey, Routes
from gateway.admin.site import Site
from gateway.domain.roles import Role
from gateway.store import people
from gateway.store.paging import Cut, Page

_PAGE = 100

Who = Annotated[str, Query(max_length=64)]


def router(site: Site) -> Routes:
    """The page and the same as JSON."""
    routes = Routes()

    def trail(who: str, after: str, before: str) -> Page:
        with site.database.read() as connection:
            return people.audit_page(connection, who, _PAGE, Cut(after, before))

    @routes.page("/audit", Role.AUDITOR)
    def page(request: Request, who: Who = "", after: PageKey = "", before: PageKey = "") -> Response:
        return site.page(request, "audit.html", found=trail(who, after, before), who=who)

    @routes.api("GET", "/audit", Role.AUDITOR, tags=["people"], summary="The audit trail, newest first")
    def api(who: Who = "", after: PageKey = "", before: PageKey = "") -> dict[str, Any]:
        return trail(who, after, before).to_table("entries")

    return routes
