"""Studies: the search, and the timeline of one study with everything that became of its series."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import HTTPException, Query, Request, Response

from gateway.admin.routes import PageKey, Routes
from gateway.admin.site import Site
from gateway.domain.states import SeriesState
from gateway.stages.interventions import offer
from gateway.store import browse, reports, switches, timeline
from gateway.store.browse import StudyQuery
from gateway.store.paging import Cut, Page
from pipelines.catalog import Catalog

_PAGE = 50
_SERIES_A_PAGE = 20

Text = Annotated[str, Query(max_length=64)]


def router(site: Site) -> Routes:
    """The pages and the same as JSON."""
    routes = Routes()

    def search(query: StudyQuery, cut: Cut) -> Page:
        with site.database.read() as connection:
            return browse.studies(connection, query, _PAGE, cut)

    def one(study_uid: str, cut: Cut) -> dict[str, Any]:
        with site.database.read() as connection:
            found = browse.study_of(connection, study_uid)
            if found is None:
                raise HTTPException(404, "there is no study of that UID here; search by accession number or patient id")
            page = browse.series_of_study(connection, study_uid, _SERIES_A_PAGE, cut)
            series_ids = [row["id"] for row in page.rows]
            series = reports.series_details(connection, series_ids)
            happened = timeline.of_several(connection, series_ids)
            gaps = browse.longest_gaps(connection, series_ids)
        for detail in map(offer, series):
            detail["longest_gap_s"] = gaps.get(detail["id"])
            detail["timeline"] = [
                {"at": e.at, "stage": e.stage, "what": e.what, "job_id": e.job_id, "detail": dict(e.detail)}
                for e in happened[detail["id"]]
            ]
        return {**found, **replace(page, rows=series).to_table("series")}

    @routes.page("/studies")
    def studies(
        request: Request,
        text: Text = "",
        study_date: Text = "",
        calling_ae_title: Text = "",
        state: Text = "",
        after: PageKey = "",
        before: PageKey = "",
    ) -> Response:
        query = StudyQuery(text, study_date, calling_ae_title, state)
        cut = Cut(after, before)
        return site.page(
            request, "studies.html", found=search(query, cut), query=query, cut=cut,
            states=[state.value for state in SeriesState],
            filters={"text": text, "study_date": study_date, "calling_ae_title": calling_ae_title, "state": state},
        )  # fmt: skip

    def choices() -> dict[str, Any]:
        """What a series may be run with by hand: a pipeline of one input that nobody disabled, and where to."""
        with site.database.read() as connection:
            off = switches.disabled(connection)
        settings = site.directory.settings
        usable = [
            (spec.id, spec.title)
            for spec in Catalog.read(settings.models_dir).values()
            if spec.enabled and spec.id not in off and len(spec.inputs) == 1
        ]
        return {"pipelines": usable, "destinations": sorted(settings.destinations)}

    @routes.page("/studies/{study_uid}")
    def study(request: Request, study_uid: str, after: PageKey = "", before: PageKey = "") -> Response:
        cut = Cut(after, before)
        return site.page(request, "study.html", study=one(study_uid, cut), cut=cut, choices=choices())

    @routes.page("/studies/{study_uid}/now")
    def study_now(request: Request, study_uid: str, after: PageKey = "", before: PageKey = "") -> Response:
        return site.page(request, "study_now.html", study=one(study_uid, Cut(after, before)), choices=choices())

    @routes.api("GET", "/studies", tags=["studies"], summary="Search studies, latest first")
    def api_studies(
        text: Text = "",
        study_date: Text = "",
        calling_ae_title: Text = "",
        state: Text = "",
        after: PageKey = "",
        before: PageKey = "",
    ) -> dict[str, Any]:
        query = StudyQuery(text, study_date, calling_ae_title, state)
        return search(query, Cut(after, before)).to_table("studies")

    @routes.api("GET", "/studies/{study_uid}", tags=["studies"], summary="One study with all that became of it")
    def api_study(study_uid: str, after: PageKey = "", before: PageKey = "") -> dict[str, Any]:
        return one(study_uid, Cut(after, before))

    return routes
