"""The instances of one series in the order in which they came, a page at a time."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request, Response

from gateway.admin.routes import PageKey, Routes, RowId
from gateway.admin.site import Site
from gateway.store import browse
from gateway.store.paging import Cut, Page

_PAGE = 100


def router(site: Site) -> Routes:
    """The page and the same as JSON."""
    routes = Routes()

    def arrived(series_id: int, cut: Cut) -> tuple[dict[str, Any], Page]:
        with site.database.read() as connection:
            series = browse.series_of(connection, series_id)
            if series is None:
                raise HTTPException(404, f"there is no series {series_id}; look for its study")
            return series, browse.instances(connection, series_id, _PAGE, cut)

    @routes.page("/series/{series_id}/instances")
    def page(request: Request, series_id: RowId, after: PageKey = "", before: PageKey = "") -> Response:
        series, found = arrived(series_id, Cut(after, before))
        return site.page(request, "instances.html", series=series, found=found)

    @routes.api("GET", "/series/{series_id}/instances", tags=["studies"], summary="Instances of a series, as they came")
    def api(series_id: RowId, after: PageKey = "", before: PageKey = "") -> dict[str, Any]:
        _, found = arrived(series_id, Cut(after, before))
        return found.to_table("instances")

    return routes
