"""What people do about a series: retry, resend, cancel, ask the rules again, run by hand; each with real stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage_line import Line, MakePacs, Series, Start, destination

from gateway.domain.roles import Role
from gateway.domain.rule_tables import rule_from_table
from gateway.errors import ConfigurationError
from gateway.stages.interventions import Interventions, offer
from gateway.store import destinations, people, rulebook, switches, timeline
from gateway.store.people import Somebody

ADA = Somebody("ada", Role.OPERATOR)


def ada(line: Line) -> Interventions:
    return Interventions(line.database, line.spool, line.settings, ADA, "10.1.2.3")


def happened(line: Line, series_id: int = 1) -> list[tuple[str, Any]]:
    """What the timeline says, and who did it."""
    with line.database.read() as connection:
        return [(event.what, event.detail.get("by")) for event in timeline.of_series(connection, series_id)]


def noted(line: Line) -> list[dict[str, Any]]:
    """The audit trail, newest first."""
    with line.database.read() as connection:
        return people.audit_trail(connection, 10)


def processed(line: Line, paths: list[Path]) -> None:
    """Take a series until its result waits to be sent."""
    assert line.send(paths).is_delivered
    line.assemble()
    line.route()
    line.process()


def can(line: Line) -> tuple[list[str], list[str], list[str]]:
    """What may be asked for: of the series, of its first job, of the job's first delivery."""
    detail = offer(line.detail())
    job = detail["jobs"][0]
    return detail["can"], job["can"], [word for one in job["deliveries"][:1] for word in one["can"]]


def test_what_waits_for_a_destination_goes_at_once_when_asked(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs = make_pacs(up=False)
    line = start(pacs=destination(pacs.port))
    processed(line, series())
    line.deliver()
    assert can(line) == (["route", "run"], [], ["now", "cancel"])
    pacs.start()
    with line.database.write() as connection:  # nobody would ask it for an hour
        connection.exec_driver_sql("UPDATE destination SET not_before = not_before + 3600")
        connection.exec_driver_sql("UPDATE delivery SET not_before = not_before + 3600")
    line.deliver()
    assert line.delivery()["state"] == "QUEUED"
    done = ada(line).resend(1)
    assert (done.is_done, done.destinations, done.words) == (True, ("pacs",), "will be sent again to: pacs")
    line.deliver()
    assert line.delivery()["state"] == "DELIVERED"
    assert ("asked for now", "ada") in happened(line)
    (note,) = noted(line)
    assert (note["who"], note["address"], note["what"]) == ("ada", "10.1.2.3", "sent results again")
    assert note["subject"] == line.detail()["uid"]
    assert can(line) == (["route", "run"], [], ["whole"])
    assert ada(line).resend(1, destination="pacs", whole=True).is_done
    line.deliver()
    assert len(pacs.accepted()) == 2 * len(set(pacs.accepted())) == 8


def test_what_is_held_says_so(line: Line, series: Series) -> None:
    processed(line, series())
    with line.database.write() as connection:
        destinations.hold(connection, "pacs", by="ada", reason="it is being moved")
    done = ada(line).resend(1)
    assert not done.is_done
    assert "pacs: held by ada" in done.words
    assert noted(line) == []


def test_a_lost_result_is_made_again(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port))
    processed(line, series())
    for file in results(line):
        file.unlink()
    line.deliver_until_ended()
    assert line.delivery()["state"] == "FAILED"
    assert can(line) == (["route", "run"], ["retry"], ["resend"])
    (job,) = line.detail()["jobs"]
    assert not ada(line).retry(1, job_id="another").is_done
    assert ada(line).retry(1).jobs == (job["id"],)
    line.process()
    line.deliver_until_ended()
    assert line.delivery()["state"] == "DELIVERED"
    assert ("files lost, made again", "ada") in happened(line)
    assert ada(line).retry(1).words == "no job ended without a result, or lost one that nobody has got"


def test_one_delivery_or_one_job_is_cancelled(start: Start, series: Series) -> None:
    line = start(pacs=destination(), archive=destination())
    processed(line, series())
    (job,) = line.detail()["jobs"]
    done = ada(line).cancel(1, job_id=job["id"], destination="archive")
    assert (done.jobs, done.destinations) == ((), ("archive",))
    states = {one["destination"]: one["state"] for one in line.detail()["jobs"][0]["deliveries"]}
    assert states == {"archive": "CANCELLED", "pacs": "QUEUED"}
    assert ada(line).cancel(1).destinations == ("pacs",)
    assert ada(line).cancel(1).words == "nothing to cancel: all has ended"
    assert happened(line).count(("cancelled", "ada")) == 2
    assert [note["what"] for note in noted(line)] == ["cancelled"] * 2


