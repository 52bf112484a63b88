"""The web application: what is mounted where, what every answer carries, and what becomes of an error."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from gateway import logs
from gateway.admin import news, stow
from gateway.admin.access import Access, NotAllowed
from gateway.admin.pages import (
    alerts,
    audit,
    compare,
    dashboard,
    destination_form,
    destinations,
    effective_settings,
    feedback,
    instances,
    interventions,
    me,
    openid,
    people,
    pipelines,
    queue,
    rules,
    senders,
    session,
    studies,
)
from gateway.admin.pages import help as helping
from gateway.admin.senders import Senders
from gateway.admin.setup_token import SetupToken
from gateway.admin.site import STATIC, Site
from gateway.errors import AthanorError, Unavailable
from gateway.network.receiver import Receiver
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.directory_entries import InvalidEntry
from gateway.store.spool import Spool

log = logs.get("web")

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOR_A_YEAR = "max-age=31536000"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def make_app(
    settings: Settings,
    database: Database,
    spool: Spool,
    receiver: Receiver,
    setup_token: SetupToken,
    directory: Directory | None = None,
    stopping: threading.Event | None = None,
) -> FastAPI:
    """The application; `receiver` takes what is stored over HTTP. Whoever hands a directory over also follows it.

    Answers that would go on for ever end when `stopping` is set.
    """
    app = FastAPI(title="Athanor", version="1", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    site = Site(settings, database, spool, directory or Directory(settings, database), stopping or threading.Event())
    access = app.state.access = Access(database)
    app.include_router(stow.router(receiver, Senders(settings.web.senders), settings.node.ae_title,
                                   settings.listener.dimse_timeout_s))  # fmt: skip
    app.include_router(session.router(site, access, setup_token))
    if settings.web.oidc:
        app.include_router(openid.router(site, access, settings.web.oidc))
    app.include_router(people.router(site))
    app.include_router(me.router(site, access))
    for pages in (
        dashboard, studies, rules, destinations, destination_form, senders, audit, compare, feedback, instances,
        pipelines,
        interventions, queue,
        effective_settings, helping, alerts,
    ):  # fmt: skip
        app.include_router(pages.router(site))
    app.include_router(news.router(site))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/health", tags=["operation"], summary="Whether the web process answers")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    _add_errors(app, site)
    app.add_middleware(_Edge, site=site)
    app.add_middleware(_Headers)
    return app


class _Headers:
    """Puts the security headers on every answer; pages are never kept by a cache."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {**_HEADERS}
                if not scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
                if scope.get("scheme") == "https":
                    headers["Strict-Transport-Security"] = _FOR_A_YEAR
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in headers.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class _Edge:
    """The edge of a request: whatever went wrong is logged by kind and place, for its words may quote a patient."""

    def __init__(self, app: Any, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        begun = False

        async def send_and_see(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        except Exception as error:  # noqa: BLE001 - the edge of a request: no other one may notice
            incident = uuid.uuid4().hex[:8]
            log.error("request failed", incident=incident, method=scope.get("method"), **logs.failure(error))
            if not begun:
                await self._answer(Request(scope), incident)(scope, receive, send)

    def _answer(self, request: Request, incident: str) -> Response:
        words = "something went wrong in the gateway itself; its log has what"
        if _is_for_a_program(request):
            return JSONResponse({"error": words, "incident": incident}, 500)
        return self._site.page(request, "error.html", 500, title="Failed", words=words, incident=incident)


def _add_errors(app: FastAPI, site: Site) -> None:
    """Every error says what happened and what to try, and carries an id under which the log has it."""

    def answer(request: Request, code: int, title: str, words: str) -> Response:
        incident = uuid.uuid4().hex[:8]
        log.info("request refused", incident=incident, code=code, reason=words, method=request.method)
        if _is_for_a_program(request):
            return JSONResponse({"error": words, "incident": incident}, code)
        return site.page(request, "error.html", code, title=title, words=words, incident=incident)

    @app.exception_handler(NotAllowed)
    def not_allowed(request: Request, error: NotAllowed) -> Response:
        if error.code == 401 and not _is_for_a_program(request):
            if request.headers.get("hx-request"):
                return Response(status_code=204, headers={"HX-Redirect": "/login"})
            there = quote(request.url.path) if request.method == "GET" else "/"
            return RedirectResponse(f"/login?to={there}", 303)
        return answer(request, error.code, "Not allowed", str(error))

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        found = answer(request, error.status_code, "Not possible", str(error.detail))
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(404)
    def not_found(request: Request, error: HTTPException) -> Response:
        words = error.detail if error.detail != "Not Found" else "there is no such page"
        return answer(request, 404, "Not found", str(words))

    @app.exception_handler(RequestValidationError)
    def not_valid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(request, 422, "Not understood", f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(Unavailable)
    def unavailable(request: Request, error: Unavailable) -> Response:
        return answer(request, 503, "Not available now", f"{error}; try again in a moment")

    @app.exception_handler(InvalidEntry)
    def not_kept(request: Request, error: InvalidEntry) -> Response:
        return answer(request, 422, "Not understood", str(error))

    @app.exception_handler(AthanorError)
    def refused(request: Request, error: AthanorError) -> Response:
        return answer(request, 409, "Not done", str(error))


def _is_for_a_program(request: Request) -> bool:
    return request.url.path.startswith(("/api/", "/dicom-web/"))
