"""Rules of several series: who waits for whom, what is made when the last has come, and what when it does not come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from several_series import RULES, write_models, write_series
from small_series import instance_uids, series_uid
from stage_line import Line, Start, on_sqlite

from gateway.dicom.provenance import own_identity
from gateway.domain.roles import Role
from gateway.domain.rules import Rule
from gateway.domain.states import SeriesState
from gateway.errors import ConfigurationError
from gateway.stages.interventions import Interventions
from gateway.stages.route import Route
from gateway.stages.sweep import sweep
from gateway.store import clock_step, outbox, reports, retention, routing, rulebook, tables, timeline
from gateway.store.candidates import NewCandidate
from gateway.store.new_jobs import NewJob
from gateway.store.people import Somebody
from gateway.store.rules_file import parse_rules

Write = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def two_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("two-inputs"))


@pytest.fixture
def line(start: Start, two_inputs: Path) -> Line:
    """A line with the rules for both series and for T2W alone."""
    made = start()
    made.settings = made.settings.model_copy(update={"weights_dir": two_inputs})
    apply(made, parse_rules(RULES))
    return made


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes series of one study, each in a folder of its own."""
    numbers = iter(range(100))
    return lambda contrast, **options: write_series(tmp_path / f"series-{next(numbers)}", contrast, **options)


def apply(line: Line, rules: tuple[Rule, ...]) -> None:
    rulebook.require_usable(rules, line.settings)
    with line.database.write() as connection:
        rulebook.apply(connection, rules, author="test", reason="")


def receive(line: Line, *series: list[Path]) -> None:
    """Send series and route them."""
    for paths in series:
        assert line.send(paths).is_delivered
    line.assemble()
    line.route()


def of(line: Line, paths: list[Path]) -> dict[str, Any]:
    """What is known of a series."""
    with line.database.read() as connection:
        series_id = reports.find_series(connection, series_uid(paths))
        assert series_id is not None
        return reports.series_detail(connection, series_id)


def told(line: Line, paths: list[Path]) -> list[str]:
    with line.database.read() as connection:
        return [event.what for event in timeline.of_series(connection, of(line, paths)["id"])]


def end_waiting(line: Line) -> None:
    """The time of every rule that waits is over, and the clock has looked."""
    with line.database.write() as connection:
        connection.execute(sa.update(tables.candidate).values(give_up_at=1.0))
    sweep(line.database, lambda _: 1)


def test_the_last_role_to_be_filled_makes_the_one_job(line: Line, write: Write) -> None:
    t1, t2 = write("T1W"), write("T2W")
    receive(line, t1)
    waits = of(line, t1)
    assert (waits["state"], waits["jobs"]) == ("WAITING", [])
    assert waits["reason"].startswith("waits for T2W of the same study until 20")
    assert waits["reason"].endswith(" UTC (rule t1t2-to-stir)")
    with line.database.read() as connection:
        assert not reports.is_finished(connection, waits["id"]), "it looks finished"
    receive(line, t2)
    for paths in (t1, t2):
        detail = of(line, paths)
        assert (detail["state"], detail["reason"]) == ("ROUTED", None)
        (job,) = detail["jobs"]
        assert (job["rule"], job["series_id"]) == ("t1t2-to-stir", of(line, t2)["id"])
        assert {one["role"]: one["series_id"] for one in job["inputs"]} == {
            "T1W": of(line, t1)["id"], "T2W": of(line, t2)["id"],
        }  # fmt: skip
        assert "job made" in told(line, paths)


@on_sqlite
def test_the_result_lies_on_the_grid_of_t2w_and_names_the_images_of_both(line: Line, write: Write) -> None:
    t1 = write("T1W", slices=4, spacing_mm=(4.4, 1.3, 1.3), origin_mm=(-12.2, -74.0, 84.0))
    t2 = write("T2W")
    receive(line, t2, t1)
    line.process()
    (job,) = of(line, t2)["jobs"]
    assert (job["state"], job["error"]) == ("SUCCEEDED", None)
    files = sorted((line.spool.folder / "derived" / job["id"]).rglob("*.dcm"))
    made = [pydicom.dcmread(file) for file in files]
    assert {ds.SeriesNumber for ds in made} == {401}
    sources = {str(pydicom.dcmread(path).SOPInstanceUID): pydicom.dcmread(path) for path in t2}
    for ds in made:
        of_t2, *of_t1 = (str(one.ReferencedSOPInstanceUID) for one in ds.SourceImageSequence)
        assert ds.ImagePositionPatient == sources[of_t2].ImagePositionPatient
        assert 1 <= len(of_t1) <= 2
        assert set(of_t1) <= set(instance_uids(t1))
        assert [one.SpatialLocationsPreserved for one in ds.SourceImageSequence] == ["YES"] + ["NO"] * len(of_t1)
        assert [one.SeriesInstanceUID for one in ds.ReferencedSeriesSequence] == [series_uid(t2), series_uid(t1)]
    named = {str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID) for ds in made}
    assert named == set(sources)


