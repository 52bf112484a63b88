"""Logging in at the identity provider: the way there, and the way back."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from gateway import logs
from gateway.admin.access import Access, NotAllowed, digest_of
from gateway.admin.openid import CALLBACK, Claimed, Provider, error_word
from gateway.admin.pages.session import is_encrypted, own_place, with_cookie
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.settings.watch import OpenId
from gateway.store import logins, people
from gateway.store.logins import Attempt
from gateway.store.people import Somebody

COOKIE = "athanor_login"
Short = Annotated[str, Query(max_length=4096)]

log = logs.get("web")


def router(site: Site, access: Access, openid: OpenId) -> APIRouter:
    """The two routes; whoever comes back with a mapped group has a session of ours."""
    routes = APIRouter(tags=["session"], default_response_class=HTMLResponse)
    web = site.settings.web
    provider = Provider(openid, web)

    @routes.get("/login/openid")
    async def leave(request: Request, to: str = "/") -> Response:
        access.slow_down(address_of(request))
        state = secrets.token_urlsafe(32)
        # the same cookie for several tabs: each has an attempt of its own
        browser = request.cookies.get(COOKIE) or secrets.token_urlsafe(32)
        attempt = Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(32), own_place(to))
        answer = RedirectResponse(await provider.login_page(state, attempt), 303)

        def remember() -> None:
            with site.database.write() as connection:
                logins.begin(connection, digest_of(state), digest_of(browser), attempt)

        await run_in_threadpool(remember)
        answer.set_cookie(
            COOKIE, browser, max_age=int(logins.WITHIN_S), path="/login", httponly=True, samesite="lax",
            secure=is_encrypted(request, web),
        )  # fmt: skip
        return answer

    @routes.get(CALLBACK)
    async def come_back(
        request: Request, state: Short = "", code: Short = "", error: Short = "", iss: Short = openid.issuer
    ) -> Response:
        def take() -> Attempt | None:
            with site.database.write() as connection:
                return logins.take(connection, digest_of(state), digest_of(request.cookies.get(COOKIE, "")))

        attempt = await run_in_threadpool(take)
        if attempt is None:
            raise NotAllowed(
                403,
                "this login was not begun in this browser, was used already, or took longer than ten minutes; "
                "open the login page and begin again",
            )
        if iss != openid.issuer:  # RFC 9207
            raise NotAllowed(403, "the answer is from another identity provider; open the login page and begin again")
        if not code:
            raise NotAllowed(403, f"the identity provider let nobody in: {error_word(error)}; ask who runs it")
        try:
            claimed = await provider.who(code, attempt)
        except NotAllowed as refused:
            await run_in_threadpool(_note_failure, site, address_of(request), str(refused))
            raise
        somebody = await run_in_threadpool(_let_in, site, openid, claimed, address_of(request))
        agent = request.headers.get("user-agent", "")
        cookie = await run_in_threadpool(access.open_session, somebody, address_of(request), agent)
        return with_cookie(RedirectResponse(attempt.place, 303), request, web, cookie)

    return routes


def _note_failure(site: Site, address: str, why: str) -> None:
    with site.database.write() as connection:
        people.note(connection, Somebody("", Role.VIEWER), address, "login failed", why=why)
    log.warning("login failed", address=address)


def _let_in(site: Site, openid: OpenId, claimed: Claimed, address: str) -> Somebody:
    """The person of ours for whom the provider vouches, with the role of today's groups. Raises NotAllowed."""
    role = next((Role(role) for group, role in openid.roles.items() if group in claimed.groups), None)
    with site.database.write() as connection:
        found = logins.let_in(connection, openid.issuer, claimed.subject, claimed.name, role, address)
    if isinstance(found, str):  # told outside of the transaction, or what was noted would be rolled back
        log.warning("login failed", address=address)
        raise NotAllowed(403, f"{found}; ask an administrator of Athanor")
    return found
