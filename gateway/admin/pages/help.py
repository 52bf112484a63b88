"""Help: what each page is for, what the states mean, and what to do when a series did not come back."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import Request, Response

from gateway.admin.routes import Routes
from gateway.admin.site import MENU, Site
from gateway.domain import meanings

# what each page of the menu is for; a page without a line here fails a test
PAGES = {
    "/": "Whether the gateway is well and, if not, what to do; what came, what went, what waits; processes and disk.",
    "/studies": "Find a study by accession number, patient or UID; see what became of each of its series, and why.",
    "/queue": "What waits and what runs, in the order in which it will be done.",
    "/rules": "Which series go through which pipeline: edit, try on a file, dry-run, put in force, roll back.",
    "/pipelines": "The models: what each takes and gives, what was measured, who holds it; disable, enable, test.",
    "/destinations": "Where results go: ask each with C-ECHO, hold it back, release it, send again what failed.",
    "/senders": "Who may call, and who was refused lately with what would let them in.",
    "/alerts": "What needs somebody, one line for each cause, and who was told of it.",
    "/feedback": "What readers said of results: agree, artefact, misleading.",
    "/people": "Who may log in with which role, open sessions, API keys.",
    "/audit": "Who did what. The database itself refuses to change a line of it.",
    "/settings": "The settings in use, their defaults, and where each came from.",
    "/help": "This page.",
}


def router(site: Site) -> Routes:
    """The page."""
    routes = Routes()

    @routes.page("/help")
    def page(request: Request) -> Response:
        states = (("Series", meanings.SERIES), ("Job", meanings.JOB), ("Delivery", meanings.DELIVERY))
        return site.page(
            request, "help.html", pages=[(name, place, PAGES.get(place, "")) for name, place, _ in MENU],
            states=states, roles=meanings.ROLE, version=version("athanor"), spool=site.settings.spool_dir,
            listener=site.settings.listener,
        )  # fmt: skip

    return routes
