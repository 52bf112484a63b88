"""The receive stage behind a real storage SCP: what is kept, and what is refused with which status and which words."""

from __future__ import annotations

import threading
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from raw_store import encoded, store
from small_series import instance_uids
from stage_line import Line, Series, Start, on_sqlite

from gateway.store import reports, tables

# SH has 16 characters, LO 64, DA 8: information systems and technologists have more
_TOO_LONG: list[tuple[str, object]] = [
    ("AccessionNumber", "ACC-2026-0000123456789"),
    ("SeriesDescription", "T2 TSE SAG " * 12),
    ("StudyDescription", "spine " * 30),
    ("PatientID", "P" * 200),
    ("PatientName", "Doe^" + "Jane " * 100),
    ("StudyDate", "2026-11-21 10:00"),
    ("Modality", "MAGNETIC RESONANCE"),
]
_STRANGE: list[tuple[str, object]] = [
    ("SeriesDescription", "T2\0TSE"),
    ("InstanceNumber", "99999999999"),
    ("SeriesNumber", "-1"),
    ("DiffusionBValue", float("nan")),
    ("ImagePositionPatient", ["1e308", "1e308", "1e308"]),
    ("ImageOrientationPatient", ["1e200", "1e200", "1e200", "1e200", "-1e200", "1e200"]),
]


def quarantine(line: Line) -> list[dict[str, object]]:
    line.settle()
    with line.database.read() as connection:
        return reports.latest_quarantine(connection, 100)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_refused_and_kept(line: Line, status: int, words: str, sent: bytes) -> None:
    """One quarantined copy with its reason, and nothing that a stage would find."""
    (row,) = quarantine(line)
    assert row["status"] == status
    assert words in str(row["reason"])
    assert sent in line.spool.path(str(row["path"])).read_bytes()
    assert line.count(tables.instance) == line.count(tables.series) == 0
    assert not files_below(line.spool.folder / "received")
    assert not files_below(line.spool.folder / "incoming")


@on_sqlite
def test_bytes_that_are_no_data_set_are_not_understood(line: Line) -> None:
    sent = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    status, comment = store(line.scp.port, sent, "1.2.3.4")
    assert status == 0xC000
    assert comment
    assert_refused_and_kept(line, 0xC000, "expected", sent)


@on_sqlite
def test_a_data_set_cut_off_on_the_way_is_not_understood(line: Line, series: Series) -> None:
    (path,) = series(1)
    sent = encoded(path)[:-1000]
    assert store(line.scp.port, sent, *instance_uids([path]))[0] == 0xC000
    assert_refused_and_kept(line, 0xC000, "(7FE0,0010)", sent)


@on_sqlite
@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("SOPInstanceUID", "1.2.3.99", "found 1.2.3.99 in the data set"),
        ("SOPInstanceUID", "../../../../etc/passwd", "characters that are no UID"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", "expected 1.2.840.10008.5.1.4.1.1.4"),
        ("SeriesInstanceUID", "../../evil", "SeriesInstanceUID: found 10 characters that are no UID"),
        ("StudyInstanceUID", "", "StudyInstanceUID: found none"),
    ],
)
def test_a_data_set_that_contradicts_its_request_is_refused(
    line: Line, series: Series, keyword: str, value: str, words: str
) -> None:
    (path,) = series(1)
    sent = encoded(path, **{keyword: value})
    assert store(line.scp.port, sent, *instance_uids([path]))[0] == 0xA900
    assert_refused_and_kept(line, 0xA900, words, sent)


@on_sqlite
def test_a_request_for_a_path_instead_of_a_uid_writes_nothing_anywhere(
    line: Line, series: Series, tmp_path: Path
) -> None:
    (path,) = series(1)
    before = files_below(tmp_path)
    status, comment = store(line.scp.port, encoded(path), "../../../../../tmp/evil")
    assert status == 0x0117
    assert "not a UID" in comment
    assert [found for found in files_below(tmp_path) if found not in before and "athanor" not in found.name] == []


