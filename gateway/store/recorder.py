"""The recorder: rows for what was received, written behind the files, many in one transaction; digests behind the rows.

    association thread: file durable > queue > Success
    recorder: queue > one transaction > ... when nothing arrives: digest > one transaction > second names removed

One queue in the order of what happened, so the end of an association is recorded after everything that it carried.
Rows and digests that a crash takes with it are made again from the spool. While the database is away the queue fills;
when it is full, instances are refused until it is back.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from sqlalchemy.exc import DBAPIError

from gateway import audit, logs, metrics
from gateway.domain.completeness import AssociationState
from gateway.errors import Unavailable
from gateway.killpoints import reached
from gateway.store import intake
from gateway.store.database import Database
from gateway.store.intake import Arrival, Arrived, Caller, OnConflict, Raced
from gateway.store.spool import Spool

MOST_WAITING = 10_000
"""Rows that may wait for the database: about 30 MB, and twenty seconds of receiving at full speed."""

_GATHER_S = 0.5  # a row costs four times as much in the batches of a tenth of a second
_GATHER_SHARE = 0.25  # of the shortest quiet period, after which a series is judged
_BATCH = 500
_IDLE_S = 0.05
_SEALED_AT_ONCE = 20
_MOST_UNSEALED = 10_000  # names in the incoming folder, and some seconds of a restart
_TRY_AGAIN_S = 1.0
_STOP_WITHIN_S = 10.0

log = logs.get("recorder")


@dataclass(frozen=True, slots=True)
class Ended:
    """An association is over."""

    association_id: str
    end: AssociationState


@dataclass(frozen=True, slots=True)
class Refused:
    """An instance was answered with an error; `path` is where it is kept, if it is, and `pending` its second name."""

    caller: Caller
    status: int
    reason: str
    path: str | None
    pending: Path | str | None = None


@dataclass(frozen=True, slots=True)
class _Unsealed:
    """A recorded file whose digest is still to be made; its second name stays until then."""

    path: str
    data_set_bytes: int
    pending: Path | str | None
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The digest of a recorded file, or why there is none."""

    file: _Unsealed
    sha256: str
    fault: str = ""


Entry = Caller | Arrived | Ended | Refused | _Sealed  # a Caller has opened an association


