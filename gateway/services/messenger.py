"""The threads that tell channels of alerts: one for each, so that a server that hangs holds up nobody else."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from gateway import logs
from gateway.domain.alerts import Channel
from gateway.errors import Unavailable
from gateway.settings import Settings
from gateway.stages import alert
from gateway.store.database import Database

_LOOK_EVERY_S = 2.0
_LAST_WORDS_S = 1.0

log = logs.get("alert")


class Messengers:
    """A context: the threads run inside it. What is under way at its end is left, and sent again by whoever is next."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(channel,), name=f"alerts-{channel}", daemon=True)
            for channel in alert.channels(settings)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_LAST_WORDS_S)

    def _run(self, channel: Channel) -> None:
        while not self._stopping.is_set():
            try:
                is_busy = alert.tell(self._database, self._settings, channel)
            except Unavailable as error:
                log.warning("will try again", channel=channel, reason=str(error))
                is_busy = False
            except Exception as error:  # noqa: BLE001 - the edge of a thread: without it nobody is told any more
                log.error("message failed", channel=channel, **logs.failure(error))
                is_busy = False
            if not is_busy:
                self._stopping.wait(_LOOK_EVERY_S)
