"""The audit trail of this process: to a file, to a syslog server, to both, or nowhere.

`set_up` decides once for a process, as with logs; without it every function here does nothing. A message is put into a
queue and never waited for: each way out has a thread. What a full disk or a silent server leaves behind in the queue is
dropped when the queue is full, counted in ``athanor_audit_messages_total`` and reported in the log.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway import audit_messages, logs, metrics
from gateway.audit_messages import Node, Source, StudyContent
from gateway.settings import Settings
from gateway.syslog import SyslogServer

MOST_WAITING = 2000
"""Messages that may wait for a way out: about 3 MB."""

_TRY_AGAIN_S = 2.0
_STOP_WITHIN_S = 3.0
_REPORT_EVERY_S = 60.0
_SAME_ALERT_AFTER_S = 60.0
_MOST_ALERTS = 1000

log = logs.get("audit")


class _Way(Protocol):
    """Takes messages to their place."""

    def take(self, messages: list[str]) -> None:
        """Remove from the list what is durable or sent; raise OSError when that is not all."""


class AuditFile:
    """A file that messages are added to, one a line, synced. Whoever moves it away makes us begin a new one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, messages: list[str]) -> None:
        """Add them with one write; the processes of this machine share the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = "".join(f"{message}\n" for message in messages).encode()
        with self._path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if (file.write(lines) or 0) < len(lines):
                file.truncate(end)  # the disk is full, and half a message is none
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        messages.clear()


class _SyslogWay:
    def __init__(self, server: SyslogServer, process: str) -> None:
        self._server = server
        self._process = process

    def take(self, messages: list[str]) -> None:
        while messages:
            self._server.send(messages[0], self._process)
            del messages[0]


class _Outlet:
    """A queue with a thread that empties it into a way out."""

    def __init__(self, name: str, way: _Way) -> None:
        self._name = name
        self._way = way
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._stop = threading.Event()
        self._reported_at = float("-inf")
        self._sent, self._dropped = (metrics.AUDIT.labels(name, outcome) for outcome in ("sent", "dropped"))
        self._thread = threading.Thread(target=self._run, name=f"audit-{name}", daemon=True)
        self._thread.start()

    def put(self, message: str) -> None:
        with self._changed:
            if has_room := len(self._waiting) < MOST_WAITING:
                self._waiting.append(message)
                self._changed.notify()
        if not has_room:
            self._dropped.inc()
            self._report("audit messages dropped", reason="too many wait")

    def close(self) -> None:
        """Let what waits go out, for a moment."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(_STOP_WITHIN_S)

    def _run(self) -> None:
        while batch := self._next_batch():
            number = len(batch)
            try:
                self._way.take(batch)
            except OSError as error:
                self._report("audit messages wait", reason=error.strerror or type(error).__name__, messages=len(batch))
                with self._changed:
                    self._waiting.extendleft(reversed(batch))
                if self._stop.wait(_TRY_AGAIN_S):
                    self._dropped.inc(len(self._waiting))
                    return
            self._sent.inc(number - len(batch))

    def _next_batch(self) -> list[str]:
        """What waits, once there is something; nothing when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stop.is_set())
            batch = list(self._waiting)
            self._waiting.clear()
            return batch

    def _report(self, event: str, **values: object) -> None:
        if time.monotonic() - self._reported_at > _REPORT_EVERY_S:
            self._reported_at = time.monotonic()
            log.error(event, sink=self._name, **values)


@dataclass(slots=True)
class _Trail:
    """What `set_up` decided for this process."""

    source: Source
    with_patient: bool = False
    outlets: list[_Outlet] = field(default_factory=list)
    alerted: dict[tuple[str, str, str], float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, message: str) -> None:
        for outlet in self.outlets:
            outlet.put(message)

    def is_news(self, alert: tuple[str, str, str]) -> bool:
        """Whether this alert was not given within the last minute; of a flood, the first thousand of a minute are."""
        now = time.monotonic()
        with self.lock:
            if len(self.alerted) >= _MOST_ALERTS:
                self.alerted = {one: at for one, at in self.alerted.items() if now - at < _SAME_ALERT_AFTER_S}
            last = self.alerted.get(alert)
            if (last is not None and now - last < _SAME_ALERT_AFTER_S) or len(self.alerted) >= _MOST_ALERTS:
                return False
            self.alerted[alert] = now
            return True


__all__ = ["Arrivals", "Node", "Sending", "is_kept", "refused", "set_up"]

_NONE = _Trail(Source(""))
_trail = _NONE


@contextmanager
def set_up(settings: Settings, process: str) -> Iterator[None]:
    """Keep the audit trail of `process` inside the block, from its start to its end (PS3.15 A.5.3.1)."""
    global _trail
    chosen = settings.audit
    source = Source(settings.node.ae_title, settings.node.institution_name)
    outlets: list[_Outlet] = []
    if chosen.file is not None:
        outlets.append(_Outlet("file", AuditFile(chosen.file)))
    if chosen.syslog:
        server = SyslogServer(chosen.syslog, ca=chosen.ca, certificate=chosen.certificate, key=chosen.key)
        outlets.append(_Outlet("syslog", _SyslogWay(server, process)))
    _trail = _Trail(source, chosen.patient, outlets)
    if outlets:
        _trail.put(audit_messages.application(source, process, started=True))
    try:
        yield
    finally:
        if outlets:
            _trail.put(audit_messages.application(source, process, started=False))
        for outlet in outlets:
            outlet.close()
        _trail = _NONE


def refused(address: str, calling_ae_title: str, reason: str) -> None:
    """Somebody was given no association. The same again within a minute is not told again."""
    if _trail.outlets and _trail.is_news((address, calling_ae_title, reason)):
        _trail.put(audit_messages.association_refused(_trail.source, Node(calling_ae_title, address), reason))


def is_kept() -> bool:
    """Whether there is an audit trail: without one, nobody needs to look up what stands in it."""
    return bool(_trail.outlets)


class Sending:
    """One transfer to a destination: its begin is told now, its end by `ended`.

    `sop_classes` holds the SOP Class UID of each instance by its SOP Instance UID.
    """

    def __init__(self, destination: Node, study_uid: str, patient_id: str, sop_classes: Mapping[str, str]) -> None:
        self._about = destination, study_uid, patient_id
        self._sop_classes = sop_classes
        content = _content(study_uid, Counter(sop_classes.values()), patient_id)
        _trail.put(audit_messages.begin_transferring(_trail.source, destination, content))

    def ended(self, accepted: Iterable[str]) -> None:
        """These SOP Instance UIDs were accepted; no message without any."""
        destination, study_uid, patient_id = self._about
        instances = Counter(self._sop_classes[uid] for uid in accepted)
        left = len(self._sop_classes) - instances.total()
        if instances:
            content = _content(study_uid, instances, patient_id)
            failure = f"{left} of {len(self._sop_classes)} instances were not accepted" if left else ""
            _trail.put(audit_messages.instances_sent(_trail.source, destination, content, failure))


def _content(study_uid: str, instances: Mapping[str, int], patient_id: str) -> StudyContent:
    return StudyContent(study_uid, instances, patient_id if _trail.with_patient else None)


class Arrivals:
    """Counts what each open association has stored, for one message a study when it ends. Used by one thread."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, tuple[Node, str, Counter[str]]]] = {}

    def add(self, association_id: str, sender: Node, study_uid: str, sop_class_uid: str, patient_id: str) -> None:
        """An instance was stored."""
        if _trail.outlets:
            studies = self._open.setdefault(association_id, {})
            studies.setdefault(study_uid, (sender, patient_id, Counter()))[2][sop_class_uid] += 1

    def ended(self, association_id: str, failure: str = "") -> None:
        """The association is over."""
        for study_uid, (sender, patient_id, instances) in self._open.pop(association_id, {}).items():
            content = _content(study_uid, instances, patient_id)
            _trail.put(audit_messages.instances_received(_trail.source, sender, content, failure))
