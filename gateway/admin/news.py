"""Server-sent events: that something changed, not what; whatever a page shows it loads again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from gateway.admin.routes import Routes
from gateway.admin.site import Site
from gateway.errors import Unavailable
from gateway.store import browse

_LOOK_EVERY_S = 1.0
_ALIVE_EVERY = 5  # looks


def router(site: Site) -> Routes:
    """The stream of news."""
    routes = Routes(tags=["operation"])

    def mark() -> tuple[int, ...]:
        with site.database.read() as connection:
            return browse.newest(connection)

    async def stream(request: Request) -> AsyncIterator[str]:
        seen: tuple[int, ...] | None = None
        looks = 0
        while not site.stopping.is_set() and not await request.is_disconnected():
            try:
                found = await run_in_threadpool(mark)
            except Unavailable:
                found = None  # the page says by itself that it hears nothing
            if found is not None and found != seen:
                yield "event: changed\ndata: \n\n"
                seen = found
            elif found is not None and looks % _ALIVE_EVERY == 0:
                yield "event: alive\ndata: \n\n"
            looks += 1
            await asyncio.sleep(_LOOK_EVERY_S)

    @routes.page("/events")
    async def events(request: Request) -> StreamingResponse:
        return StreamingResponse(stream(request), media_type="text/event-stream")

    return routes
