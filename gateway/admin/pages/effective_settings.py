"""Settings: the value of each that is in use, its default, and where it came from; no secret is ever shown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query, Request, Response

from gateway.admin.routes import Routes
from gateway.admin.site import Site
from gateway.domain.roles import Role
from gateway.settings.origin import EffectiveSetting, effective

Text = Annotated[str, Query(max_length=64)]
Given = Annotated[bool, Query(description="only those that are no defaults")]


def router(site: Site) -> Routes:
    """The page and the same as JSON."""
    routes = Routes()
    settings = site.settings

    @routes.page("/settings", Role.AUDITOR)
    def page(request: Request, text: Text = "", given: Given = False) -> Response:
        found = effective(settings, settings.given, text, only_given=given)
        sections: dict[str, list[EffectiveSetting]] = {}
        for one in found:
            sections.setdefault(_section(one), []).append(one)
        return site.page(
            request, "settings.html", sections=sections, text=text, only_given=given, source=settings.given
        )

    @routes.api("GET", "/settings", Role.AUDITOR, tags=["operation"], summary="The settings in use and their origin")
    def api(text: Text = "", given: Given = False) -> list[dict[str, Any]]:
        return [asdict(one) for one in effective(settings, settings.given, text, only_given=given)]

    return routes


def _section(setting: EffectiveSetting) -> str:
    """The table of the settings file in which a setting stands."""
    return setting.key.rpartition(".")[0] or "outside the tables"
