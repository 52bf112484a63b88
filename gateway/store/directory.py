"""Who may send and where results go: the settings, and beside them what administrators keep in the database.

A name that stands in both is that of the settings. Every process looks at the revision of the database once a second,
in a thread of its own: whoever asks for a sender or a destination asks the memory. While the database is away, what was
known last stays in force.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gateway import logs
from gateway.errors import Unavailable
from gateway.settings import Destination, Settings
from gateway.store import directory_entries
from gateway.store.database import Database
from gateway.store.directory_entries import Entry, Kind, Sender

_LOOK_EVERY_S = 1.0

log = logs.get("directory")


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read at one time."""

    settings: Settings
    entries: Sequence[Entry]
    revision: int


class Directory:
    """The directory of one process; without a database that of the settings alone.

    Raises Unavailable at first, when there is nothing known yet and the database does not answer.
    """

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self.file = settings
        """The settings as they stand in their file."""
        self._database = database
        self._known = _Known(settings, (), 0)
        self._lock = threading.Lock()
        self._changed: Callable[[], None] = lambda: None
        self.refresh()

    @property
    def settings(self) -> Settings:
        """The settings with every sender and destination in force."""
        return self._known.settings

    @property
    def entries(self) -> Sequence[Entry]:
        """What the database holds, in force or behind an entry of the settings, by kind and name."""
        return self._known.entries

    def destination(self, name: str) -> Destination | None:
        """The destination of that name. One that is not known yet is looked for in the database at once."""
        found = self.settings.destinations.get(name)
        if found is None:
            self.refresh()
            found = self.settings.destinations.get(name)
        return found

    def refresh(self) -> None:
        """Look whether something changed. Raises Unavailable; what was known stays in force then."""
        if self._database is None:
            return
        with self._lock:
            with self._database.read() as connection:
                revision = directory_entries.revision(connection)
                if revision == self._known.revision:
                    return
                entries = directory_entries.entries(connection)
            self._known = _Known(with_entries(self.file, entries), entries, revision)
            self._changed()

    @contextmanager
    def followed(self, changed: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Follow the database inside the block; `changed` is called, in another thread, after each change."""
        ending = threading.Event()
        self._changed = changed
        changed()  # whatever was set up before may have missed something

        def follow() -> None:
            is_away = False
            while not ending.wait(_LOOK_EVERY_S):
                try:
                    self.refresh()
                    is_away = False
                except Unavailable as error:
                    if not is_away:
                        log.warning("the last known directory stays in force", reason=str(error))
                    is_away = True

        thread = threading.Thread(target=follow, name="directory", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()


def with_entries(settings: Settings, entries: Sequence[Entry]) -> Settings:
    """The settings with the senders and destinations of `entries` that have no name of theirs."""
    senders: dict[str, tuple[str, ...]] = {}
    destinations: dict[str, Destination] = {}
    for entry in entries:
        try:
            if entry.kind is Kind.SENDER:
                senders[entry.name] = Sender.model_validate(entry.definition).addresses
            else:
                destinations[entry.name] = Destination.model_validate(entry.definition)
        except ValidationError as error:  # an earlier program kept it
            fields = [".".join(map(str, one["loc"])) for one in error.errors()]
            log.error("entry left out", kind=entry.kind.value, name=entry.name, not_valid=fields)
    listener = settings.listener.model_copy(update={"peers": {**senders, **settings.listener.peers}})
    return settings.model_copy(
        update={"listener": listener, "destinations": {**destinations, **settings.destinations}}
    )  # fmt: skip


def senders(directory: Directory) -> list[dict[str, Any]]:
    """Who may call: those of the settings, whose `version` is 0, then those of the database.

    `overruled` is true for one of the database whose AE title stands in the settings, too: it has no effect.
    """
    peers = directory.file.listener.peers
    of_the_file = [
        {
            "ae_title": title, "addresses": _plain(addresses), "note": "",
            "version": 0, "author": "", "created_at": None, "overruled": False,
        }
        for title, addresses in peers.items()
    ]  # fmt: skip
    kept = [entry for entry in directory.entries if entry.kind is Kind.SENDER]
    return of_the_file + [{**sender_table(entry), "overruled": entry.name in peers} for entry in kept]


def sender_table(entry: Entry) -> dict[str, Any]:
    """A sender of the database, for programs."""
    return {
        "ae_title": entry.name, **entry.definition, "addresses": _plain(entry.definition["addresses"]),
        "version": entry.version, "author": entry.author, "created_at": entry.created_at,
    }  # fmt: skip


def _plain(networks: Iterable[str]) -> list[str]:
    """A network of one address as that address."""
    return [one.removesuffix("/128" if ":" in one else "/32") for one in networks]
