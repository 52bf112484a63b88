"""Whoever is logged in: role, password, sessions and keys of one's own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from gateway.admin.access import COOKIE, Access, NotAllowed, digest_of, hash_password, needs
from gateway.admin.routes import Routes
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.store import people
from gateway.store.people import Row, Somebody

Me = Annotated[Somebody, Depends(needs(Role.VIEWER))]
Secret = Annotated[str, Form(max_length=1024)]


def router(site: Site, access: Access) -> Routes:
    """The page, its forms, and the same as JSON; an API key sees its role and has no more of these."""
    routes = Routes()

    def shown(request: Request, me: Somebody, problem: str = "", code: int = 200) -> Response:
        with site.database.read() as connection:
            return site.page(
                request, "me.html", code, problem=problem, this=_session(request),
                account=people.find(connection, me.name) if me.person_id else None,
                sessions=own_sessions(me), keys=people.keys(connection, me.name),
            )  # fmt: skip

    def own_sessions(me: Somebody) -> list[Row]:
        if me.person_id is None:
            return []
        with site.database.read() as connection:
            return people.sessions(connection, me.person_id)

    @routes.page("/me")
    def page(request: Request, me: Me) -> Response:
        return shown(request, me)

    @routes.act("/me/password", Role.VIEWER)
    def change_password(request: Request, me: Me, password: Secret, new: Secret) -> Response:
        if me.person_id is None:
            raise HTTPException(409, "an API key has no password; make another key and revoke this one")
        address = address_of(request)
        try:
            password_hash = hash_password(new)
            access.prove(me.name, password, address)
        except NotAllowed as refused:
            return shown(request, me, f"not changed: {refused}", 403 if refused.code == 401 else refused.code)
        with site.database.write() as connection:
            people.set_password(connection, me.name, password_hash, kept_session=_session(request))
            people.note(connection, me, address, "changed the own password", me.name)
        return RedirectResponse("/me", 303)

    @routes.act("/me/sessions/{digest}/end", Role.VIEWER)
    def end_one(request: Request, me: Me, digest: str) -> Response:
        with site.database.write() as connection:
            if me.person_id is not None and people.end_session(connection, digest, me.person_id):
                people.note(connection, me, address_of(request), "ended an own session")
        return RedirectResponse("/me", 303)

    @routes.act("/me/sessions/end-others", Role.VIEWER)
    def end_others(request: Request, me: Me) -> Response:
        with site.database.write() as connection:
            if me.person_id is not None:
                ended = people.end_sessions(connection, me.person_id, _session(request))
                people.note(connection, me, address_of(request), "ended own sessions", sessions=ended)
        return RedirectResponse("/me", 303)

    @routes.api("GET", "/me", tags=["people"], summary="Who this key or session belongs to, and the role")
    def api_me(me: Me) -> dict[str, str]:
        return {"name": me.name, "role": me.role}

    @routes.api("GET", "/me/sessions", tags=["people"], summary="Own open sessions, latest first")
    def api_sessions(me: Me) -> list[dict[str, Any]]:
        return own_sessions(me)

    return routes


def _session(request: Request) -> str:
    """The digest of the session of this request."""
    return digest_of(request.cookies.get(COOKIE, ""))
