"""The queue and what an operator does about a series, over real HTTP, on both databases."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from store_rows import CALLER, header, stored
from web_application import Running, serving

from gateway.domain.completeness import AssociationState
from gateway.domain.roles import Role
from gateway.domain.rule_tables import rule_from_table
from gateway.domain.states import DeliveryState, JobState, SeriesState
from gateway.settings import Destination, Settings
from gateway.settings.line import Node
from gateway.store import deliveries, destinations, intake, jobs, judgement, people, routing, rulebook, tables
from gateway.store.database import Database
from gateway.store.intake import Arrived
from gateway.store.new_jobs import NewJob

RULE = {
    "name": "stir", "pipeline": "t2-to-stir", "destinations": ["pacs"],
    "when": {"attribute": "Modality", "equals": "MR"},
}  # fmt: skip


@pytest.fixture
def node(database: Database, tmp_path: Path) -> Iterator[Running]:
    """A web application on each database, with two destinations and one rule."""
    places = {name: Destination(ae_title=name.upper(), host="127.0.0.1", port=104) for name in ("pacs", "archive")}
    settings = Settings(node=Node(state_dir=tmp_path / "state"), destinations=places)
    with database.write() as connection:
        rulebook.apply(connection, [rule_from_table(RULE)], author="test", reason="")
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(settings, database, listener) as running:
        yield running


def routed(database: Database, number: int, priority: int = 4) -> str:
    """A series with the id `number`, and its job."""
    uid = f"2.25.7{number}"
    with database.write() as connection:
        one = header(1, uid, patient_name="Secret^Person", patient_id="SECRET")
        intake.open_associations(connection, [CALLER], "scp-0")
        arrived = Arrived(one, stored(one.sop_instance_uid), CALLER)
        intake.record_instances(connection, [arrived], judge_after_s=0.0)
        intake.end_association(connection, CALLER.association_id, AssociationState.RELEASED)
        row = connection.execute(sa.select(tables.series).where(tables.series.c.uid == uid)).one()
        assert judgement.close_series(connection, row.id, row.revision, row.instances, {"sentence": "test"})
        to_route = routing.series_to_route(connection, row.id, row.revision)
        assert to_route is not None
        (rule,) = rulebook.active(connection)
        assert routing.end_routing(
            connection, to_route, SeriesState.ROUTED, reason=None, selection=None, attributes=None,
            jobs=[NewJob(rule.id, "t2-to-stir", {}, ("pacs",), priority)], max_attempts=3,
        )  # fmt: skip
        found = connection.execute(sa.select(tables.job.c.id).where(tables.job.c.series_id == row.id))
        return str(found.scalar_one())


def claim(database: Database, job_id: str) -> jobs.Claim:
    with database.write() as connection:
        claimed = jobs.claim(connection, job_id, "process-0@gw1", 30.0)
    assert claimed is not None
    return claimed


def finish(database: Database, job_id: str) -> None:
    """The job makes one instance, which waits for the PACS."""
    claimed = claim(database, job_id)
    made = jobs.DerivedFile(
        "p", f"2.25.9{claimed.series_id}", "c", f"2.25.8{claimed.series_id}", 401, "t", 1, "2.25.6",
        f"derived/{job_id}/1.dcm", 1, "0" * 64,
    )  # fmt: skip
    with database.write() as connection:
        assert jobs.succeed(connection, claimed, [made], {"pacs": "p"}, give_up_s=60.0)


def asked(client: httpx.Client, **parameters: Any) -> Any:
    answer = client.get("/api/v1/queue", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_runs_and_waits_stands_in_its_order(node: Running) -> None:
    with node.client(Role.VIEWER) as client:
        assert "None waits and none runs." in client.get("/queue").text
        first, urgent, second, running, done = (
            routed(node.database, number, priority) for number, priority in enumerate((4, 0, 4, 4, 4), 1)
        )
        claim(node.database, running)
        finish(node.database, done)
        with node.database.write() as connection:
            destinations.hold(connection, "pacs", by="ada", reason="it is being moved")
        found = asked(client)
        assert [row["id"] for row in found["jobs"]["running"]] == [running]
        assert found["jobs"]["running"][0]["worker"] == "process-0@gw1"
        assert [row["id"] for row in found["jobs"]["rows"]] == [urgent, first, second]
        (delivery,) = found["deliveries"]["rows"]
        assert (delivery["destination"], delivery["accepted"], delivery["instances"]) == ("pacs", 0, 1)
        assert delivery["waits_for"].startswith("held by ada")
        assert delivery["can"] == ["now", "cancel"]
        page = client.get("/queue").text
        assert page.index(urgent[:8]) < page.index(first[:8]) < page.index(second[:8])
        assert "it is being moved" in page
        assert "data-confirm" not in page, "a viewer is shown nothing that he may not do"
        # narrowed by what stands in the address
        assert asked(client, what="jobs", state="RUNNING")["jobs"]["rows"][0]["id"] == running
        assert asked(client, destination="archive") == {
            "deliveries": {"running": [], "rows": [], "before": None, "after": None}
        }
        assert asked(client, pipeline="ct-denoise", what="jobs")["jobs"]["rows"] == []
        assert asked(client, state="SENDING") == {
            "deliveries": {"running": [], "rows": [], "before": None, "after": None}
        }
        for wrong in ({"state": "LOST"}, {"what": "series"}, {"destination": "a b"}):
            assert client.get("/queue", params=wrong).status_code == 422
        for key in ("99999999999999_1.0_x", "nan_nan_nan", "inf_inf", "\0", "4_1e400_x"):
            assert client.get("/queue", params={"what": "jobs", "after": key}).status_code == 200, key


def test_long_queues_are_paged_by_key(node: Running) -> None:
    wanted = [routed(node.database, number) for number in range(1, 53)]
    with node.client(Role.VIEWER) as client:
        page = asked(client)["jobs"]
        following = asked(client, what="jobs", after=page["after"])["jobs"]
        assert [row["id"] for row in page["rows"] + following["rows"]] == wanted
        assert following["after"] is None
        assert [row["id"] for row in asked(client, what="jobs", before=following["before"])["jobs"]["rows"]] == wanted[
            :50
        ]
        assert "what=jobs&amp;state=&amp;" in client.get("/queue").text


def test_an_operator_retries_cancels_and_sends_again(node: Running) -> None:
    job_id = routed(node.database, 1)
    with node.client(Role.OPERATOR) as client:

        def ask(what: str, **parameters: Any) -> Any:
            answer = client.post(f"/api/v1/series/1/{what}", params=parameters)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert ask("retry") == {
            "is_done": False, "words": "no job ended without a result, or lost one that nobody has got",
            "jobs": [], "destinations": [],
        }  # fmt: skip
        assert ask("cancel", job=job_id)["jobs"] == [job_id]
        assert ask("retry", job=job_id)["jobs"] == [job_id]
        finish(node.database, job_id)
        assert ask("cancel", destination="pacs")["destinations"] == ["pacs"]
        assert asked(client)["jobs"]["rows"] == []
        assert ask("resend", destination="pacs")["destinations"] == ["pacs"]
        assert ask("route")["is_done"]
        assert client.post("/api/v1/series/999/retry").status_code == 404
    with node.database.read() as connection:
        trail = people.audit_trail(connection, 20)
    assert [(note["who"], note["what"]) for note in trail] == [
        ("key operator", what)
        for what in ("asked the rules again", "sent results again", "cancelled", "ran jobs again", "cancelled")
    ]
    assert {note["subject"] for note in trail} == {"2.25.71"}
    assert "SECRET" not in str(trail).upper()


def test_a_series_is_run_by_hand(node: Running) -> None:
    routed(node.database, 1)
    with node.client(Role.OPERATOR) as client:
        place = "/api/v1/series/1/run"
        made = client.post(place, params={"pipeline": "t2-to-tirm", "destination": ["pacs", "archive"]}).json()
        assert made["destinations"] == ["pacs", "archive"]
        again = client.post(place, params={"pipeline": "t2-to-tirm", "destination": "pacs"})
        assert again.status_code == 409
        assert "already, QUEUED; retry or resend that" in again.json()["error"]
        assert client.post(place, params={"pipeline": "t1-t2-to-stir", "destination": "pacs"}).status_code == 409
        assert client.post(place, params={"pipeline": "t2-to-tirm"}).status_code == 422
        rows = {row["id"]: row for row in asked(client)["jobs"]["rows"]}
        assert (rows[made["jobs"][0]]["rule"], rows[made["jobs"][0]]["rule_author"]) == ("by hand", "key operator")
        # a job by hand goes before those of normal priority, and is no rule
        assert next(iter(rows)) == made["jobs"][0]
        assert [rule["name"] for rule in client.get("/api/v1/rules").json()] == ["stir"]
        assert client.get("/queue").status_code == 200


def test_a_form_says_what_was_done_or_why_nothing_was(node: Running) -> None:
    node.populate()
    job_id = routed(node.database, 1)
    with node.browser(Role.OPERATOR) as client:
        page = client.get("/studies/2.25.5").text
        token = re.search(r'name="csrf" value="([^"]+)"', page)
        assert token
        form = {"csrf": token[1]}
        assert f"Cancel job {job_id[:8]}, t2-to-stir on series 4 T2 TSE SAG?" in page
        said = client.post("/series/1/cancel", data={**form, "job": job_id}, headers={"HX-Request": "true"})
        assert said.text == f'<p class="verdict good">Cancelled: job {job_id[:8]}</p>'
        assert said.headers["HX-Trigger"] == "athanor:changed"
        whole = client.post("/series/1/cancel", data=form)
        assert "Nothing to cancel: all has ended" in whole.text
        assert 'href="/studies/2.25.5"' in whole.text
        asked = {**form, "pipeline": "t2-to-tirm"}
        said = client.post("/series/1/run", data=asked, headers={"HX-Request": "true"})
        assert "destinations: found none; expected at least one" in said.text
        asked["destination"] = "<b>"
        assert client.post("/series/1/run", data=asked).status_code == 422
        assert client.post("/series/1/cancel", data={}).status_code == 403
    with node.browser(Role.VIEWER) as client:
        page = client.get("/studies/2.25.5").text
        assert "data-confirm" not in page
        assert "Run another pipeline" not in page


def test_what_failed_is_found_and_tried_again(node: Running) -> None:
    job_id = routed(node.database, 1)
    claimed = claim(node.database, job_id)
    with node.database.write() as connection:
        jobs.end(connection, claimed, JobState.REFUSED, "spacing: found 9 mm")
    sent = routed(node.database, 2)
    finish(node.database, sent)
    with node.database.write() as connection:
        (delivery_id,) = connection.execute(sa.select(tables.delivery.c.id)).scalars()
        sending = deliveries.claim(connection, delivery_id, "transfer-0", 30.0, 1)
        assert sending is not None
        deliveries.end(connection, sending, DeliveryState.FAILED, error="refused")
    with node.client(Role.OPERATOR) as client:
        (row,) = asked(client, state="REFUSED")["jobs"]["rows"]
        assert (row["error"], row["can"]) == ("spacing: found 9 mm", ["retry"])
        (row,) = asked(client, state="FAILED")["deliveries"]["rows"]
        assert (row["error"], row["can"]) == ("refused", ["resend"])
        page = client.get("/queue?state=FAILED").text
        assert "None is FAILED." in page, "no job"
        assert 'aria-label="Resend: the result of series 4 T2 TSE SAG to pacs"' in page
