"""Retain: give up what every consumer has and is old, a little at a time, and delete its files from the spool.

    row noted for removal (committed) -> file deleted -> note deleted (committed)

Killed anywhere in between, the next pass goes on: a note is only forgotten when its file is gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from gateway import logs
from gateway.settings.line import Retention
from gateway.store import commitments, heartbeats, retention
from gateway.store.database import Database
from gateway.store.retention import Limits, Note

_PASS_S = 0.2  # nothing else of the clock waits longer
_IDLE_S = 60.0
_FILES_AT_A_TIME = 100
_ROWS_AT_A_TIME = 200
_DEAD_AFTER_S = 86_400.0
_DAY_S = 86_400.0

log = logs.get("retain")


def limits_of(settings: Retention) -> Limits:
    """The ages of the settings in seconds."""

    def seconds(days: float) -> float | None:
        return days * _DAY_S if days else None

    return Limits(
        files_s=seconds(settings.files_days),
        failed_s=seconds(settings.failed_days),
        quarantine_s=seconds(settings.quarantine_days),
        history_s=seconds(settings.history_days),
        log_s=seconds(settings.log_days),
    )


class Retain:
    """Passes of a fifth of a second, one after the other while there is something to do, else one a minute."""

    def __init__(self, database: Database, spool: Path, settings: Retention) -> None:
        self._database = database
        self._spool = spool
        self._limits = limits_of(settings)
        self._not_before = 0.0

    def __call__(self) -> None:
        """One pass, when it is time for one."""
        if time.monotonic() >= self._not_before and not self.one_pass():
            self._not_before = time.monotonic() + _IDLE_S

    def one_pass(self) -> bool:
        """Do some of what is due; whether there may be more."""
        until = time.monotonic() + _PASS_S
        for work in (self._delete_files, self._purge_series, self._purge_quarantine, self._forget):
            while work():
                if time.monotonic() > until:
                    return True
        return False

    def _delete_files(self) -> bool:
        # within the transaction that locks the notes: whoever receives such a file again waits for its end
        with self._database.write() as connection:
            found = retention.notes(connection, _FILES_AT_A_TIME)
            left = [note for note in found if not self._delete(note)]
            retention.put_off(connection, [note.path for note in left])
            retention.forget_notes(connection, {note.path for note in found} - {note.path for note in left})
        for folder in {(self._spool / note.path).parent for note in found if note.path.startswith("received/")}:
            with contextlib.suppress(OSError):  # not empty yet, or gone
                folder.rmdir()
        return len(found) > len(left)

    def _delete(self, note: Note) -> bool:
        """Whether nothing is left of what the note means; a file that was written since is another one, and stays."""
        place = self._spool / note.path
        try:
            if note.modified_ns is None:
                shutil.rmtree(place)
                return True
            return _unlink(place, note.modified_ns)
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning("not deleted", path=note.path, reason=error.strerror)
            return False

    def _modified_ns(self, path: str) -> int | None:
        try:
            return (self._spool / path).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _purge_series(self) -> bool:
        with self._database.read() as connection:
            ids = retention.purgeable_series(connection, self._limits, 1)
        for series_id in ids:
            with self._database.write() as connection:
                instances = retention.purge(connection, series_id, self._limits, self._modified_ns)
            if instances is not None:
                log.info("files given up", series=series_id, instances=instances)
        return bool(ids)

    def _purge_quarantine(self) -> bool:
        with self._database.write() as connection:
            return retention.purge_quarantine(connection, self._limits, _ROWS_AT_A_TIME, self._modified_ns) > 0

    def _forget(self) -> bool:
        with self._database.write() as connection:
            series = retention.forget_history(connection, self._limits, _ROWS_AT_A_TIME)
            rows = retention.forget_log(connection, self._limits, _ROWS_AT_A_TIME)
            if self._limits.log_s is not None:
                rows += commitments.forget(connection, self._limits.log_s)
            rows += heartbeats.forget_dead(connection, _DEAD_AFTER_S)
        if series:
            log.info("history forgotten", series=series)
        return series + rows > 0


def _unlink(place: Path, modified_ns: int) -> bool:
    """Delete the file of that age; False while it has a second name: it was received again, and gets its row soon."""
    with place.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mtime_ns != modified_ns:
            return True
        if found.st_nlink > 1:
            return False
        place.unlink()
        if os.fstat(file.fileno()).st_nlink:  # it got one just now
            with contextlib.suppress(FileExistsError):
                os.link(f"/proc/self/fd/{file.fileno()}", place, follow_symlinks=True)
            return False
    return True
