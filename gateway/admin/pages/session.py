"""Set-up, login and logout: the only pages for which nobody has to be logged in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.admin.access import (
    COOKIE,
    Access,
    NotAllowed,
    digest_of,
    hash_password,
    require_own_page,
    require_same_site,
)
from gateway.admin.setup_token import SetupToken
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.settings.watch import Web
from gateway.store import people
from gateway.store.people import Somebody

_LONGEST_PLACE = 2000


def router(site: Site, access: Access, setup_token: SetupToken) -> APIRouter:
    """The routes; `setup_token` lets the first administrator be made."""
    routes = APIRouter(tags=["session"], default_response_class=HTMLResponse)

    def is_set_up() -> bool:
        with site.database.read() as connection:
            return people.is_anybody(connection)

    openid = site.settings.web.oidc
    with_passwords = openid is None or openid.passwords

    def login_form(request: Request, to: str, problem: str = "", code: int = 200) -> Response:
        return site.page(
            request, "login.html", code, to=own_place(to), problem=problem,
            button=openid.button if openid else "", with_passwords=with_passwords,
        )  # fmt: skip

    @routes.get("/login")
    def login_page(request: Request, to: str = "/") -> Response:
        if with_passwords and not is_set_up():
            return RedirectResponse("/setup", 303)
        return login_form(request, to)

    @routes.post("/login")
    def login(
        request: Request,
        name: Annotated[str, Form()],
        password: Annotated[str, Form()],
        to: Annotated[str, Form()] = "/",
    ) -> Response:
        require_same_site(request)
        if not with_passwords:
            return login_form(request, to, "passwords are switched off here; log in at the identity provider", 403)
        try:
            cookie = access.log_in(name, password, address_of(request), request.headers.get("user-agent", ""))
        except NotAllowed as refused:
            return login_form(request, to, str(refused), refused.code)
        return with_cookie(RedirectResponse(own_place(to), 303), request, site.settings.web, cookie)

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
        if is_set_up() or not with_passwords:
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
        if is_set_up() or not with_passwords:
            return RedirectResponse("/login", 303)
        try:
            setup_token.require(token)
            password_hash = hash_password(password)
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
        return with_cookie(RedirectResponse("/", 303), request, site.settings.web, cookie)

    def _setup(request: Request, token: str, name: str, problem: str, code: int = 200) -> Response:
        return site.page(
            request, "setup.html", code, token=token, name=name, problem=problem,
            token_file=str(setup_token.file), button=openid.button if openid else "",
        )  # fmt: skip

    return routes


def own_place(place: str) -> str:
    """`place` when it is a path of this site, else the dashboard: a login must not lead elsewhere."""
    is_own = place.startswith("/") and not place.startswith("//") and "\\" not in place and place.isprintable()
    return place if is_own and len(place) <= _LONGEST_PLACE else "/"


def is_encrypted(request: Request, web: Web) -> bool:
    """Whether the browser speaks https, to us or to what stands in front of us."""
    return request.url.scheme == "https" or web.public_url.startswith("https:")


def with_cookie(answer: Response, request: Request, web: Web, cookie: str) -> Response:
    """The answer with the cookie of a session: not for scripts, not for other sites, and by https where there is it."""
    answer.set_cookie(
        COOKIE, cookie, max_age=int(people.LONGEST_S), httponly=True, samesite="lax", secure=is_encrypted(request, web)
    )
    return answer