def test_a_partner_that_does_not_come_is_named_and_the_rules_behind_are_asked(line: Line, write: Write) -> None:
    t1, t2, alone = write("T1W"), write("T2W", seed=2), write("T1W", seed=3)
    receive(line, t2, alone)
    sweep(line.database, lambda _: 1)
    assert of(line, t2)["state"] == of(line, alone)["state"] == "WAITING", "it is not time yet"
    end_waiting(line)
    line.route()
    fell = of(line, t2)
    assert (fell["state"], [job["rule"] for job in fell["jobs"]]) == ("ROUTED", ["t2-to-stir"])
    gave_up, won = fell["selection"]["rules"]
    assert (gave_up["outcome"], gave_up["reason"], won["outcome"]) == ("gave-up", "T1W", "won")
    assert "gave up" in told(line, t2)
    ended = of(line, alone)
    assert (ended["state"], ended["jobs"]) == ("UNMATCHED", [])
    assert ended["reason"].startswith("rule t1t2-to-stir waited in vain for T2W of the same study")
    receive(line, t1)
    assert of(line, t1)["state"] == "WAITING", "series of other studies are no partners"


def test_a_partner_that_comes_after_that_still_finds_the_other(line: Line, write: Write) -> None:
    t1, t2 = write("T1W"), write("T2W")
    receive(line, t1)
    end_waiting(line)
    line.route()
    assert of(line, t1)["state"] == "UNMATCHED"
    receive(line, t2)
    assert {of(line, paths)["state"] for paths in (t1, t2)} == {"ROUTED"}
    assert of(line, t1)["jobs"] == of(line, t2)["jobs"]
    assert line.count(tables.job) == 1


def test_of_two_for_one_role_the_one_received_last_is_taken(line: Line, write: Write) -> None:
    first, again, t1 = write("T2W"), write("T2W", number=7), write("T1W")
    receive(line, first)
    receive(line, again)
    receive(line, t1)
    (job,) = of(line, t1)["jobs"]
    assert job["series_id"] == of(line, again)["id"]
    passed = of(line, first)
    assert (passed["state"], passed["jobs"]) == ("UNMATCHED", [])
    assert passed["reason"] == "rule t1t2-to-stir took another for T2W, received later"


def test_a_series_that_is_acquired_again_makes_another_job_with_the_same_partner(line: Line, write: Write) -> None:
    t1, t2, again = write("T1W"), write("T2W"), write("T1W", number=9)
    receive(line, t1)
    receive(line, t2)
    receive(line, again)
    jobs = of(line, t2)["jobs"]
    assert len(jobs) == 2
    taken = [{one["series_id"] for one in job["inputs"] if one["role"] == "T1W"}.pop() for job in jobs]
    assert taken == [of(line, t1)["id"], of(line, again)["id"]]
    assert not any(job["superseded"] for job in jobs)


def test_a_late_instance_supersedes_the_job_and_its_partner_waits_again(line: Line, write: Write) -> None:
    t1, t2 = write("T1W", slices=4), write("T2W", slices=4)
    receive(line, t1[:3])
    receive(line, t2)
    assert line.send(t1[3:]).is_delivered
    line.settle()
    (job,) = of(line, t2)["jobs"]
    assert (job["state"], job["superseded"]) == ("SUPERSEDED", True)
    sweep(line.database, lambda _: 1)
    assert (of(line, t1)["state"], of(line, t2)["state"]) == ("RECEIVING", "WAITING")
    assert of(line, t2)["reason"].startswith("waits for T1W")
    line.assemble()
    line.route()
    _, job = of(line, t2)["jobs"]
    assert {one["role"]: one["revision"] for one in job["inputs"]} == {"T1W": 2, "T2W": 1}
    assert {of(line, paths)["state"] for paths in (t1, t2)} == {"ROUTED"}


