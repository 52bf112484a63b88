"""Senders: who may call, and who was refused lately; an administrator lets callers in, and out, without a restart."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict

from gateway.admin.access import needs
from gateway.admin.routes import PageKey, Routes
from gateway.admin.site import Site, address_of
from gateway.domain.refusal import Reason
from gateway.domain.roles import Role
from gateway.network.guard import Admission
from gateway.store import directory_entries, people, refusals
from gateway.store.directory import sender_table, senders
from gateway.store.directory_entries import Entry, InvalidEntry, Kind
from gateway.store.paging import Cut, Page
from gateway.store.people import Somebody

_PAGE = 50
_NEWEST = Cut()
_NOBODY = {"ae_title": "", "addresses": "", "note": "", "version": 0}

Me = Annotated[Somebody, Depends(needs(Role.ADMINISTRATOR))]
Title = Annotated[str, Form(max_length=64)]
Addresses = Annotated[str, Form(max_length=2000)]
Note = Annotated[str, Form(max_length=1000)]


class SenderBody(BaseModel):
    """From where an AE title may call: addresses, networks, or * for any address."""

    model_config = ConfigDict(extra="forbid")

    ae_title: str
    addresses: list[str]
    note: str = ""


def router(site: Site) -> Routes:
    """The page, its forms, and the REST operations."""
    routes = Routes()

    def refused(cut: Cut) -> Page:
        with site.database.read() as connection:
            return refusals.page(connection, _PAGE, cut, site.settings.node.ae_title)

    def shown(
        request: Request, form: dict[str, Any], problems: dict[str, str], code: int = 200, cut: Cut = _NEWEST
    ) -> Response:
        found = refused(cut)
        return site.page(
            request, "senders.html", code, found=found, rows=_with_answers(site, found.rows),
            senders=senders(site.directory), over_http=sorted(site.settings.web.senders), form=form, problems=problems,
        )  # fmt: skip

    def put(request: Request, me: Somebody, body: SenderBody, expected_version: int | None = None) -> Entry:
        definition = {"addresses": body.addresses, "note": body.note}
        with site.database.write() as connection:
            entry = directory_entries.put_sender(
                connection, site.settings, body.ae_title, definition, author=me.name, expected_version=expected_version
            )
            people.note(connection, me, address_of(request), "let a sender call", entry.name, **entry.definition)
        site.directory.refresh()
        return entry

    def remove(request: Request, me: Somebody, ae_title: str) -> None:
        with site.database.write() as connection:
            if not directory_entries.remove(connection, site.settings, Kind.SENDER, ae_title, author=me.name):
                raise HTTPException(404, f"there is no sender {ae_title} among those that were added here")
            people.note(connection, me, address_of(request), "removed a sender", ae_title)
        site.directory.refresh()

    @routes.page("/senders")
    def page(
        request: Request, change: Annotated[str, Query(max_length=64)] = "", after: PageKey = "", before: PageKey = ""
    ) -> Response:
        known = next((one for one in senders(site.directory) if one["ae_title"] == change and one["version"]), None)
        form = {**known, "addresses": "\n".join(known["addresses"])} if known else _NOBODY
        return shown(request, form, {}, cut=Cut(after, before))

    @routes.act("/senders", Role.ADMINISTRATOR)
    def save(
        request: Request,
        me: Me,
        ae_title: Title,
        addresses: Addresses = "",
        note: Note = "",
        version: Annotated[int, Form(ge=0, le=10**9)] = 0,
    ) -> Response:
        try:
            body = SenderBody(ae_title=ae_title, addresses=re.split(r"[\s,;]+", addresses.strip()), note=note)
            put(request, me, body, expected_version=version)
        except InvalidEntry as error:
            form = {"ae_title": ae_title, "addresses": addresses, "note": note, "version": version}
            return shown(request, form, _by_field(error.problems), 422)
        return RedirectResponse("/senders", 303)

    @routes.act("/senders/allow", Role.ADMINISTRATOR)
    def allow(request: Request, me: Me, ae_title: Title, address: Annotated[str, Form(max_length=64)]) -> Response:
        with site.database.write() as connection:
            entry = directory_entries.allow(connection, site.settings, ae_title, address, author=me.name)
            people.note(connection, me, address_of(request), "let a sender call", entry.name, **entry.definition)
        site.directory.refresh()
        return RedirectResponse("/senders", 303)

    @routes.act("/senders/remove", Role.ADMINISTRATOR)
    def remove_form(request: Request, me: Me, ae_title: Title) -> Response:
        remove(request, me, ae_title)
        return RedirectResponse("/senders", 303)

    @routes.api("GET", "/refusals", tags=["senders"], summary="Who was refused lately, and what lets them in")
    def api_refusals(after: PageKey = "", before: PageKey = "") -> dict[str, Any]:
        return refused(Cut(after, before)).to_table("refusals")

    @routes.api("GET", "/senders", tags=["senders"], summary="Who may call, and where that stands")
    def api_senders() -> list[dict[str, Any]]:
        return senders(site.directory)

    @routes.api("POST", "/senders", Role.ADMINISTRATOR, tags=["senders"], summary="Let an AE title call, or change it")
    def api_put(request: Request, me: Me, body: SenderBody) -> dict[str, Any]:
        return sender_table(put(request, me, body))

    @routes.api("DELETE", "/senders", Role.ADMINISTRATOR, tags=["senders"], summary="Let an AE title call no more")
    def api_remove(request: Request, me: Me, ae_title: Annotated[str, Query(max_length=64)]) -> dict[str, bool]:
        remove(request, me, ae_title)
        return {"removed": True}

    return routes


def _by_field(problems: dict[str, str]) -> dict[str, str]:
    """The problems of the list of addresses as one: it is one field."""
    found: dict[str, str] = {}
    for place, words in problems.items():
        field = place.partition(".")[0]
        found[field] = f"{found[field]}; {words}" if field in found else words
    return found


def _with_answers(site: Site, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each refusal with its answer: `done` it may call by now, `allow`, `ask` its AE title first, or `words`."""
    peers = site.directory.settings.listener.peers
    admission = Admission(peers=peers)
    for row in rows:
        title, address = row["calling_ae_title"], row["address"]
        if row["reason"] not in (Reason.CALLING_AE_TITLE, Reason.ADDRESS) or title in site.settings.listener.peers:
            row["answer"] = "words"
        elif title:
            row["answer"] = "allow" if admission.objection(address, title, "") else "done"
        else:
            row["answer"] = "done" if admission.knows_address(address) else "ask"
    return rows
