"""What every process that receives sets up before it listens, and takes down after: spool, recorder, receive stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway import metrics
from gateway.dicom.elements import HeaderLimits
from gateway.domain.refusal import Refusal
from gateway.settings import Settings
from gateway.stages.adopt import adopt_orphans
from gateway.stages.receive import Receive
from gateway.store.database import Database
from gateway.store.recorder import Recorder
from gateway.store.spool import Spool


@contextmanager
def receiving(
    settings: Settings, database: Database, process: str, refused: Callable[[Refusal], None] = lambda _: None
) -> Iterator[Receive]:
    """The receive stage of `process`, what its predecessor left put right; at the end its rows are written."""
    spool = Spool(settings.spool_dir, process, settings.reserve_bytes)
    judge_after_s, on_conflict = settings.assemble.quiet_full_s, settings.listener.on_conflict
    limits = header_limits(settings)
    with spool.owned():
        adopt_orphans(database, spool, judge_after_s=judge_after_s, on_conflict=on_conflict, limits=limits)
        with Recorder(database, spool, judge_after_s=judge_after_s, on_conflict=on_conflict) as recorder:
            callers = metrics.Callers(known_callers(settings))
            yield Receive(spool, recorder, on_conflict, limits=limits, refused=refused, callers=callers)


def known_callers(settings: Settings) -> set[str]:
    """The AE titles that the settings name: only these are told apart in the metrics."""
    tls = settings.listener.tls
    return ({*settings.listener.peers} - {"*"}) | {*(tls.peers if tls else ())} | {*settings.web.senders}


def header_limits(settings: Settings) -> HeaderLimits:
    """What the settings let a data set have besides its pixel data."""
    listener = settings.listener
    return HeaderLimits(listener.max_header_bytes, listener.max_header_elements, listener.max_sequence_depth)
