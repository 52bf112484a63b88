"""Named places at which a process can be told to kill itself, so that a test sees what a crash there leaves behind.

``ATHANOR_KILL_AT=process.output`` sends SIGKILL to the process when it comes there, ``process.output:3`` when it comes
there for the third time. Without the variable, which no gateway at work has, nothing happens at any of them.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Mapping
from types import MappingProxyType

from gateway.errors import ConfigurationError

VARIABLE = "ATHANOR_KILL_AT"

POINTS: Mapping[str, str] = MappingProxyType(
    {
        "receive.written": "an instance is in a file of incoming/, not synced and not answered",
        "receive.synced": "its bytes are on disk; it has no name among the received ones",
        "receive.linked": "it has that name, which is not synced",
        "receive.durable": "a restart would find it; nobody was told",
        "receive.queued": "its row waits to be written; nobody was told",
        "receive.answered": "the sender has its Success; the row waits to be written",
        "record.written": "rows of received instances are in a transaction that is not committed",
        "record.committed": "the rows are committed, the files still have their second names",
        "adopt.committed": "rows of what a dead receiver left are committed, the files still have their second names",
        "assemble.closed": "a series is COMPLETE in a transaction that is not committed",
        "assemble.committed": "a series is COMPLETE and in the outbox; nobody was told",
        "announce.published": "the broker has the announcements, the outbox does not know that",
        "announce.marked": "the broker has the announcements, and the outbox knows",
        "route.decided": "the rules were asked, nothing is written",
        "route.written": "the jobs are in a transaction that is not committed",
        "route.committed": "the jobs are committed and in the outbox; nobody was told",
        "process.claimed": "a job has its lease, no work was done",
        "process.inferred": "the generator is done, no derived instance is written",
        "process.file": "some derived instances are written, others are not",
        "process.output": "every derived instance is durable, no row names one",
        "process.written": "the result is in a transaction that is not committed",
        "process.committed": "the job SUCCEEDED; what earlier attempts left lies there, and nobody was told",
        "deliver.claimed": "a delivery has its lease, nothing was sent",
        "deliver.sent": "the destination has answered, no answer is written",
        "deliver.recorded": "the answers are committed, the delivery is not ended",
        "deliver.ended": "the delivery ended; nobody was told that its place is free",
        "vouch.kept": "a request for storage commitment is committed, the peer has no answer",
        "vouch.told": "a peer has the report on its request, no row says so",
        "commit.claimed": "a question to a destination is on record, nothing was asked",
        "commit.taken": "the destination took the question, no row says so",
        "commit.heard": "what the destination reported is committed, its report is not answered",
        "sweep.taken": "expired leases are taken back in a transaction that is not committed",
        "sweep.committed": "expired leases are taken back and in the outbox; nobody was told",
        "sweep.announced": "what the broker lost is marked to be announced again",
    }
)
"""Every point, and what a crash there leaves."""


class _Armed:
    """What `arm` read: the point and how many more times it is passed."""

    name = ""
    times = 0
    lock = threading.Lock()


def arm() -> None:
    """Read the variable, at the start of a process. Raises ConfigurationError for a point that there is not."""
    text = os.environ.get(VARIABLE, "")
    name, colon, times = text.partition(":")
    if name and (name not in POINTS or (colon and not re.fullmatch(r"[1-9]\d*", times))):
        raise ConfigurationError(
            f"environment: {VARIABLE}: found {text!r}; expected one of {', '.join(POINTS)}, with :N for the Nth time"
        )
    _Armed.name, _Armed.times = name, int(times or "1")


def reached(name: str) -> None:
    """The process is at this point: go on, or die when it was told to."""
    if not _Armed.name or _Armed.name != name:
        return
    with _Armed.lock:
        _Armed.times -= 1
        if _Armed.times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
