"""People: accounts, their sessions, and API keys; every change is in the audit trail."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from gateway.admin.access import COOKIE, digest_of, hash_password, needs, new_key
from gateway.admin.routes import PageKey, Routes, RowId
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.store import people
from gateway.store.paging import Cut
from gateway.store.people import Somebody

_PAGE = 50

Me = Annotated[Somebody, Depends(needs(Role.ADMINISTRATOR))]
Secret = Annotated[str, Form(max_length=1024)]
Name = Annotated[str, Form(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]


def router(site: Site) -> Routes:
    """The page, its forms, and the lists as JSON."""
    routes = Routes()

    def shown(request: Request, cut: Cut, key: str = "") -> Response:
        with site.database.read() as connection:
            return site.page(
                request, "people.html", key=key, roles=list(Role), this=digest_of(request.cookies.get(COOKIE, "")),
                found=people.people_page(connection, _PAGE, cut), sessions=people.sessions(connection),
                keys=people.keys(connection),
            )  # fmt: skip

    @routes.page("/people", Role.ADMINISTRATOR)
    def page(request: Request, after: PageKey = "", before: PageKey = "") -> Response:
        return shown(request, Cut(after, before))

    @routes.act("/people", Role.ADMINISTRATOR)
    def add(
        request: Request, me: Me, name: Name, role: Annotated[Role, Form()], password: Annotated[str, Form()]
    ) -> Response:
        password_hash = hash_password(password)
        with site.database.write() as connection:
            if not people.add_person(connection, name, role, password_hash):
                raise HTTPException(409, f"name: found {name} among the people; expected one that is free")
            people.note(connection, me, address_of(request), "added a person", name, role=role)
        return RedirectResponse("/people", 303)

    @routes.act("/people/{name}/role", Role.ADMINISTRATOR)
    def change_role(request: Request, me: Me, name: str, role: Annotated[Role, Form()]) -> Response:
        with site.database.write() as connection:
            require(people.set_role(connection, name, role), name)
            people.note(connection, me, address_of(request), "changed a role", name, role=role)
        return RedirectResponse("/people", 303)

    @routes.act("/people/{name}/active", Role.ADMINISTRATOR)
    def switch(request: Request, me: Me, name: str, active: Annotated[bool, Form()]) -> Response:
        with site.database.write() as connection:
            require(people.set_active(connection, name, active=active), name)
            people.note(connection, me, address_of(request), "let in" if active else "shut out", name)
        return RedirectResponse("/people", 303)

    @routes.act("/people/{name}/password", Role.ADMINISTRATOR)
    def set_password(request: Request, me: Me, name: str, password: Secret) -> Response:
        password_hash = hash_password(password)
        with site.database.write() as connection:
            require(people.set_password(connection, name, password_hash), name)
            people.note(connection, me, address_of(request), "set a password", name)
        return RedirectResponse("/people", 303)

    @routes.act("/people/{name}/sessions/end", Role.ADMINISTRATOR)
    def end_all(request: Request, me: Me, name: str) -> Response:
        with site.database.write() as connection:
            found = people.find(connection, name)
            require(found is not None, name)
            ended = people.end_sessions(connection, found["id"]) if found else 0
            people.note(connection, me, address_of(request), "ended sessions", name, sessions=ended)
        return RedirectResponse("/people", 303)

    def require(is_there: bool, name: str) -> None:
        if not is_there:
            raise HTTPException(404, f"there is nobody of the name {name}")

    @routes.act("/sessions/{digest}/end", Role.ADMINISTRATOR)
    def end_session(request: Request, me: Me, digest: str) -> Response:
        end(request, me, digest)
        return RedirectResponse("/people", 303)

    def end(request: Request, me: Somebody, digest: str) -> bool:
        with site.database.write() as connection:
            is_ended = people.end_session(connection, digest)
            if is_ended:
                people.note(connection, me, address_of(request), "ended a session")
        return is_ended

    @routes.act("/keys", Role.ADMINISTRATOR)
    def add_key(request: Request, me: Me, name: Name, role: Annotated[Role, Form()]) -> Response:
        key = new_key()
        with site.database.write() as connection:
            people.add_key(connection, name, digest_of(key), role, me.name)
            people.note(connection, me, address_of(request), "made an API key", name, role=role)
        return shown(request, Cut(), key)

    @routes.act("/keys/{key_id}/revoke", Role.ADMINISTRATOR)
    def revoke_key(request: Request, me: Me, key_id: RowId) -> Response:
        with site.database.write() as connection:
            if people.revoke_key(connection, key_id):
                people.note(connection, me, address_of(request), "revoked an API key", str(key_id))
        return RedirectResponse("/people", 303)

    @routes.api("GET", "/people", Role.ADMINISTRATOR, tags=["people"], summary="Accounts, by name")
    def api_people(after: PageKey = "", before: PageKey = "") -> dict[str, Any]:
        with site.database.read() as connection:
            return people.people_page(connection, _PAGE, Cut(after, before)).to_table("people")

    @routes.api("GET", "/sessions", Role.ADMINISTRATOR, tags=["people"], summary="Open sessions, latest first")
    def api_sessions() -> list[dict[str, Any]]:
        with site.database.read() as connection:
            return people.sessions(connection)

    @routes.api("DELETE", "/sessions/{digest}", Role.ADMINISTRATOR, tags=["people"], summary="End a session")
    def api_end(request: Request, me: Me, digest: str) -> dict[str, bool]:
        return {"ended": end(request, me, digest)}

    return routes