class Recorder:
    """Writes rows in a thread of its own; every method may be called from every thread."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        judge_after_s: float,
        on_conflict: OnConflict = "keep-first",
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._database = database
        self._spool = spool
        self._judge_after_s = judge_after_s
        self._on_conflict: OnConflict = on_conflict
        self._most_waiting = most_waiting
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._gather_s = min(_GATHER_S, _GATHER_SHARE * judge_after_s)
        self._unsettled = 0  # waiting, or in the hands of the thread
        self._unsealed: deque[_Unsealed] = deque()
        self._hurry = False
        self._stop = threading.Event()
        self._arrivals = audit.Arrivals()
        self._thread = threading.Thread(target=self._run, name="recorder")

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the database that nothing more should be taken."""
        return self._unsettled >= self._most_waiting

    def __enter__(self) -> Self:
        """Begin to write."""
        metrics.UNRECORDED.set_function(lambda: self._unsettled)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what waits, if the database takes it, and end."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def put(self, entry: Entry) -> None:
        """Have `entry` recorded after everything that was put before. The end of an association hurries."""
        with self._changed:
            self._waiting.append(entry)
            self._unsettled += 1
            self._hurry |= isinstance(entry, Ended)
            if self._hurry or self._unsettled == 1 or len(self._waiting) == _BATCH:
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Whether everything put before was recorded within `timeout_s`, with its digest."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._unsettled == 0 and not self._unsealed, timeout_s)

    def _run(self) -> None:
        while (batch := self._next_batch()) or self._unsealed:
            unsealed = self._due_to_seal(batch)
            if not self._write([*batch, *map(self._seal, unsealed)]):
                log.warning("rows not recorded", rows=self._unsettled, found_again="at the next start")
                return
            with self._changed:
                self._unsettled -= len(batch)
                for _ in unsealed:
                    self._unsealed.popleft()
                self._changed.notify_all()

    def _next_batch(self) -> list[Entry]:
        """What waits, once there is something: after a moment in which more may come.

        Empty when all is done, and when nothing came for a moment and there are digests to make.
        """
        with self._changed:
            idle_s = _IDLE_S if self._unsealed else None
            self._changed.wait_for(lambda: self._waiting or self._stop.is_set(), idle_s)
            if self._waiting:
                self._changed.wait_for(
                    lambda: self._hurry or self._stop.is_set() or len(self._waiting) >= _BATCH, self._gather_s
                )
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._hurry = self._hurry and bool(self._waiting)
            return batch

    def _due_to_seal(self, batch: Sequence[Entry]) -> list[_Unsealed]:
        """Some of the oldest, when there is nothing else to do; when too many wait, as many as come with `batch`."""
        if batch and len(self._unsealed) <= _MOST_UNSEALED:
            return []
        return list(islice(self._unsealed, max(len(batch), _SEALED_AT_ONCE)))

    def _seal(self, file: _Unsealed) -> _Sealed:
        try:
            return _Sealed(file, self._spool.digest(file.path, file.data_set_bytes))
        except OSError as error:
            log.error("file not read", path=file.path, reason=error.strerror)
            return _Sealed(file, "", f"received, but the disk does not give it back ({error.strerror}); check the disk")

    def _write(self, batch: Sequence[Entry]) -> bool:
        """Record a batch, however long the database is away; False when it is still away long after the stop."""
        give_up_at = float("inf")
        while time.monotonic() < give_up_at:
            try:
                self._record(batch)
            except Raced:
                continue  # now the other one's row is there to be compared with
            except Unavailable as error:
                log.warning("will try again", reason=str(error), rows=self._unsettled)
                if self._stop.wait(_TRY_AGAIN_S):
                    give_up_at = min(give_up_at, time.monotonic() + _STOP_WITHIN_S)
                    time.sleep(_TRY_AGAIN_S)
            except Exception as error:  # noqa: BLE001 - the edge of a batch: what the database takes of it is recorded
                if len(batch) == 1:
                    self._set_aside(batch[0], error)
                    return True
                return all(self._write([entry]) for entry in batch)
            else:
                return True
        return False

    def _set_aside(self, entry: Entry, error: Exception) -> None:
        """Report an entry that the database does not take. A file keeps its second name unless its report is stored."""
        found = type(error.orig if isinstance(error, DBAPIError) else error).__name__
        log.error("not recorded", entry=type(entry).__name__, **logs.failure(error))
        if not isinstance(entry, Arrived):
            return
        reason = f"received, but the database does not take its row ({found}); the file is left where it is"
        try:
            self._record([Refused(entry.caller, 0x0000, reason, entry.file.path)])
        except Exception as again:  # noqa: BLE001 - the next start reports it
            log.error("not recorded", entry="Refused", **logs.failure(again))
        else:
            self._spool.settle(entry.pending)

    def _record(self, batch: Sequence[Entry]) -> None:
        """One transaction; a file that has its digest, or is to get none, has no need of its second name after it."""
        sealed = [entry for entry in batch if isinstance(entry, _Sealed)]
        arrived = [entry for entry in batch if isinstance(entry, Arrived)]
        with self._database.write() as connection:
            callers = [entry for entry in batch if isinstance(entry, Caller)]
            intake.open_associations(connection, callers, self._spool.process)
            arrivals = intake.record_instances(
                connection, arrived, judge_after_s=self._judge_after_s, on_conflict=self._on_conflict
            )
            for entry in batch:
                if isinstance(entry, Refused):
                    intake.record_quarantine(
                        connection, entry.caller, status=entry.status, reason=entry.reason, path=entry.path
                    )
                elif isinstance(entry, Ended):
                    intake.end_association(connection, entry.association_id, entry.end)
                elif isinstance(entry, _Sealed) and entry.fault:
                    intake.record_quarantine(
                        connection, entry.file.caller, status=0x0000, reason=entry.fault, path=None
                    )
            intake.seal(connection, {entry.file.path: entry.sha256 for entry in sealed if not entry.fault})
            if arrived:
                reached("record.written")
        if arrived:
            reached("record.committed")
        for entry, arrival in zip(arrived, arrivals, strict=True):
            if entry.data_set_bytes is None:
                self._spool.settle(entry.pending)
            else:
                self._unsealed.append(_Unsealed(entry.file.path, entry.data_set_bytes, entry.pending, entry.caller))
            if arrival is Arrival.CONFLICT:
                log.warning("conflicting instance", association=entry.caller.association_id, path=entry.file.path)
        for entry in batch:
            if isinstance(entry, _Sealed):
                self._spool.settle(entry.file.pending)
            elif isinstance(entry, Refused):
                self._spool.settle(entry.pending)
        self._audit(batch)

    def _audit(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            if isinstance(entry, Arrived):
                caller, header = entry.caller, entry.header
                self._arrivals.add(
                    caller.association_id, audit.Node(caller.calling_ae_title, caller.address),
                    header.study_instance_uid, header.sop_class_uid, header.patient_id,
                )  # fmt: skip
            elif isinstance(entry, Ended):
                aborted = entry.end is AssociationState.ABORTED
                self._arrivals.ended(entry.association_id, "the association was aborted" if aborted else "")