@on_sqlite
def test_a_late_instance_of_a_partner_while_the_job_runs_leaves_no_result_of_the_old(line: Line, write: Write) -> None:
    t1, t2 = write("T1W", slices=4), write("T2W", slices=3)
    receive(line, t1[:3])
    receive(line, t2)

    def late(spec: Any) -> Any:
        assert line.send(t1[3:]).is_delivered
        return line.load(spec)

    line.process(late)
    assert of(line, t2)["jobs"][0]["state"] == "SUPERSEDED"
    assert line.count(tables.derived) == 0
    line.assemble()
    line.route()
    line.process()
    assert [job["state"] for job in of(line, t2)["jobs"]] == ["SUPERSEDED", "SUCCEEDED"]


def test_two_that_are_routed_at_once_make_one_job(line: Line, write: Write) -> None:
    """In each of many studies both halves come to their transaction in the same moment, and each twice."""
    studies = range(10, 16)
    for seed in studies:
        for contrast in ("T1W", "T2W"):
            assert line.send(write(contrast, seed=seed, slices=1)).is_delivered
    line.assemble()
    stage = Route(line.database, line.spool, own_identity(line.settings), line.settings.models_dir, 3)
    subjects = line.announced(outbox.ROUTE)
    together = threading.Barrier(4)

    def work(mine: list[str]) -> None:
        for subject in mine:
            together.wait(20)
            stage(subject)

    threads = [threading.Thread(target=work, args=(subjects[half::2],)) for half in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert line.count(tables.job) == len(studies)
    assert line.count(tables.job_input) == 2 * len(studies)
    states = sa.select(tables.series.c.state).distinct()
    assert line.scalar(states) == "ROUTED"


def test_a_crash_in_the_transaction_leaves_nothing_and_the_next_attempt_all(line: Line, write: Write) -> None:
    t1, t2 = write("T1W"), write("T2W")
    receive(line, t1)
    assert line.send(t2).is_delivered
    line.assemble()

    def die() -> None:
        """What is in the transaction goes, as with the connection of a process that dies."""
        with line.database.write() as connection:
            to_route = routing.series_to_route(connection, of(line, t2)["id"], 1)
            assert to_route is not None
            job = NewJob(connection.execute(sa.select(tables.candidate.c.rule_version_id)).scalar_one(), "p", {}, (), 0)
            routing.end_routing(
                connection, to_route, SeriesState.WAITING, reason=None, selection=None, attributes=None, jobs=(),
                max_attempts=3, roles=[NewCandidate(job, "T2W", ("T2W", "T1W"), 60.0)],
            )  # fmt: skip
            assert connection.execute(sa.select(sa.func.count()).select_from(tables.job)).scalar_one() == 1
            raise InterruptedError

    with pytest.raises(InterruptedError):
        die()
    assert (of(line, t1)["state"], of(line, t2)["state"]) == ("WAITING", "COMPLETE")
    assert line.count(tables.job) == 0
    line.route()
    assert line.count(tables.job) == 1
    assert {of(line, paths)["state"] for paths in (t1, t2)} == {"ROUTED"}


@on_sqlite
def test_a_series_whose_contrast_does_not_fit_its_role_is_refused_with_the_role(line: Line, write: Write) -> None:
    def slow(ds: pydicom.Dataset) -> None:
        ds.RepetitionTime = "1500"

    receive(line, write("T1W", edit=slow), write("T2W"))
    line.process()
    (job,) = line.detail()["jobs"]
    assert job["state"] == "REFUSED"
    assert job["error"].startswith("T1W: tr-ms: found 1500; expected 300 to 900")


def _elsewhere(ds: pydicom.Dataset) -> None:
    ds.FrameOfReferenceUID = "2.25.99"


def _coronal(ds: pydicom.Dataset) -> None:
    ds.ImageOrientationPatient = [0.17365, 0.98481, 0.0, 0.0, 0.0, -1.0]
    index = int(ds.InstanceNumber) - 1
    ds.ImagePositionPatient = [-10.0 - 4.4 * index * -0.98481, -70.0 - 4.4 * index * 0.17365, 80.0]


@on_sqlite
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"edit": _elsewhere}, "frame-of-reference: found T1W with another FrameOfReferenceUID; expected that of T2W"),
        ({"edit": _coronal}, "planes: found T1W tilted by 10.0 degrees; expected at most 5"),
        ({"origin_mm": (40.0, -70.0, 80.0)}, "overlap: found T1W that shows 0 of 3 slices; expected at least 80%"),
    ],
)
def test_series_that_cannot_be_laid_on_one_grid_are_refused_by_name(
    line: Line, write: Write, options: dict[str, Any], words: str
) -> None:
    receive(line, write("T1W", **options), write("T2W"))
    line.process()
    (job,) = line.detail()["jobs"]
    assert (job["state"], job["error"].partition("; acquire")[0].partition("; positions")[0]) == ("REFUSED", words)


