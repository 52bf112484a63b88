"""``athanor jobs``: what became of series and jobs, and how they are run and sent again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_node import RULES, Node

from gateway.domain.states import DeliveryState, JobState

SERIES_KEYS = {
    "id", "uid", "study_uid", "state", "revision", "instances", "modality", "series_number", "series_description",
    "calling_ae_title", "last_received_at", "waiting_for", "evidence", "reason",
}  # fmt: skip
JOB_KEYS = {
    "id", "series_id", "series_uid", "series_description", "revision", "rule", "rule_version", "pipeline_id",
    "pipeline_version", "state", "superseded", "attempt", "max_attempts", "progress", "error", "created_at",
    "started_at", "finished_at",
}  # fmt: skip


@pytest.mark.parametrize("command", ["ls", "series"])
def test_nothing_yet_says_what_to_do(node: Node, command: str) -> None:
    ran = node("jobs", command)
    assert (ran.code, ran.err) == (0, "")
    assert "athanor send PATH" in ran.out
    assert node("jobs", command, "--json").json == []


def test_lists_are_newest_first_and_say_why(node: Node) -> None:
    for number in range(3):
        node.receive(SeriesDescription=f"SERIES {number}")
    rows = node("jobs", "series").out.splitlines()
    assert [re.search(r"SERIES (\d)", row)[1] for row in rows[1:]] == ["2", "1", "0"]  # type: ignore[index]
    assert all("the association was released" in row for row in rows[1:])
    listed = node("jobs", "series", "--json", "--limit", 2).json
    assert [row["series_description"] for row in listed] == ["SERIES 2", "SERIES 1"]
    assert all(set(row) == SERIES_KEYS for row in listed)


def test_lists_can_be_narrowed_to_a_state_in_any_case(node: Node) -> None:
    node.receive(EchoTime=10.0)
    node.receive()
    node.route()
    node.end_job(JobState.REFUSED, "spacing: found 9 mm")
    assert [row["id"] for row in node("jobs", "series", "--state", "unmatched", "--json").json] == [1]
    assert [row["id"] for row in node("jobs", "series", "--state", "ROUTED", "--json").json] == [2]
    (job,) = node("jobs", "ls", "--state", "Refused", "--json").json
    assert set(job) == JOB_KEYS
    assert (job["series_id"], job["state"], job["error"]) == (2, "REFUSED", "spacing: found 9 mm")
    assert node("jobs", "ls", "--state", "failed").out == "no job is FAILED\n"


def test_one_series_is_shown_from_evidence_to_delivery(node: Node) -> None:
    series_id = node.receive()
    node.route()
    job_id = node.finish_job()
    node.end_delivery(DeliveryState.DELIVERED)
    ran = node("jobs", "show", series_id)
    assert ran.code == 0
    for words in (
        "series 1  MR 'T2 TSE SAG'  revision 1, 2 instances from SCANNER  ROUTED",
        "closed: 2 instances in",
        f"job {job_id[:8]} t2-to-stir by rule stir@1: SUCCEEDED at attempt 1 of 3",
        "made series 401: 2 instances (sc-source-label-1.2.840.10008.1.2.1)",
        "to pacs: DELIVERED, 2 of 2 accepted, attempt 1",
    ):
        assert words in ran.out
    stages = [line.split()[4] for line in ran.out.splitlines() if line.startswith("20")]
    assert stages == ["receive", "assemble", "route", "route", "process", "process", "deliver"]


def test_one_series_as_json(node: Node) -> None:
    node.receive()
    node.route()
    node.finish_job()
    shown = node("jobs", "show", 1, "--json").json
    assert SERIES_KEYS | {"jobs", "timeline", "selection", "address", "called_ae_title", "study_date"} <= set(shown)
    assert "attributes" not in shown, "the header of an instance is the patient's"
    (job,) = shown["jobs"]
    assert {"id", "rule", "rule_version", "state", "error", "seconds", "deliveries", "derived"} <= set(job)
    assert {"destination", "state", "accepted", "instances", "attempt", "error"} <= set(job["deliveries"][0])
    assert set(job["derived"][0]) == {"profile", "series_instance_uid", "series_number", "instances", "size_bytes"}
    assert {"at", "stage", "what", "job_id"} <= set(shown["timeline"][0])


def test_a_series_without_a_job_shows_what_each_rule_missed(node: Node) -> None:
    node.receive(EchoTime=10.0)
    node.route()
    ran = node("jobs", "show", 1)
    assert "UNMATCHED" in ran.out
    assert "  rule stir: EchoTime between 70 and 150, found 10\n" in ran.out


def test_a_series_is_named_by_id_uid_or_job(node: Node) -> None:
    series_id = node.receive()
    node.route()
    job_id = node.end_job(JobState.FAILED, "out of memory")
    uid = node.detail(series_id)["uid"]
    for name in (series_id, uid, job_id, job_id[:13]):
        assert node("jobs", "show", name, "--json").json["uid"] == uid


@pytest.mark.parametrize("command", ["show", "retry", "resend"])
def test_a_series_that_is_not_known(node: Node, command: str) -> None:
    ran = node("jobs", command, "nothing")
    assert ran.code == 3
    assert ran.out == ""
    assert ran.err == "found no series or job 'nothing'; see `athanor jobs series`\n"


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.REFUSED, JobState.CANCELLED])
def test_retry_queues_a_job_that_ended_without_a_result(node: Node, state: JobState) -> None:
    series_id = node.receive()
    node.route()
    job_id = node.end_job(state, "for this test")
    ran = node("jobs", "retry", series_id)
    assert (ran.code, ran.out) == (0, f"queued again: {job_id[:8]}\n")
    assert node.detail(series_id)["jobs"][0]["state"] == "QUEUED"
    assert node.claim_job().job_id == job_id, "a worker hears of it"


def test_retry_of_what_succeeded_is_refused_when_it_is_at_its_destination(node: Node) -> None:
    node.receive()
    node.route()
    node.finish_job()
    node.end_delivery(DeliveryState.DELIVERED)
    ran = node("jobs", "retry", 1)
    assert (ran.code, ran.out) == (1, "no job ended without a result, or lost one that nobody has got\n")
    assert node("jobs", "retry", 1, "--json").json == {"queued": []}


def test_retry_makes_again_what_was_lost_before_anybody_got_it(node: Node) -> None:
    node.receive()
    node.route()
    job_id = node.finish_job()  # whose files were never written
    node.end_delivery(DeliveryState.FAILED, "not sent: no such file")
    assert node("jobs", "retry", 1, "--json").json == {"queued": [job_id]}
    (job,) = node.detail(1)["jobs"]
    assert (job["state"], job["derived"], job["deliveries"]) == ("QUEUED", [], [])
    assert node.finish_job() == job_id
    (job,) = node.detail(1)["jobs"]
    assert (job["attempt"], [row["state"] for row in job["deliveries"]]) == (2, ["QUEUED"])


def test_cancel_ends_what_has_not_ended(node: Node) -> None:
    node.receive()
    node.route()
    ran = node("jobs", "cancel", 1)
    assert ran.code == 0
    (job,) = node.detail(1)["jobs"]
    assert ran.out == f"cancelled: job {job['id'][:8]}\n"
    assert job["state"] == "CANCELLED"
    assert job["error"].startswith("cancelled by ")
    assert node("jobs", "cancel", 1).code == 1
    assert node("jobs", "retry", 1).code == 0
    node.finish_job()
    assert node("jobs", "cancel", 1, "--destination", "elsewhere").code == 1
    assert node("jobs", "cancel", 1, "--destination", "pacs", "--json").json == {"jobs": [], "destinations": ["pacs"]}
    (job,) = node.detail(1)["jobs"]
    assert [(row["state"], row["error"][:13]) for row in job["deliveries"]] == [("CANCELLED", "cancelled by ")]
    assert node("jobs", "resend", 1).code == 0


def test_route_asks_the_rules_of_now(node: Node, tmp_path: Path) -> None:
    node.receive(EchoTime=10.0)
    assert node("jobs", "route", 1).code == 1, "it was not routed yet"
    node.route()
    assert node.detail(1)["state"] == "UNMATCHED"
    (tmp_path / "wider.toml").write_text(RULES.replace("[70, 150]", "[5, 150]"))
    assert node("rules", "apply", tmp_path / "wider.toml").code == 0
    assert node("jobs", "route", 1, "--json").json == {"routed": [1]}
    node.route()
    assert node.detail(1)["state"] == "ROUTED"
    first = node.finish_job()
    (tmp_path / "widest.toml").write_text(RULES.replace("[70, 150]", "[1, 150]"))
    assert node("rules", "apply", tmp_path / "widest.toml").code == 0
    assert node("jobs", "route", 1).out == "the rules will be asked again\n"
    node.route()
    second = node.finish_job()
    assert first != second, "what was made stays as it is"
    jobs = {job["id"]: job for job in node.detail(1)["jobs"]}
    assert [jobs[first]["state"], jobs[second]["state"]] == ["SUCCEEDED"] * 2
    assert len(jobs[first]["deliveries"]) == 1
    assert (jobs[second]["deliveries"], jobs[second]["derived"]) == ([], []), "the same result is sent once"


def test_run_makes_a_job_by_hand(node: Node) -> None:
    node.receive(EchoTime=10.0)
    node.route()
    ran = node("jobs", "run", 1, "--pipeline", "t2-to-stir", "--to", "pacs")
    assert ran.code == 0
    (job,) = node.detail(1)["jobs"]
    assert ran.out == f"queued: job {job['id'][:8]} of t2-to-stir for pacs\n"
    assert "t2-to-stir by hand" in node("jobs", "show", 1).out
    again = node("jobs", "run", 1, "--pipeline", "t2-to-stir", "--to", "pacs")
    assert again.code == 2
    assert "retry or resend that" in again.err
    assert node("jobs", "run", 1, "--pipeline", "t2-to-stir", "--to", "archive").code == 2
    assert node("rules", "ls", "--json").json[0]["name"] == "stir"


def test_resend_of_all_that_failed_at_a_destination(node: Node) -> None:
    for _ in range(3):
        node.receive()
        node.route()
        node.finish_job()
        node.end_delivery(DeliveryState.FAILED, "refused")
    assert node("jobs", "resend").code == 2
    assert node("jobs", "resend", "--failed").code == 2
    assert node("jobs", "resend", 1, "--failed", "--destination", "pacs").code == 2
    assert node("jobs", "resend", "--failed", "--destination", "elsewhere").code == 1
    ran = node("jobs", "resend", "--failed", "--destination", "pacs")
    assert (ran.code, ran.out) == (0, "deliveries that will be sent again to pacs: 3\n")


def test_resend_queues_a_delivery_that_ended(node: Node) -> None:
    node.receive()
    node.route()
    node.finish_job()
    assert node("jobs", "resend", 1).code == 1, "it has not ended"
    node.end_delivery(DeliveryState.FAILED, "refused")
    ran = node("jobs", "resend", 1, "--json")
    assert (ran.code, ran.json) == (0, {"destinations": ["pacs"]})
    assert node.detail(1)["jobs"][0]["deliveries"][0]["state"] == "QUEUED"


def test_resend_sends_what_was_accepted_only_when_asked(node: Node) -> None:
    node.receive()
    node.route()
    node.finish_job()
    node.end_delivery(DeliveryState.DELIVERED)
    assert node("jobs", "resend", 1, "--destination", "elsewhere").code == 1
    assert node("jobs", "resend", 1, "--destination", "pacs").out == "will be sent again to: pacs\n"
    assert node.detail(1)["jobs"][0]["deliveries"][0]["accepted"] == 2
    node.end_delivery(DeliveryState.DELIVERED)
    assert node("jobs", "resend", 1, "--whole").code == 0
    assert node.detail(1)["jobs"][0]["deliveries"][0]["accepted"] == 0


def test_what_was_superseded_is_never_sent_again(node: Node) -> None:
    node.receive()
    node.route()
    node.finish_job()
    node.late_instance()
    (job,) = node.detail(1)["jobs"]
    assert (job["superseded"], job["deliveries"][0]["state"]) == (True, "CANCELLED")
    assert node("jobs", "resend", 1).code == 1
    assert node.detail(1)["jobs"][0]["deliveries"][0]["state"] == "CANCELLED"
