"""Two associations send the same SOP Instance UID at once: one row, nothing overwritten, nobody told an untruth."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import sqlalchemy as sa
from store_rows import header, receive_file

from gateway.store import intake, tables
from gateway.store.database import Database
from gateway.store.intake import Arrival, Arrived, Caller, Raced
from gateway.store.spool import Spool


def test_the_same_uid_in_two_series_at_once(database: Database, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "scp")
    arrivals: list[tuple[Arrival, bytes, str]] = []
    start = threading.Barrier(6)

    def receive(number: int) -> None:
        caller = Caller(str(uuid.uuid4()), f"SCANNER{number}", "ATHANOR", "127.0.0.1")
        content = f"bytes of sender {number}".encode()
        one = header(1, series_uid=f"2.25.10{number % 2}", sop_instance_uid="2.25.99")
        start.wait()
        file = receive_file(spool, one.series_instance_uid, one.sop_instance_uid, content)
        while True:
            try:
                with database.write() as connection:
                    intake.open_associations(connection, [caller], "scp-0")
                    (arrival,) = intake.record_instances(connection, [Arrived(one, file, caller)], judge_after_s=0.0)
                break
            except Raced:
                continue
        arrivals.append((arrival, content, file.path))

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(arrival.value for arrival, _, _ in arrivals) == ["conflict"] * 5 + ["new"]
    kept = {spool.path(path).read_bytes() for _, _, path in arrivals}
    assert kept == {b"DICM" + content for _, content, _ in arrivals}
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.instance)).scalar_one() == 1
        assert connection.execute(sa.select(tables.series.c.instances)).scalars().all() == [1]
