"""What is old and has reached everybody goes, rows first; what anybody still needs stays, whatever its age."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from stage_line import Line, MakePacs, Series, Start, destination, on_sqlite

from gateway.settings.line import Retention
from gateway.stages.adopt import adopt_orphans
from gateway.stages.retain import Retain, limits_of
from gateway.store import deliveries, retention, routing, tables
from gateway.store.database import now

DAY_S = 86_400.0
SHORT = Retention(files_days=1, failed_days=5, quarantine_days=2, history_days=10, log_days=3)


def age(line: Line, days: float) -> None:
    """Everything happened so much longer ago."""
    columns = [
        tables.series.c.first_received_at, tables.series.c.last_received_at, tables.series.c.purged_at,
        tables.job.c.finished_at, tables.delivery.c.finished_at, tables.quarantine.c.at, tables.removal.c.at,
        tables.association.c.ended_at, tables.heartbeat.c.at,
    ]  # fmt: skip
    with line.database.write() as connection:
        for column in columns:
            connection.execute(sa.update(column.table).values({column: column - days * DAY_S}))


def retain(line: Line, settings: Retention = SHORT) -> None:
    """Pass after pass, until there is nothing to do."""
    stage = Retain(line.database, line.settings.spool_dir, settings)
    while stage.one_pass():
        pass


def files(line: Line) -> list[Path]:
    """What lies in the spool."""
    folders = [line.settings.spool_dir / name for name in ("received", "derived", "quarantine")]
    return [file for folder in folders for file in folder.rglob("*") if file.is_file()]


def delivered(start: Start, make_pacs: MakePacs, series: Series) -> tuple[Line, list[Path]]:
    """A line of which a series went all the way."""
    line = start(pacs=destination(make_pacs().port))
    paths = series(3)
    assert line.run(paths)["jobs"][0]["deliveries"][0]["state"] == "DELIVERED"
    return line, paths


def test_a_delivered_series_loses_its_files_then_its_history(start: Start, make_pacs: MakePacs, series: Series) -> None:
    line, _ = delivered(start, make_pacs, series)
    retain(line)
    assert len(files(line)) == 6, "it is young"
    age(line, 2)
    retain(line)
    assert line.count(tables.instance) == 0
    assert len(files(line)) == 6, "files follow their rows"
    age(line, 0.01)
    retain(line)
    assert files(line) == []
    assert line.count(tables.removal) == 0
    detail = line.detail()
    with line.database.write() as connection:
        delivery = detail["jobs"][0]["deliveries"][0]
        assert not deliveries.send_again(connection, delivery["id"], whole=True, give_up_s=60.0), "there is nothing"
    assert (detail["state"], detail["jobs"][0]["state"]) == ("ROUTED", "SUCCEEDED")
    assert detail["evidence"]
    assert line.count(tables.event) > 5
    made = line.scalar(sa.select(sa.func.min(tables.derived.c.sop_instance_uid)))
    with line.database.read() as connection:
        assert routing.is_derived(connection, made), "the loop guard still knows its own"
    age(line, 11)
    retain(line)
    for table in (tables.series, tables.study, tables.job, tables.derived, tables.delivery, tables.event):
        assert line.count(table) == 0, table.name
    assert line.count(tables.association) == 0


_WAITING = sa.insert(tables.outbox).from_select(
    ["stage", "subject", "priority", "due_at", "created_at"],
    sa.select(sa.literal("deliver"), tables.delivery.c.id, 0, 0.0, 0.0),
)
_STAYS_FOR_DAYS: list[tuple[Any, float]] = [
    (sa.update(tables.delivery).values(state="QUEUED", finished_at=None), math.inf),
    (sa.update(tables.delivery).values(state="SENDING", finished_at=None), math.inf),
    (sa.update(tables.delivery).values(state="COMMITTING"), math.inf),
    (sa.update(tables.delivery).values(state="FAILED"), 5),
    (sa.update(tables.delivery).values(state="CANCELLED"), 1),
    (sa.update(tables.job).values(state="RUNNING"), math.inf),
    (sa.update(tables.job).values(state="FAILED"), 5),
    (sa.update(tables.series).values(state="RECEIVING"), math.inf),
    (sa.update(tables.series).values(state="COMPLETE"), math.inf),
    (sa.update(tables.series).values(state="FAILED"), 5),
    (_WAITING, math.inf),
]


def test_nothing_goes_that_somebody_still_needs(start: Start, make_pacs: MakePacs, series: Series) -> None:
    line, _ = delivered(start, make_pacs, series)
    for change, days in _STAYS_FOR_DAYS:
        for age_days, goes in ((min(days, 1000) - 0.1, False), (min(days, 1000) + 0.1, days < 1000)):
            with line.database.engine.connect() as connection:
                connection.execute(change)
                for column in (
                    tables.series.c.last_received_at, tables.job.c.finished_at, tables.delivery.c.finished_at,
                ):  # fmt: skip
                    connection.execute(sa.update(column.table).values({column: column - age_days * DAY_S}))
                found = retention.purgeable_series(connection, limits_of(SHORT), 10)
                connection.rollback()
            assert bool(found) is goes, (str(change), change.compile().params, age_days)
    uid = line.scalar(sa.select(sa.func.min(tables.instance.c.sop_instance_uid)))
    asked = {
        "id": "c", "transaction_uid": "2.25.9", "calling_ae_title": "CT", "called_ae_title": "US", "address": "::1",
        "instances": [["1.2", uid]], "state": "PENDING", "attempt": 0, "not_before": 0.0, "requested_at": 0.0,
        "give_up_at": 0.0,
    }  # fmt: skip
    age(line, 1000)
    with line.database.write() as connection:
        connection.execute(sa.insert(tables.commitment).values(asked))
        assert retention.purgeable_series(connection, limits_of(SHORT), 10) == [], "a peer asked whether we keep it"
        connection.execute(sa.update(tables.commitment).values(state="REPORTED", instances=[]))
        assert len(retention.purgeable_series(connection, limits_of(SHORT), 10)) == 1


def test_with_zero_days_everything_stays(start: Start, make_pacs: MakePacs, series: Series) -> None:
    line, _ = delivered(start, make_pacs, series)
    age(line, 10_000)
    retain(line, Retention(files_days=0, failed_days=0, quarantine_days=0, history_days=0, log_days=0))
    assert (line.count(tables.instance), line.count(tables.association)) == (3, 1)


def test_a_late_instance_of_a_series_that_is_gone_is_a_new_revision_of_it_alone(
    start: Start, make_pacs: MakePacs, series: Series
) -> None:
    line, paths = delivered(start, make_pacs, series)
    age(line, 2)
    retain(line)
    assert line.send(paths[:2]).is_delivered, "the same bytes, while the old files wait for their end"
    age(line, 0.01)
    retain(line)
    assert len([file for file in files(line) if "received" in file.parts]) == 2, "they are wanted again"
    line.assemble()
    detail = line.detail()
    assert (detail["revision"], detail["instances"], detail["purged_at"]) == (2, 2, None)
    assert detail["jobs"][0]["superseded"]
    with line.database.read() as connection:
        for path in connection.execute(sa.select(tables.instance.c.path)).scalars():
            assert pydicom.dcmread(line.spool.path(path)).SeriesInstanceUID


def test_what_is_about_to_go_is_not_received_a_second_time(start: Start, make_pacs: MakePacs, series: Series) -> None:
    line, _ = delivered(start, make_pacs, series)
    age(line, 2)
    retain(line)
    assert len(files(line)) == 6
    line.spool.look_everywhere()
    assert adopt_orphans(line.database, line.spool, judge_after_s=0.02) == 0
    assert line.count(tables.instance) == 0
    age(line, 0.01)
    retain(line)
    assert files(line) == []


def test_a_file_that_was_written_anew_under_the_name_of_one_that_went_stays(
    start: Start, make_pacs: MakePacs, series: Series
) -> None:
    line, paths = delivered(start, make_pacs, series)
    age(line, 2)
    retain(line)
    # killed after the files were deleted and before their notes were
    for file in files(line):
        file.unlink()
    assert line.send(paths).is_delivered
    with line.database.write() as connection:
        connection.execute(sa.delete(tables.instance))  # as if no row had come yet
    age(line, 0.01)
    retain(line)
    assert len(files(line)) == 3
    assert line.count(tables.removal) == 0


def test_what_was_refused_goes_by_its_own_age(start: Start, series: Series, tmp_path: Path) -> None:
    line = start()
    (path,) = series(1)
    line.send([path])
    kept = line.settings.spool_dir / "quarantine" / "odd.dcm"
    shutil.copy(path, kept)
    with line.database.write() as connection:
        connection.execute(
            sa.insert(tables.quarantine).values(
                at=now(), status=0xC000, reason="odd", calling_ae_title="A", address="::1", path="quarantine/odd.dcm"
            )
        )
    age(line, 1.9)
    retain(line)
    assert line.count(tables.quarantine) == 1
    age(line, 0.2)
    retain(line)
    age(line, 0.01)
    retain(line)
    assert line.count(tables.quarantine) == 0
    assert not kept.exists()


def test_what_would_go_is_said_without_its_going(start: Start, make_pacs: MakePacs, series: Series) -> None:
    line, _ = delivered(start, make_pacs, series)
    age(line, 2)
    limits = retention.Limits(DAY_S, DAY_S, DAY_S, DAY_S, DAY_S)
    with line.database.read() as connection:
        due = retention.due(connection, limits)
    assert (due.series, due.instances, due.quarantined, due.history) == (1, 3, 0, 0)
    assert due.size_bytes == sum(file.stat().st_size for file in files(line))
    assert line.count(tables.instance) == 3


_KILLED = """
    import os, signal, sys
    from pathlib import Path
    from gateway.settings.line import Retention
    from gateway.stages.retain import Retain, limits_of
    from gateway.store.database import Database

    # dies at the nth deletion in the spool: any place between the first note and the last
    left = int(sys.argv[3])
    def count(event, arguments):
        global left
        if event in ("os.remove", "shutil.rmtree", "os.rmdir"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    stage = Retain(Database(sys.argv[1]), Path(sys.argv[2]), Retention(files_days=1))
    while stage.one_pass():
        pass
"""


@on_sqlite
@pytest.mark.parametrize("nth", [1, 2, 4, 5])
def test_killed_at_any_deletion_it_goes_on_where_it_was(
    start: Start, make_pacs: MakePacs, series: Series, nth: int
) -> None:
    line, _ = delivered(start, make_pacs, series)
    age(line, 2)
    retain(line)
    age(line, 0.01)
    command = [sys.executable, "-c", textwrap.dedent(_KILLED), str(line.database.url), str(line.settings.spool_dir)]
    assert subprocess.run([*command, str(nth)], env=os.environ, check=False).returncode == -signal.SIGKILL
    line.spool.look_everywhere()
    assert adopt_orphans(line.database, line.spool, judge_after_s=0.02) == 0
    retain(line)
    assert files(line) == []
    assert line.count(tables.removal) == 0
