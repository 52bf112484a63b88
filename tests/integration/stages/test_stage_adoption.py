"""What a crash of the SCP leaves in the spool: files without rows, half written files, and files that are damaged."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from small_series import instance_uids
from stage_line import Line, Series, on_sqlite

from gateway.stages.adopt import adopt_orphans
from gateway.store import reports, tables


def lose_rows(line: Line) -> None:
    """As if the database had been restored from a backup made before."""
    line.spool.look_everywhere()
    with line.database.write() as connection:
        for table in (tables.event, tables.instance, tables.series, tables.study, tables.association, tables.outbox):
            connection.execute(sa.delete(table))


def adopt(line: Line) -> int:
    return adopt_orphans(line.database, line.spool, judge_after_s=0.02)


def rows_by_path(line: Line) -> dict[str, dict[str, object]]:
    """What is known of each file, but for numbers that are drawn anew and the time."""
    drawn = {"id", "series_id", "association_id", "received_at"}
    with line.database.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(sa.select(tables.instance))]
    return {row["path"]: {name: value for name, value in row.items() if name not in drawn} for row in rows}


def received(line: Line) -> list[Path]:
    return sorted((line.spool.folder / "received").rglob("*.dcm"))


def test_files_without_rows_get_them_back_and_become_a_result(line: Line, series: Series) -> None:
    paths = series(4)
    assert line.send(paths).is_delivered
    before = rows_by_path(line)
    lose_rows(line)
    assert adopt(line) == 4
    assert rows_by_path(line) == before
    line.assemble()
    line.route()
    line.process()
    detail = line.detail()
    assert detail["calling_ae_title"] == "SCANNER", "the file remembers who sent it"
    assert "fallback" in detail["evidence"]["signals"], "nobody says that the sender had ended"
    assert detail["jobs"][0]["state"] == "SUCCEEDED"


def test_a_second_start_finds_nothing_to_do(line: Line, series: Series) -> None:
    assert line.send(series(3)).is_delivered
    lose_rows(line)
    assert adopt(line) == 3
    known = line.detail()
    assert adopt(line) == 0
    assert line.detail()["instances"] == known["instances"] == 3
    assert line.count(tables.association) == 1


def test_a_row_that_a_crash_left_without_its_digest_gets_it(line: Line, series: Series) -> None:
    assert line.send(series(3)).is_delivered
    before = rows_by_path(line)
    with line.database.write() as connection:
        connection.execute(sa.update(tables.instance).values(sha256=""))
    for number, path in enumerate(received(line)):
        (line.spool.folder / "incoming" / line.spool.process / f"{number}.part").hardlink_to(path)
    assert adopt(line) == 0, "they have rows"
    assert rows_by_path(line) == before
    assert not list(line.spool.pending(line.spool.process))


@on_sqlite
def test_the_sender_may_send_again_what_was_adopted(line: Line, series: Series) -> None:
    paths = series(3)
    assert line.send(paths).is_delivered
    lose_rows(line)
    adopt(line)
    assert line.send(paths).is_delivered
    assert line.count(tables.instance) == 3
    assert line.count(tables.quarantine) == 0
    assert len(received(line)) == 3


def test_an_adopted_instance_of_a_known_series_is_a_late_one(line: Line, series: Series) -> None:
    paths = series(4)
    assert line.send(paths).is_delivered
    line.assemble()
    with line.database.write() as connection:
        (last,) = instance_uids(paths[-1:])
        connection.execute(sa.delete(tables.instance).where(tables.instance.c.sop_instance_uid == last))
        connection.execute(sa.update(tables.series).values(instances=3))
    line.spool.look_everywhere()
    assert adopt(line) == 1
    detail = line.detail()
    assert (detail["state"], detail["revision"], detail["instances"]) == ("RECEIVING", 2, 4)


@on_sqlite
def test_what_was_half_written_is_removed(line: Line, series: Series) -> None:
    half = line.spool.folder / "incoming" / "scp" / "7.part"
    half.write_bytes(b"\0" * 100)
    assert adopt(line) == 0
    assert not half.exists()


@on_sqlite
def test_a_damaged_file_is_reported_once_and_left_and_the_others_are_adopted(line: Line, series: Series) -> None:
    assert line.send(series(3)).is_delivered
    lose_rows(line)
    damages = {
        "empty.dcm": b"",
        "noise.dcm": bytes(range(256)) * 4,
        "half.dcm": received(line)[0].read_bytes()[:2000],
        "meta.dcm": received(line)[0].read_bytes()[:200],
        "without-uid.dcm": received(line)[0].read_bytes()[:400],
    }
    for name, content in damages.items():
        (received(line)[0].parent / name).write_bytes(content)
    assert adopt(line) == 3
    with line.database.read() as connection:
        rows = reports.latest_quarantine(connection, 100)
    assert {Path(row["path"]).name for row in rows} == set(damages)
    assert all("without a row" in row["reason"] and "left where it is" in row["reason"] for row in rows)
    assert adopt(line) == 0
    assert line.count(tables.quarantine) == len(damages)
    assert {path.name: path.read_bytes() for path in received(line) if path.name in damages} == damages
    assert line.detail()["instances"] == 3


@on_sqlite
def test_a_file_that_the_disk_does_not_give_is_tried_again_at_the_next_start(line: Line, series: Series) -> None:
    paths = series(2)
    assert line.send(paths).is_delivered
    lose_rows(line)
    broken, content = received(line)[0], received(line)[0].read_bytes()
    broken.unlink()
    broken.mkdir()  # reading it fails with an error of the operating system, for root as for anybody
    assert adopt(line) == 1
    broken.rmdir()
    broken.write_bytes(content)
    line.spool.look_everywhere()
    assert adopt(line) == 1
    assert line.detail()["instances"] == 2
