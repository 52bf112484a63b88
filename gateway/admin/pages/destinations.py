"""Destinations: how each stands and what waits for it; ask it, hold it back, let it go, send again what failed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from gateway.admin.access import needs
from gateway.admin.pages.destination_form import ask_judged
from gateway.admin.routes import Routes
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.network.transfer import ask
from gateway.stages import deliver
from gateway.store import deliveries, destinations, people
from gateway.store.directory_entries import Kind
from gateway.store.people import Somebody

Me = Annotated[Somebody, Depends(needs(Role.OPERATOR))]
Why = Annotated[str, Form(max_length=500)]


def router(site: Site) -> Routes:
    """The page, its forms, and the REST operations."""
    routes = Routes()
    settings = site.settings

    def standing() -> list[dict[str, Any]]:
        with site.database.read() as connection:
            return destinations.standing(connection, deliver.quiet_now(site.directory.settings))

    def directory() -> dict[str, Any]:
        """What the pages need to know of destinations besides how they stand."""
        kept = {one.name for one in site.directory.entries if one.kind is Kind.DESTINATION}
        return {"settings": site.directory.settings.destinations, "kept": kept, "in_file": settings.destinations}

    def require_known(name: str) -> None:
        if name not in site.directory.settings.destinations:
            raise HTTPException(404, f"there is no destination {name}")

    def hold(request: Request, me: Somebody, name: str, why: str) -> bool:
        require_known(name)
        with site.database.write() as connection:
            held = destinations.hold(connection, name, by=me.name, reason=why)
            if held:
                people.note(connection, me, address_of(request), "held a destination", name, why=why)
        return held

    def release(request: Request, me: Somebody, name: str) -> bool:
        require_known(name)
        places = deliver.places_at(site.directory.destination(name), settings.deliver)
        with site.database.write() as connection:
            released = destinations.release(connection, name, places)
            if released:
                people.note(connection, me, address_of(request), "released a destination", name)
        return released

    def resend(request: Request, me: Somebody, name: str) -> int:
        require_known(name)
        with site.database.write() as connection:
            again = [
                delivery_id
                for delivery_id in deliveries.failed(connection, name)
                if deliveries.send_again(
                    connection, delivery_id, whole=False, give_up_s=settings.deliver.give_up_s, by=me.name
                )
            ]
            people.note(connection, me, address_of(request), "sent failed deliveries again", name, number=len(again))
        return len(again)

    @routes.page("/destinations")
    def page(request: Request) -> Response:
        return site.page(request, "destinations.html", rows=standing(), **directory())

    @routes.page("/destinations/{name}/now")
    def now(request: Request, name: str) -> Response:
        row = next((one for one in standing() if one["name"] == name), None)
        if row is None:
            raise HTTPException(404, f"there is no destination {name}")
        return site.page(request, "destination_now.html", row=row, **directory())

    @routes.act("/destinations/{name}/echo", Role.OPERATOR)
    def echo(request: Request, me: Me, name: str) -> Response:
        require_known(name)
        destination = site.directory.settings.destinations[name]
        if name in settings.destinations:
            report = ask(deliver.address_of(destination, settings.deliver, settings.node.ae_title))
        else:
            report = ask_judged(destination, settings)
        return site.page(request, "destination_echo.html", report=report, failed=[])

    @routes.act("/destinations/{name}/hold", Role.OPERATOR)
    def hold_form(request: Request, me: Me, name: str, why: Why = "") -> Response:
        hold(request, me, name, why)
        return RedirectResponse("/destinations", 303)

    @routes.act("/destinations/{name}/release", Role.OPERATOR)
    def release_form(request: Request, me: Me, name: str) -> Response:
        release(request, me, name)
        return RedirectResponse("/destinations", 303)

    @routes.act("/destinations/{name}/resend", Role.OPERATOR)
    def resend_form(request: Request, me: Me, name: str) -> Response:
        resend(request, me, name)
        return RedirectResponse("/destinations", 303)

    @routes.api("GET", "/destinations", tags=["destinations"], summary="How each destination stands")
    def api_standing() -> list[dict[str, Any]]:
        return standing()

    @routes.api("POST", "/destinations/{name}/hold", Role.OPERATOR, tags=["destinations"], summary="Hold it back")
    def api_hold(request: Request, me: Me, name: str, why: str = "") -> dict[str, bool]:
        return {"held": hold(request, me, name, why)}

    @routes.api("POST", "/destinations/{name}/release", Role.OPERATOR, tags=["destinations"], summary="Let it go")
    def api_release(request: Request, me: Me, name: str) -> dict[str, bool]:
        return {"released": release(request, me, name)}

    @routes.api(
        "POST", "/destinations/{name}/resend", Role.OPERATOR, tags=["destinations"], summary="What failed, again"
    )
    def api_resend(request: Request, me: Me, name: str) -> dict[str, int]:
        return {"deliveries": resend(request, me, name)}

    return routes
