"""The queue: what runs and waits now in the order in which it is taken, and what failed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Request, Response

from gateway.admin.routes import PageKey, Routes
from gateway.admin.site import Site
from gateway.domain.rules import HIGHEST_PRIORITY, PRIORITIES
from gateway.stages.interventions import offer_in_queue
from gateway.store import waiting
from gateway.store.paging import Cut, Page
from gateway.store.waiting import QueueQuery
from pipelines.catalog import Catalog

_PAGE, _RUNNING = 50, 100
_WHATS = ("jobs", "deliveries")
_STATES = tuple(dict.fromkeys([*waiting.JOB_STATES, *waiting.DELIVERY_STATES]))
_PRIORITY_WORDS = {HIGHEST_PRIORITY - number: word for word, number in PRIORITIES.items()}

What = Annotated[str, Query(pattern=f"^({'|'.join(_WHATS)})?$", description="jobs or deliveries; empty for both")]
State = Annotated[str, Query(pattern=f"^({'|'.join(_STATES)})?$", description="empty for what runs and waits")]
Name = Annotated[str, Query(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")]

Part = dict[str, Any]


def router(site: Site) -> Routes:
    """The page and the same as JSON."""
    routes = Routes()

    def parts(what: str, state: str, query: QueueQuery, cut: Cut) -> dict[str, Part]:
        """Jobs and deliveries: those at work (`running`, not paged) and the page of the others (`found`).

        A key belongs to a list of one kind: without `what` both lists begin at the start.
        """
        kinds: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...], str]] = {
            "jobs": (waiting.jobs, waiting.RUNNING_JOBS, waiting.JOB_STATES, "QUEUED"),
            "deliveries": (waiting.deliveries, waiting.RUNNING_DELIVERIES, waiting.DELIVERY_STATES, "QUEUED"),
        }
        found: dict[str, Part] = {}
        with site.database.read() as connection:
            for kind, (ask, at_work, known, first) in kinds.items():
                is_asked = what in {"", kind} and (not state or state in known)
                # a job has several destinations, each of which becomes a delivery
                if not is_asked or (kind == "jobs" and query.destination):
                    continue
                here = cut if what == kind else Cut()
                is_first = not state and here == Cut()
                running = [
                    row
                    for one in at_work
                    if is_first
                    for row in ask(connection, one, query, Cut(), _RUNNING).rows
                ]  # fmt: skip
                page: Page = ask(connection, state or first, query, here, _PAGE)
                found[kind] = {
                    "running": [offer_in_queue(row) for row in running],
                    "found": replace(page, rows=[offer_in_queue(row) for row in page.rows]),
                }
        return found

    @routes.page("/queue")
    def queue(
        request: Request,
        what: What = "",
        state: State = "",
        destination: Name = "",
        pipeline: Name = "",
        after: PageKey = "",
        before: PageKey = "",
    ) -> Response:
        settings = site.directory.settings
        cut = Cut(after, before)
        return site.page(
            request, "queue.html", parts=parts(what, state, QueueQuery(pipeline, destination), cut), cut=cut,
            filters={"what": what, "state": state, "destination": destination, "pipeline": pipeline},
            whats=_WHATS, states=_STATES, destinations=sorted(settings.destinations),
            pipelines=list(Catalog.read(settings.models_dir)), priorities=_PRIORITY_WORDS,
        )  # fmt: skip

    @routes.api("GET", "/queue", tags=["series"], summary="What runs and waits now, in order, and what failed")
    def api_queue(
        what: What = "",
        state: State = "",
        destination: Name = "",
        pipeline: Name = "",
        after: PageKey = "",
        before: PageKey = "",
    ) -> dict[str, Part]:
        found = parts(what, state, QueueQuery(pipeline, destination), Cut(after, before))
        return {kind: {"running": part["running"], **part["found"].to_table("rows")} for kind, part in found.items()}

    return routes