def test_retention_keeps_what_waits_and_what_an_open_job_needs(line: Line, write: Write) -> None:
    limits = retention.Limits(files_s=1.0, failed_s=1.0, quarantine_s=None, history_s=1.0, log_s=None)
    t1, t2 = write("T1W"), write("T2W")

    def may_go() -> list[int]:
        with line.database.write() as connection:
            connection.execute(sa.update(tables.series).values(last_received_at=1.0))
            connection.execute(sa.update(tables.job).values(finished_at=1.0))
            connection.execute(sa.update(tables.delivery).values(finished_at=1.0))
            return retention.purgeable_series(connection, limits, 10)

    receive(line, t1)
    assert may_go() == []
    receive(line, t2)
    assert may_go() == []
    line.process()
    assert may_go() == [], "its result is not delivered"
    with line.database.write() as connection:
        connection.execute(sa.update(tables.delivery).values(state="DELIVERED"))
        connection.execute(sa.delete(tables.outbox))
    ids = may_go()
    assert sorted(ids) == [1, 2]
    (job,) = of(line, t2)["jobs"]
    with line.database.write() as connection:
        assert retention.keep_files(connection, job["id"])
        assert retention.purge(connection, of(line, t1)["id"], limits, lambda _: 1) == 3
        assert not retention.keep_files(connection, job["id"]), "it could not run again"
        assert retention.purge(connection, of(line, t2)["id"], limits, lambda _: 1) == 3
        connection.execute(sa.update(tables.series).values(purged_at=1.0))
        assert retention.forget_history(connection, limits, 10) == 1, "the series of the grid goes first"
        assert retention.forget_history(connection, limits, 10) == 1
    assert line.count(tables.candidate) == line.count(tables.job_input) == line.count(tables.series) == 0


def test_retry_and_ask_again_work_and_by_hand_says_why_not(line: Line, write: Write) -> None:
    wishes = Interventions(line.database, line.spool, line.settings, Somebody("ann", Role.ADMINISTRATOR))
    t1, t2 = write("T1W"), write("T2W")
    receive(line, t1)
    end_waiting(line)
    line.route()
    assert of(line, t1)["state"] == "UNMATCHED"
    assert wishes.route(of(line, t1)["id"]).is_done
    line.route()
    assert of(line, t1)["state"] == "WAITING", "the rule may have it again"
    receive(line, t2)
    assert wishes.cancel(of(line, t1)["id"]).is_done
    assert of(line, t2)["jobs"][0]["state"] == "CANCELLED"
    assert wishes.retry(of(line, t1)["id"]).is_done
    line.process()
    assert of(line, t2)["jobs"][0]["state"] == "SUCCEEDED"
    with pytest.raises(ConfigurationError, match=r"inputs: found none; expected T1W, T2W"):
        wishes.run(of(line, t2)["id"], "t1t2-to-stir", ["pacs"])
    assert wishes.route(of(line, t2)["id"]).is_done
    line.route()
    assert (of(line, t2)["state"], line.count(tables.job)) == ("ROUTED", 1), "the same series make no second job"


def test_a_stepped_clock_moves_the_end_of_waiting(line: Line, write: Write) -> None:
    receive(line, write("T1W"))
    before = line.scalar(sa.select(tables.candidate.c.give_up_at))
    with line.database.write() as connection:
        clock_step.move_times(connection, 3600.0)
    assert line.scalar(sa.select(tables.candidate.c.give_up_at)) == pytest.approx(before + 3600.0)


def test_a_rule_that_changed_takes_over_what_waited_for_the_old_one(line: Line, write: Write) -> None:
    t1, t2 = write("T1W"), write("T2W")
    receive(line, t1)
    both, alone = parse_rules(RULES)
    apply(line, (replace(both, wait_limit_s=90.0), alone))
    receive(line, t2)
    assert {of(line, paths)["state"] for paths in (t1, t2)} == {"WAITING"}, "candidates belong to a version"
    with line.database.write() as connection:
        assert routing.route_again(connection, of(line, t1)["id"], by="ann")
    line.route()
    assert {of(line, paths)["state"] for paths in (t1, t2)} == {SeriesState.ROUTED}
    assert line.count(tables.candidate) == 2
