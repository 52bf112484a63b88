"""What every process that receives sets up before it listens, and takes down after: spool, recorder, receive stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.settings import Settings
from gateway.stages.adopt import adopt_orphans
from gateway.stages.receive import Receive
from gateway.store.database import Database
from gateway.store.recorder import Recorder
from gateway.store.spool import Spool


@contextmanager
def receiving(settings: Settings, database: Database, process: str) -> Iterator[Receive]:
    """The receive stage of `process`, what its predecessor left put right; at the end its rows are written."""
    spool = Spool(settings.spool_dir, process, settings.reserve_bytes)
    judge_after_s = settings.assemble.quiet_full_s
    with spool.owned():
        adopt_orphans(database, spool, judge_after_s=judge_after_s)
        with Recorder(database, spool, judge_after_s=judge_after_s) as recorder:
            yield Receive(spool, recorder)
