"""What an operator does about a series, from the pages of a study and of the queue, and over the REST API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Query, Request, Response

from gateway.admin.access import needs
from gateway.admin.routes import Routes, RowId
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.errors import ConfigurationError
from gateway.stages.interventions import Done, Interventions
from gateway.store import browse
from gateway.store.people import Somebody

Me = Annotated[Somebody, Depends(needs(Role.OPERATOR))]

_NAME = r"^[A-Za-z0-9._-]*$"
_SOME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
FormName = Annotated[str, Form(max_length=64, pattern=_NAME)]
QueryName = Annotated[str, Query(max_length=64, pattern=_NAME)]
FormNames = Annotated[list[Annotated[str, Form(max_length=64, pattern=_SOME)]], Form(max_length=50)]
QueryNames = Annotated[list[Annotated[str, Query(max_length=64, pattern=_SOME)]], Query(max_length=50)]


def router(site: Site) -> Routes:
    """The forms and the REST operations."""
    routes = Routes()
    _add_forms(routes, site)
    _add_operations(routes, site)
    return routes


def _study_of(site: Site, series_id: int) -> str:
    """The Study Instance UID of a series. Raises HTTPException 404."""
    with site.database.read() as connection:
        found = browse.series_of(connection, series_id)
    if found is None:
        raise HTTPException(404, "there is no series of that id here; search for its study")
    return str(found["study_uid"])


def _wishes(site: Site, request: Request, me: Somebody, series_id: int) -> Interventions:
    _study_of(site, series_id)
    return Interventions(site.database, site.spool, site.directory.settings, me, address_of(request))


def _add_forms(routes: Routes, site: Site) -> None:
    def said(request: Request, me: Somebody, series_id: int, wish: Callable[[Interventions], Done]) -> Response:
        """What was done, or why nothing was, where the page has room for it; else as a page of its own."""
        wishes = _wishes(site, request, me, series_id)
        try:
            done = wish(wishes)
        except ConfigurationError as error:
            done = Done(False, str(error))
        if request.headers.get("hx-request"):
            answer = site.page(request, "said.html", done=done)
            answer.headers["HX-Trigger"] = "athanor:changed"
            return answer
        return site.page(request, "intervened.html", done=done, study_uid=_study_of(site, series_id))

    @routes.act("/series/{series_id}/retry", Role.OPERATOR)
    def retry(request: Request, me: Me, series_id: RowId, job: FormName = "") -> Response:
        return said(request, me, series_id, lambda wishes: wishes.retry(series_id, job_id=job))

    @routes.act("/series/{series_id}/cancel", Role.OPERATOR)
    def cancel(request: Request, me: Me, series_id: RowId, job: FormName = "", destination: FormName = "") -> Response:
        return said(
            request, me, series_id, lambda wishes: wishes.cancel(series_id, job_id=job, destination=destination)
        )

    @routes.act("/series/{series_id}/resend", Role.OPERATOR)
    def resend(
        request: Request, me: Me, series_id: RowId, job: FormName = "", destination: FormName = "",
        whole: Annotated[bool, Form()] = False,
    ) -> Response:  # fmt: skip
        return said(
            request, me, series_id,
            lambda wishes: wishes.resend(series_id, job_id=job, destination=destination, whole=whole),
        )  # fmt: skip

    @routes.act("/series/{series_id}/route", Role.OPERATOR)
    def route(request: Request, me: Me, series_id: RowId) -> Response:
        return said(request, me, series_id, lambda wishes: wishes.route(series_id))

    @routes.act("/series/{series_id}/run", Role.OPERATOR)
    def run(
        request: Request, me: Me, series_id: RowId, pipeline: FormName, destination: FormNames = []  # noqa: B006 - only read
    ) -> Response:  # fmt: skip
        return said(request, me, series_id, lambda wishes: wishes.run(series_id, pipeline, destination))


def _add_operations(routes: Routes, site: Site) -> None:
    tags: Any = ["series"]

    @routes.api("POST", "/series/{series_id}/retry", Role.OPERATOR, tags=tags, summary="Run its jobs again")
    def api_retry(request: Request, me: Me, series_id: RowId, job: QueryName = "") -> dict[str, Any]:
        return asdict(_wishes(site, request, me, series_id).retry(series_id, job_id=job))

    @routes.api("POST", "/series/{series_id}/cancel", Role.OPERATOR, tags=tags, summary="End what has not ended")
    def api_cancel(
        request: Request, me: Me, series_id: RowId, job: QueryName = "", destination: QueryName = ""
    ) -> dict[str, Any]:
        wishes = _wishes(site, request, me, series_id)
        return asdict(wishes.cancel(series_id, job_id=job, destination=destination))

    @routes.api("POST", "/series/{series_id}/resend", Role.OPERATOR, tags=tags, summary="Send its results again")
    def api_resend(
        request: Request, me: Me, series_id: RowId, job: QueryName = "", destination: QueryName = "",
        whole: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        wishes = _wishes(site, request, me, series_id)
        return asdict(wishes.resend(series_id, job_id=job, destination=destination, whole=whole))

    @routes.api("POST", "/series/{series_id}/route", Role.OPERATOR, tags=tags, summary="Ask the rules of now")
    def api_route(request: Request, me: Me, series_id: RowId) -> dict[str, Any]:
        return asdict(_wishes(site, request, me, series_id).route(series_id))

    @routes.api(
        "POST", "/series/{series_id}/run", Role.OPERATOR, tags=tags, summary="Run a pipeline whatever the rules say"
    )
    def api_run(
        request: Request, me: Me, series_id: RowId, pipeline: QueryName, destination: QueryNames
    ) -> dict[str, Any]:
        return asdict(_wishes(site, request, me, series_id).run(series_id, pipeline, destination))