@on_sqlite
def test_the_reserve_of_the_disk_is_never_touched(start: Start, series: Series) -> None:
    line = start(reserve_bytes=1 << 60)
    (path,) = series(1)
    status, comment = store(line.scp.port, encoded(path), *instance_uids([path]))
    assert status == 0xA700
    assert "free bytes" in comment
    assert quarantine(line) == [], "there is no room for a copy, and no row for each of thousands"
    assert not files_below(line.spool.folder)


def test_the_same_instances_again_are_a_success_and_nothing_new(line: Line, series: Series) -> None:
    paths = series(3)
    assert line.send(paths).is_delivered
    line.assemble()
    known = line.detail()
    assert line.send(paths).is_delivered
    assert line.detail() == known
    assert len(files_below(line.spool.folder / "received")) == 3


def test_the_same_instances_from_another_sender_are_no_conflict(line: Line, series: Series) -> None:
    paths = series(3)
    assert line.send(paths).is_delivered
    assert line.send(paths, "WORKSTATION").is_delivered
    assert quarantine(line) == []
    assert len(files_below(line.spool.folder / "received")) == 3
    assert line.detail()["instances"] == 3


def test_other_bytes_under_a_known_uid_are_kept_beside_and_shown(line: Line, series: Series) -> None:
    (path,) = series(1)
    (uid,) = instance_uids([path])
    first, other = encoded(path), encoded(path, ImageComments="edited afterwards")
    for sent in (first, other, other):
        assert store(line.scp.port, sent, uid)[0] == 0x0000
    stored = line.scalar(sa.select(tables.instance.c.path))
    assert line.spool.path(stored).read_bytes().endswith(first), "the first is the one that is used"
    rows = quarantine(line)
    assert {row["path"] for row in rows} == {rows[0]["path"]}, "the same bytes a third time are no third file"
    assert line.spool.path(str(rows[0]["path"])).read_bytes().endswith(other)
    assert "the first is used" in str(rows[0]["reason"])
    assert rows[0]["calling_ae_title"] == "RAW"


def test_senders_that_interleave_fill_one_series(line: Line, series: Series) -> None:
    paths = series(12)
    senders = [
        threading.Thread(target=line.send, args=(part, f"SENDER{number}"))
        # each instance comes twice, at the same time, in different orders
        for number, part in enumerate((paths[::2], paths[1::2], paths[::-1]))
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    line.assemble()
    assert line.count(tables.series) == 1
    assert line.detail()["instances"] == 12
    assert len(files_below(line.spool.folder / "received")) == 12
    assert quarantine(line) == []
    line.route()
    line.route()
    (job,) = line.detail()["jobs"]
    assert job["state"] == "QUEUED"


@pytest.mark.parametrize("values", [_TOO_LONG, _STRANGE])
def test_values_that_the_standard_forbids_and_devices_send_are_taken(
    line: Line, series: Series, values: list[tuple[str, object]]
) -> None:
    for keyword, value in values:
        (path,) = series(1)
        answer = store(line.scp.port, encoded(path, **{keyword: value}), *instance_uids([path]))
        assert answer == (0x0000, ""), keyword
    line.assemble()
    line.route()
    for number, (keyword, _) in enumerate(values, 1):
        detail = line.detail(number)
        # nothing but Modality is asked by the rule
        assert detail["state"] == ("UNMATCHED" if keyword == "Modality" else "ROUTED"), (keyword, detail["reason"])


@on_sqlite
def test_what_is_stored_is_what_came(line: Line, series: Series) -> None:
    paths = series(2)
    assert line.send(paths).is_delivered
    with line.database.read() as connection:
        rows = connection.execute(sa.select(tables.instance.c.sop_instance_uid, tables.instance.c.path)).all()
    stored = {row.sop_instance_uid: line.spool.path(row.path) for row in rows}
    for path, uid in zip(paths, instance_uids(paths), strict=True):
        assert encoded(stored[uid]) == encoded(path)
        assert pydicom.dcmread(stored[uid]).file_meta.SourceApplicationEntityTitle == "SCANNER"
