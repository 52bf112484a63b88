"""Series as they really come: late, twice, from two sides, changed, or such that nobody can use them."""

from __future__ import annotations

import threading
from pathlib import Path

from behaviour import Node, WriteSeries, stopped
from pydicom.dataset import Dataset
from raw_store import encoded, store
from small_series import AXIAL, instance_uids, series_uid


def test_a_late_instance_makes_a_second_result_and_leaves_the_first_as_it_was(node: Node, series: WriteSeries) -> None:
    paths = series(6)
    uid = series_uid(paths)
    node.send(paths[:5])
    (job,) = node.succeeded(uid)["jobs"]
    ((first, files),) = node.results(paths).items()
    before = {file: file.read_bytes() for file in files}
    assert len(before) == 5
    node.send(paths[5:])
    detail = node.succeeded(uid, revision=2)
    assert (detail["state"], detail["revision"], detail["instances"]) == ("ROUTED", 2, 6)
    old, new = detail["jobs"]
    assert (old["id"], old["state"], old["superseded"]) == (job["id"], "SUCCEEDED", True)
    assert (new["state"], new["revision"], new["superseded"]) == ("SUCCEEDED", 2, False)
    results = node.results(paths)
    assert len(results.pop(first)) == 5
    ((_, later),) = results.items()
    assert len(later) == 6
    assert not set(later) & set(before), "other objects have other UIDs"
    assert {file: file.read_bytes() for file in before} == before
    assert "late instance" in [event.what for event in node.timeline(uid)]


def test_a_late_instance_while_the_job_waits_leaves_one_result(node: Node, series: WriteSeries) -> None:
    paths = series(6)
    uid = series_uid(paths)
    with stopped(node.pid("process")):
        node.send(paths[:5])
        node.wait_for("the job waits", lambda: node.job(uid)["state"] == "QUEUED")
        node.send(paths[5:])
        node.wait_for("the second job waits", lambda: len(node.detail(uid)["jobs"]) == 2)
    first, second = node.succeeded(uid, revision=2)["jobs"]
    assert (first["state"], first["attempt"], first["deliveries"]) == ("SUPERSEDED", 0, [])
    assert (second["state"], second["revision"]) == ("SUCCEEDED", 2)
    node.assert_came_back_once(paths)


def test_a_series_that_was_refused_for_a_missing_slice_is_done_when_the_slice_comes(
    node: Node, series: WriteSeries
) -> None:
    paths = series(5)
    uid = series_uid(paths)
    node.send([*paths[:2], *paths[3:]])
    (job,) = node.finished(uid)["jobs"]
    assert job["state"] == "REFUSED"
    assert job["error"].startswith("missing-slices: found a step of 8.80 mm; expected 4.40 mm")
    node.send(paths[2:3])
    refused, job = node.succeeded(uid, revision=2)["jobs"]
    assert (refused["superseded"], job["superseded"]) == (True, False)
    node.assert_came_back_once(paths)


def test_two_senders_that_interleave_make_one_series_and_one_job(node: Node, series: WriteSeries) -> None:
    paths = series(6)
    others = series(4)
    parts = [(paths[::2], "SCANNER"), (others, "SCANNER"), (paths[1::2], "WORKSTATION"), (paths[::-1], "ARCHIVE")]
    senders = [threading.Thread(target=node.send, args=part) for part in parts]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    detail = node.succeeded(series_uid(paths))
    assert (detail["revision"], detail["instances"], len(detail["jobs"])) == (1, 6, 1)
    assert "released" in detail["evidence"]["signals"]
    node.assert_came_back_once(paths)
    node.succeeded(series_uid(others))
    node.assert_came_back_once(others)


def test_what_was_sent_before_changes_nothing_and_what_differs_is_kept_beside_and_shown(
    node: Node, series: WriteSeries
) -> None:
    paths = series(3)
    uid = series_uid(paths)
    node.send(paths)
    done = node.succeeded(uid)
    quarantined = node.status()["counts"]["quarantined"]
    node.send(paths)
    node.send(paths, "WORKSTATION")
    changed = encoded(paths[0], ImageComments="edited on the workstation")
    (sop_instance_uid,) = instance_uids(paths[:1])
    assert store(node.gateway.port, changed, sop_instance_uid, "WORKSTATION") == (0x0000, "")
    assert node.succeeded(uid) == done
    node.assert_came_back_once(paths)
    status = node.status()
    assert status["counts"]["quarantined"] == quarantined + 1
    row = status["quarantine"][0]
    assert (row["status"], row["calling_ae_title"]) == (0x0000, "WORKSTATION")
    assert "the first is used, this one is kept beside it" in row["reason"]
    assert (node.gateway.settings.spool_dir / row["path"]).read_bytes().endswith(changed)


def _half(index: int, ds: Dataset) -> None:
    if index == 1:
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]


def _wider(index: int, ds: Dataset) -> None:
    if index >= 2:
        ds.PixelSpacing = [0.9, 0.9]


def test_a_series_that_cannot_be_used_says_why(node: Node, series: WriteSeries) -> None:
    refused = {
        "plane: found axial; expected sagittal": series(direction=AXIAL),
        "mixed-spacing: found Pixel Spacing that differ by 0.3": series(edit=_wider),
        "undecodable: ": series(edit=_half),
        "te-ms: found 12; expected 70 to 150": series(EchoTime="12"),
    }
    blocked = series(ImageType=["DERIVED", "PRIMARY", "M"])
    unmatched = series(Modality="CT")
    every: list[list[Path]] = [*refused.values(), blocked, unmatched]
    for paths in every:
        node.send(paths)
    for words, paths in refused.items():
        (job,) = node.finished(series_uid(paths))["jobs"]
        assert job["state"] == "REFUSED"
        assert words in job["error"]
        assert job["attempt"] == 1, "another attempt would end as this one did"
    detail = node.finished(series_uid(blocked))
    assert (detail["state"], detail["jobs"]) == ("BLOCKED", [])
    assert "Image Type is DERIVED" in detail["reason"]
    detail = node.finished(series_uid(unmatched))
    assert (detail["state"], detail["jobs"]) == ("UNMATCHED", [])
    assert detail["reason"] == "none of 5 rules matches"
    assert all(rule["outcome"] != "won" for rule in detail["selection"]["rules"])
    assert not any(node.results(paths) for paths in every)


def test_the_urgent_series_goes_before_those_that_wait(node: Node, series: WriteSeries) -> None:
    low = [series(3, "LOW") for _ in range(3)]
    urgent = series(3, "URGENT")
    waiting = [series_uid(paths) for paths in (*low, urgent)]
    first = series(24)
    node.send(first)
    # a worker that waits has already asked the broker for the next message; one that works has not
    node.wait_for("the worker works", lambda: node.job(series_uid(first))["state"] == "RUNNING")
    with stopped(node.pid("process")):
        for paths in (*low, urgent):
            node.send(paths)
        node.wait_for("their jobs wait", lambda: all(node.job(uid)["state"] == "QUEUED" for uid in waiting))
        node.wait_for("all are announced", lambda: not node.unannounced())
    started = {uid: node.succeeded(uid)["jobs"][0]["started_at"] for uid in waiting}
    assert min(waiting, key=lambda uid: started[uid]) == series_uid(urgent)
    node.succeeded(series_uid(first))
