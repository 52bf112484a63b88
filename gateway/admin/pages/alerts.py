"""Alerts: what needs somebody, one for each cause; acknowledge one, try the channels that tell of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from gateway.admin.access import needs
from gateway.admin.routes import PageKey, Routes, RowId
from gateway.admin.site import Site, address_of
from gateway.domain.alerts import Channel
from gateway.domain.roles import Role
from gateway.stages import alert
from gateway.store import alerts, people
from gateway.store.paging import Cut, Page
from gateway.store.people import Somebody

_PAGE = 50

Operator = Annotated[Somebody, Depends(needs(Role.OPERATOR))]
Administrator = Annotated[Somebody, Depends(needs(Role.ADMINISTRATOR))]


def router(site: Site) -> Routes:
    """The page, its forms, and the REST operations."""
    routes = Routes()
    settings = site.settings

    def listed(cut: Cut) -> tuple[list[dict[str, Any]], Page]:
        with site.database.read() as connection:
            return alerts.open_ones(connection), alerts.resolved(connection, cut, _PAGE)

    def acknowledge(request: Request, me: Somebody, alert_id: int) -> bool:
        with site.database.write() as connection:
            done = alerts.acknowledge(connection, alert_id, me.name)
            if done:
                people.note(connection, me, address_of(request), "acknowledged an alert", str(alert_id))
        return done

    def try_channel(request: Request, me: Somebody, channel: Channel) -> dict[str, Any]:
        if channel not in alert.channels(settings):
            raise HTTPException(409, f"the settings have no table alerts.{channel}; add it, and restart")
        failure = alert.try_channel(settings, channel)
        with site.database.write() as connection:
            people.note(connection, me, address_of(request), "sent a test message", channel, taken=failure is None)
        return {
            "channel": channel.value,
            "taken": failure is None,
            "step": failure.step.value if failure else None,
            "explanation": failure.explanation if failure else "the server took the message",
        }

    @routes.page("/alerts")
    def page(request: Request, after: PageKey = "", before: PageKey = "") -> Response:
        open_ones, over = listed(Cut(after, before))
        return site.page(
            request, "alerts.html", open_ones=open_ones, over=over, cut={"after": after, "before": before},
            channels=alert.channels(settings),
        )  # fmt: skip

    @routes.act("/alerts/{alert_id}/acknowledge", Role.OPERATOR)
    def acknowledge_form(request: Request, me: Operator, alert_id: RowId) -> Response:
        acknowledge(request, me, alert_id)
        return RedirectResponse("/alerts", 303)

    @routes.act("/alerts/test/{channel}", Role.ADMINISTRATOR)
    def test_form(request: Request, me: Administrator, channel: Channel) -> Response:
        return site.page(request, "alert_test.html", outcome=try_channel(request, me, channel))

    @routes.api("GET", "/alerts", tags=["alerts"], summary="Open alerts, and a page of those that are over")
    def api_list(after: PageKey = "", before: PageKey = "") -> dict[str, Any]:
        open_ones, over = listed(Cut(after, before))
        return {"open": open_ones, **over.to_table("resolved")}

    @routes.api(
        "POST", "/alerts/{alert_id}/acknowledge", Role.OPERATOR, tags=["alerts"], summary="No more reminders of it"
    )
    def api_acknowledge(request: Request, me: Operator, alert_id: RowId) -> dict[str, bool]:
        return {"acknowledged": acknowledge(request, me, alert_id)}

    @routes.api("POST", "/alerts/test", Role.ADMINISTRATOR, tags=["alerts"], summary="Send a test message now")
    def api_test(request: Request, me: Administrator, channel: Channel) -> dict[str, Any]:
        return try_channel(request, me, channel)

    return routes
