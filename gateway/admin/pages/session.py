"""Set-up, login and logout: the only pages for which nobody has to be logged in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.admin.access import COOKIE, LONGEST_S, Access, NotAllowed, digest_of, require_own_page, require_same_site
from gateway.admin.setup_token import SetupToken
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.store import people
from gateway.store.people import Somebody


def router(site: Site, access: Access, setup_token: SetupToken) -> APIRouter:
    """The routes; `setup_token` lets the first administrator be made."""
    routes = APIRouter(tags=["session"], default_response_class=HTMLResponse)

    def is_set_up() -> bool:
        with site.database.read() as connection:
            return people.is_anybody(connection)

    @routes.get("/login")
    def login_page(request: Request, to: str = "/") -> Response:
        if not is_set_up():
            return RedirectResponse("/setup", 303)
        return site.page(request, "login.html", to=_own(to), problem="")

    @routes.post("/login")
    def login(
        request: Request,
        name: Annotated[str, Form()],
        password: Annotated[str, Form()],
        to: Annotated[str, Form()] = "/",
    ) -> Response:
        require_same_site(request)
        try:
            cookie = access.log_in(name, password, address_of(request), request.headers.get("user-agent", ""))
        except NotAllowed as refused:
            return site.page(request, "login.html", refused.code, to=_own(to), problem=str(refused))
        return _with_cookie(RedirectResponse(_own(to), 303), request, cookie)

    @routes.post("/logout")
    async def logout(request: Request) -> Response:
        if COOKIE in request.cookies:
            await require_own_page(request)
            with site.database.write() as connection:
                people.end_session(connection, digest_of(request.cookies[COOKIE]))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    @routes.get("/setup")
    def setup_page(request: Request, token: str = "") -> Response:
        if is_set_up():
            return RedirectResponse("/login", 303)
        return _setup(request, token, "", "")

    @routes.post("/setup")
    def setup(
        request: Request,
        token: Annotated[str, Form()],
        name: Annotated[str, Form(min_length=1, max_length=64)],
        password: Annotated[str, Form()],
    ) -> Response:
        require_same_site(request)
        if is_set_up():
            return RedirectResponse("/login", 303)
        try:
            setup_token.require(token)
            password_hash = access.hash_password(password)
        except NotAllowed as refused:
            return _setup(request, token, name, str(refused), refused.code)
        with site.database.write() as connection:
            people.add_person(connection, name, Role.ADMINISTRATOR, password_hash)
            account = people.account(connection, name)
            assert account is not None, "it was just made"
            first = Somebody(name, Role.ADMINISTRATOR, account.person_id)
            people.note(connection, first, address_of(request), "made the first administrator", name)
        setup_token.forget()
        cookie = access.open_session(first, address_of(request), request.headers.get("user-agent", ""))
        return _with_cookie(RedirectResponse("/", 303), request, cookie)

    def _setup(request: Request, token: str, name: str, problem: str, code: int = 200) -> Response:
        return site.page(
            request, "setup.html", code, token=token, name=name, problem=problem, token_file=str(setup_token.file)
        )

    return routes


def _own(place: str) -> str:
    """`place` when it is a path of this site, else the dashboard: a login must not lead elsewhere."""
    return place if place.startswith("/") and not place.startswith(("//", "/\\")) else "/"


def _with_cookie(answer: Response, request: Request, cookie: str) -> Response:
    answer.set_cookie(
        COOKIE, cookie, max_age=int(LONGEST_S), httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return answer