def test_run_by_hand_sends_the_same_result_to_another_destination(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs, archive = make_pacs(), make_pacs()
    line = start(pacs=destination(pacs.port), archive=destination(archive.port))
    rule_to(line, "pacs")
    line.run(series())
    done = ada(line).run(1, "t2-to-stir", ["archive"])
    assert done.words == f"queued: job {done.jobs[0][:8]} of t2-to-stir for archive"
    line.process()
    line.deliver_until_ended()
    by_rule, by_hand = line.detail()["jobs"]
    assert (by_hand["rule"], by_hand["rule_version"], by_hand["rule_author"]) == ("by hand", 1, "ada")
    assert by_hand["state"] == "SUCCEEDED"
    assert len(pacs.accepted()) == len(archive.accepted()) == 4
    assert {*pacs.accepted()} == {*archive.accepted()}, "the same result, the same UIDs"
    assert (len(by_rule["derived"]), by_hand["derived"]) == (1, []), "and it is kept once"
    assert ("job made", "ada") in happened(line)
    assert noted(line)[0]["detail"]["pipeline"] == "t2-to-stir"


def test_a_new_version_of_a_rule_does_not_give_the_reader_a_second_copy(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port), archive=destination())
    rule_to(line, "pacs")
    line.run(series())
    rule_to(line, "pacs", description="said in other words")
    ada(line).route(1)
    line.route()
    line.process()
    first, second = line.detail()["jobs"]
    assert [first["state"], second["state"]] == ["SUCCEEDED"] * 2
    assert (second["rule_version"], second["deliveries"], second["derived"]) == (3, [], [])
    assert line.announced("deliver") == []
    assert len(pacs.accepted()) == 4
    assert {path.parents[2].name for path in results(line)} == {first["id"]}, "nothing else stays in the spool"


def test_run_by_hand_is_refused_with_the_reason(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port), archive=destination())
    rule_to(line, "pacs")
    line.run(series())

    def refusal(series_id: int = 1, pipeline: str = "t2-to-stir", *to: str) -> str:
        with pytest.raises(ConfigurationError) as refused:
            ada(line).run(series_id, pipeline, to or ["archive"])
        return str(refused.value)

    assert "found job" in refusal(1, "t2-to-stir", "pacs", "archive")
    assert "for pacs already, SUCCEEDED; retry or resend that" in refusal(1, "t2-to-stir", "pacs")
    assert "did you mean t2-to-stir?" in refusal(1, "t2-to-stirr")
    assert "found nowhere; expected one of archive, pacs" in refusal(1, "t2-to-stir", "nowhere")
    assert line.send(results(line)).is_delivered  # the result comes back
    line.assemble()
    assert "found it COMPLETE; expected ROUTED, UNMATCHED or WAITING; wait until it is complete" in refusal(2)
    line.route()
    assert "found it BLOCKED; expected ROUTED, UNMATCHED or WAITING; what was synthesised is never a source" in refusal(
        2
    )
    with line.database.write() as connection:
        switches.disable(connection, "t2-to-stir", "1.0.0", by="ada", reason="a complaint")
    assert "disabled by ada" in refusal()
    with line.database.write() as connection:
        connection.exec_driver_sql("UPDATE series SET purged_at = 1.0 WHERE id = 1")
        switches.enable(connection, "t2-to-stir")
    assert "given up by retention" in refusal()
    assert len(line.detail(1)["jobs"]) == 1
    assert noted(line) == []


def test_what_does_not_fit_the_pipeline_is_refused_by_hand_too(line: Line, series: Series) -> None:
    with line.database.write() as connection:
        rulebook.apply(connection, [], author="test", reason="")
    line.send(series(Modality="CT"))
    line.assemble()
    line.route()
    assert line.detail()["state"] == "UNMATCHED"
    ada(line).run(1, "t2-to-stir", ["pacs"])
    line.process()
    (job,) = line.detail()["jobs"]
    assert job["state"] == "REFUSED"
    assert can(line) == (["route", "run"], ["retry"], [])


def test_the_rules_are_asked_again(line: Line, series: Series) -> None:
    processed(line, series())
    assert ada(line).route(1).words == "the rules will be asked again"
    assert not ada(line).route(1).is_done, "it is on its way to the rules"
    assert can(line)[0] == []
    line.route()
    assert line.detail()["state"] == "ROUTED"
    assert ("asked for again", "ada") in happened(line)


def rule_to(line: Line, *names: str, description: str = "") -> None:
    """Let the only rule send there alone."""
    table = {
        "name": "stir", "pipeline": "t2-to-stir", "destinations": list(names), "description": description,
        "when": {"attribute": "Modality", "equals": "MR"},
    }  # fmt: skip
    with line.database.write() as connection:
        rulebook.apply(connection, [rule_from_table(table, "test")], author="test", reason="")


def results(line: Line) -> list[Path]:
    """Every derived file."""
    return [path for path in (line.settings.spool_dir / "derived").rglob("*") if path.is_file()]
