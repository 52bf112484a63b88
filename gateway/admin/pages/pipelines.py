"""Pipelines: what is installed, its card and results, who holds it in memory; disable it, enable it, test it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from gateway.admin.access import needs
from gateway.admin.model_card import rendered
from gateway.admin.routes import Routes
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.store import installed, people, self_tests, switches
from gateway.store.people import Somebody
from pipelines.catalog import Catalog
from pipelines.errors import ManifestError
from pipelines.spec import PipelineSpec

Operator = Annotated[Somebody, Depends(needs(Role.OPERATOR))]
Administrator = Annotated[Somebody, Depends(needs(Role.ADMINISTRATOR))]
Why = Annotated[str, Form(min_length=1, max_length=500)]
WhyAsked = Annotated[str, Query(min_length=1, max_length=500)]


def router(site: Site) -> Routes:
    """The pages, their forms and the REST operations."""
    routes = Routes()
    settings = site.settings

    def spec_of(pipeline_id: str) -> PipelineSpec:
        catalog = _read(settings.models_dir)
        if pipeline_id not in catalog:
            raise HTTPException(404, "there is no pipeline of that id here; see the list of pipelines")
        return catalog[pipeline_id]

    def every() -> list[dict[str, Any]]:
        _read(settings.models_dir)
        with site.database.read() as connection:
            return installed.pipelines(connection, settings)

    def one(pipeline_id: str) -> dict[str, Any]:
        spec_of(pipeline_id)
        with site.database.read() as connection:
            return installed.pipeline(connection, settings, pipeline_id) or {}

    def disable(request: Request, me: Somebody, pipeline_id: str, why: str) -> bool:
        spec = spec_of(pipeline_id)
        with site.database.write() as connection:
            done = switches.disable(connection, pipeline_id, spec.version, by=me.name, reason=why)
            if done:
                people.note(connection, me, address_of(request), "disabled a pipeline", pipeline_id, why=why)
        return done

    def enable(request: Request, me: Somebody, pipeline_id: str) -> bool:
        spec_of(pipeline_id)
        with site.database.write() as connection:
            done = switches.enable(connection, pipeline_id)
            if done:
                people.note(connection, me, address_of(request), "enabled a pipeline", pipeline_id)
        return done

    def ask_test(request: Request, me: Somebody, pipeline_id: str) -> None:
        spec_of(pipeline_id)
        with site.database.write() as connection:
            self_tests.ask(connection, pipeline_id, by=me.name)
            people.note(connection, me, address_of(request), "asked for a self-test", pipeline_id)

    @routes.page("/pipelines")
    def page(request: Request) -> Response:
        return site.page(request, "pipelines.html", rows=every(), days=installed.LATELY_DAYS)

    @routes.page("/pipelines/{pipeline_id}")
    def detail(request: Request, pipeline_id: str) -> Response:
        row = one(pipeline_id)
        card = rendered(row["card"], f"/pipelines/{pipeline_id}/pictures")
        return site.page(request, "pipeline.html", row=row, card=card, days=installed.LATELY_DAYS)

    @routes.page("/pipelines/{pipeline_id}/self-test")
    def test_now(request: Request, pipeline_id: str) -> Response:
        spec_of(pipeline_id)
        with site.database.read() as connection:
            test = self_tests.latest(connection).get(pipeline_id)
        return site.page(request, "self_test_now.html", pipeline_id=pipeline_id, test=test)

    @routes.page("/pipelines/{pipeline_id}/pictures/{name}")
    def picture(pipeline_id: str, name: str) -> Response:
        known = {file.name: file for file in spec_of(pipeline_id).path.glob("*.png")}
        if name not in known:
            raise HTTPException(404, "the model has no picture of that name")
        return FileResponse(known[name], media_type="image/png")

    @routes.act("/pipelines/{pipeline_id}/disable", Role.OPERATOR)
    def disable_form(request: Request, me: Operator, pipeline_id: str, why: Why) -> Response:
        disable(request, me, pipeline_id, why)
        return RedirectResponse(f"/pipelines/{pipeline_id}", 303)

    @routes.act("/pipelines/{pipeline_id}/enable", Role.ADMINISTRATOR)
    def enable_form(request: Request, me: Administrator, pipeline_id: str) -> Response:
        enable(request, me, pipeline_id)
        return RedirectResponse(f"/pipelines/{pipeline_id}", 303)

    @routes.act("/pipelines/{pipeline_id}/self-test", Role.OPERATOR)
    def test_form(request: Request, me: Operator, pipeline_id: str) -> Response:
        ask_test(request, me, pipeline_id)
        return RedirectResponse(f"/pipelines/{pipeline_id}#self-test", 303)

    @routes.api("GET", "/pipelines", tags=["pipelines"], summary="What is installed and how it fares")
    def api_pipelines() -> list[dict[str, Any]]:
        return every()

    @routes.api("GET", "/pipelines/{pipeline_id}", tags=["pipelines"], summary="One pipeline with card and metrics")
    def api_pipeline(pipeline_id: str) -> dict[str, Any]:
        return one(pipeline_id)

    @routes.api(
        "POST", "/pipelines/{pipeline_id}/disable", Role.OPERATOR, tags=["pipelines"], summary="Make no job with it"
    )
    def api_disable(request: Request, me: Operator, pipeline_id: str, why: WhyAsked) -> dict[str, bool]:
        return {"disabled": disable(request, me, pipeline_id, why)}

    @routes.api(
        "POST", "/pipelines/{pipeline_id}/enable", Role.ADMINISTRATOR, tags=["pipelines"], summary="Use it again"
    )
    def api_enable(request: Request, me: Administrator, pipeline_id: str) -> dict[str, bool]:
        return {"enabled": enable(request, me, pipeline_id)}

    @routes.api(
        "POST", "/pipelines/{pipeline_id}/self-test", Role.OPERATOR, tags=["pipelines"],
        summary="Let a worker test it; the pipeline tells the outcome",
    )  # fmt: skip
    def api_test(request: Request, me: Operator, pipeline_id: str) -> dict[str, bool]:
        ask_test(request, me, pipeline_id)
        return {"asked": True}

    return routes


def _read(folder: Any) -> Catalog:
    try:
        return Catalog.read(folder)
    except ManifestError as error:
        raise HTTPException(409, f"{error}; correct the manifest or install the model again") from error
