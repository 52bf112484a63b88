"""What broken and hostile senders send: refused with the status that says why, kept aside, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from behaviour import Node, WriteSeries
from raw_store import encoded, store
from small_series import instance_uids, series_uid


@pytest.fixture
def spool(node: Node) -> Path:
    return node.gateway.settings.spool_dir


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# what the data set says instead, which part of its bytes is sent, the answer, words of the reason
_REFUSED: list[tuple[dict[str, str], slice, int, str]] = [
    ({}, slice(1001, None), 0xC000, "expected"),
    ({}, slice(0, -1000), 0xC000, "(7FE0,0010)"),
    ({"SOPInstanceUID": "1.2.3.99"}, slice(None), 0xA900, "found 1.2.3.99 in the data set"),
    ({"SOPInstanceUID": "../../../../tmp/evil"}, slice(None), 0xA900, "characters that are no UID"),
    ({"SeriesInstanceUID": "../../evil"}, slice(None), 0xA900, "SeriesInstanceUID: found 10 characters"),
]


def test_what_cannot_be_taken_is_refused_with_its_reason_and_kept_aside(
    node: Node, series: WriteSeries, spool: Path
) -> None:
    (path,) = series(1)
    (uid,) = instance_uids([path])
    before = files_of(spool)
    every = [encoded(path, **changes)[part] for changes, part, _, _ in _REFUSED]
    for sent, (_, _, status, _) in zip(every, _REFUSED, strict=True):
        answer, comment = store(node.gateway.port, sent, uid, "BROKEN")
        assert (answer, bool(comment)) == (status, True)
    rows = node.status()["quarantine"][: len(every)][::-1]
    for row, sent, (_, _, status, words) in zip(rows, every, _REFUSED, strict=True):
        assert (row["status"], row["calling_ae_title"]) == (status, "BROKEN")
        assert words in row["reason"]
        assert (spool / row["path"]).read_bytes().endswith(sent)
    assert files_of(spool) - before == {spool / row["path"] for row in rows}
    assert node.detail(series_uid([path]))["state"] == ""


def test_a_request_for_a_path_writes_nothing_anywhere(node: Node, series: WriteSeries, spool: Path) -> None:
    (path,) = series(1)
    before = files_of(node.gateway.folder.parent)
    answer, comment = store(node.gateway.port, encoded(path), "../../../../../../tmp/evil")
    assert answer == 0x0117
    assert "not a UID" in comment
    # the database and its log are written at all times
    assert {file for file in files_of(node.gateway.folder.parent) - before if "sqlite" not in file.name} == set()
    assert not Path("/tmp/evil.dcm").exists()
    assert not Path("/tmp/evil").exists()


def test_a_good_series_comes_back_beside_a_bad_one_in_the_same_association(node: Node, series: WriteSeries) -> None:
    good, bad = series(4), series(1)
    broken = bad[0].with_name("broken.dcm")
    content = bad[0].read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    report = node.gateway.send([good[0], broken, *good[1:]])
    statuses = [outcome.status for outcome in report.outcomes]
    assert statuses == [0x0000, 0xC000, 0x0000, 0x0000, 0x0000]
    node.succeeded(series_uid(good))
    node.assert_came_back_once(good)
