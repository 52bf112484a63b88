"""Studies: the search, and the timeline of one study with everything that became of its series."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import HTTPException, Query, Request, Response

from gateway.admin.routes import Routes
from gateway.admin.site import Site
from gateway.domain.states import SeriesState
from gateway.store import browse, reports, timeline
from gateway.store.browse import StudyQuery

_PAGE = 50

Text = Annotated[str, Query(max_length=64)]


def router(site: Site) -> Routes:
    """The pages and the same as JSON."""
    routes = Routes()

    def search(query: StudyQuery, after: str) -> tuple[list[dict[str, Any]], str]:
        """A page of studies, and the key after which the next one goes on; empty when there is none."""
        with site.database.read() as connection:
            rows = browse.studies(connection, query, _PAGE + 1, _key_of(after))
        more = len(rows) > _PAGE
        rows = rows[:_PAGE]
        return rows, f"{rows[-1]['first_received_at']!r}_{rows[-1]['uid']}" if more else ""

    def one(study_uid: str) -> dict[str, Any]:
        with site.database.read() as connection:
            found = browse.study_of(connection, study_uid)
            if found is None:
                raise HTTPException(404, "there is no study of that UID here; search by accession number or patient id")
            series = []
            for series_id in found.pop("series_ids"):
                detail = reports.series_detail(connection, series_id)
                happened = timeline.of_series(connection, series_id)
                detail["timeline"] = [
                    {"at": e.at, "stage": e.stage, "what": e.what, "job_id": e.job_id, "detail": dict(e.detail)}
                    for e in happened
                ]
                series.append(detail)
        return {**found, "series": series}

    @routes.page("/studies")
    def studies(
        request: Request,
        text: Text = "",
        study_date: Text = "",
        calling_ae_title: Text = "",
        state: Text = "",
        after: Text | None = None,
    ) -> Response:
        query = StudyQuery(text, study_date, calling_ae_title, state)
        rows, following = search(query, after or "")
        return site.page(
            request, "studies.html", rows=rows, query=query, following=following, after=after or "",
            states=[state.value for state in SeriesState],
            filters={"text": text, "study_date": study_date, "calling_ae_title": calling_ae_title, "state": state},
        )  # fmt: skip

    @routes.page("/studies/{study_uid}")
    def study(request: Request, study_uid: str) -> Response:
        return site.page(request, "study.html", study=one(study_uid))

    @routes.page("/studies/{study_uid}/now")
    def study_now(request: Request, study_uid: str) -> Response:
        return site.page(request, "study_now.html", study=one(study_uid))

    @routes.api("GET", "/studies", tags=["studies"], summary="Search studies, latest first")
    def api_studies(
        text: Text = "",
        study_date: Text = "",
        calling_ae_title: Text = "",
        state: Text = "",
        after: Text | None = None,
    ) -> dict[str, Any]:
        rows, following = search(StudyQuery(text, study_date, calling_ae_title, state), after or "")
        return {"studies": rows, "after": following or None}

    @routes.api("GET", "/studies/{study_uid}", tags=["studies"], summary="One study with all that became of it")
    def api_study(study_uid: str) -> dict[str, Any]:
        return one(study_uid)

    return routes


def _key_of(after: str) -> tuple[float, str] | None:
    """The key in `after`, as a page before gave it; an address that was tampered with begins at the start."""
    at, _, uid = after.partition("_")
    try:
        return (float(at), uid) if uid else None
    except ValueError:
        return None
