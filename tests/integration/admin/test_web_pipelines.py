"""Pipelines, settings and help by the page, the REST API and the command line's own store."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from web_application import PASSWORD, Running

from gateway.admin.model_card import rendered
from gateway.admin.pages.help import PAGES
from gateway.admin.site import MENU
from gateway.domain.roles import Role
from gateway.domain.rule_tables import rule_from_table
from gateway.store import heartbeats, outbox, people, rulebook, self_tests, tables
from gateway.store.database import Database

STIR = "/pipelines/t2-to-stir"
RULE = {
    "name": "t2", "enabled": True, "pipeline": "t2-to-stir", "destinations": ["pacs"],
    "when": {"attribute": "Modality", "equals": "MR"},
}  # fmt: skip
REFUSED = "te-ms: found 12; expected 70 to 150"


def log_in(web: Running, role: Role) -> httpx.Client:
    client = web.client()
    assert client.post("/login", data={"name": role.value, "password": PASSWORD}).status_code == 303
    token = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/").text)
    assert token
    client.headers["X-CSRF-Token"] = token[1]
    return client


@pytest.fixture
def operator(web: Running) -> httpx.Client:
    return log_in(web, Role.OPERATOR)


@pytest.fixture
def admin(web: Running) -> httpx.Client:
    return log_in(web, Role.ADMINISTRATOR)


def add_jobs(database: Database, *states: str) -> None:
    """One rule, one series, a job in each of `states`."""
    with database.write() as connection:
        rulebook.apply(connection, [rule_from_table(RULE, "test")], author="test", reason="")
        connection.execute(tables.study.insert().values(
            uid="1.2", first_received_at=1.0, patient_id="P1", patient_name="A^B", accession_number="7",
            study_date="20260101", study_description="",
        ))  # fmt: skip
        for number, state in enumerate(states, 1):
            connection.execute(tables.series.insert().values(
                id=number, uid=f"1.2.{number}", study_uid="1.2", modality="MR", series_description="",
                calling_ae_title="MR1", called_ae_title="A", address="::1", state="ROUTED", revision=1, instances=1,
                first_received_at=1.0, last_received_at=1.0,
            ))  # fmt: skip
            connection.execute(tables.job.insert().values(
                id=f"j{number}", series_id=number, revision=1, rule_version_id=1, pipeline_id="t2-to-stir", options={},
                destinations=[], priority=4, state=state, attempt=1, max_attempts=3, not_before=1.0, progress=0.0,
                superseded=False, created_at=time.time() - 60 * number,
                error=REFUSED if state == "REFUSED" else None,
            ))  # fmt: skip


def trail(web: Running) -> list[tuple[str, str, str]]:
    with web.database.read() as connection:
        return [(row["who"], row["what"], row["subject"]) for row in people.audit_trail(connection, 3)]


def test_disable_with_a_reason_and_enable_again(web: Running, operator: httpx.Client, admin: httpx.Client) -> None:
    add_jobs(web.database, "QUEUED", "REFUSED", "REFUSED", "SUCCEEDED")
    page = operator.get(STIR).text
    assert "Rules may make jobs with it" in page
    assert REFUSED in page
    assert operator.post(f"{STIR}/disable", data={"why": ""}).status_code == 422
    assert operator.post(f"{STIR}/disable", data={"why": "<b>dark canal"}).headers["location"] == STIR
    page = operator.get(STIR).text
    assert "Disabled by operator" in page
    assert "&lt;b&gt;dark canal" in page
    assert "An administrator can enable it" in page
    assert "this rule makes no job" in operator.get("/rules").text
    assert "Disabled by operator" in operator.get("/pipelines").text
    assert operator.post(f"{STIR}/enable").status_code == 403
    assert admin.post(f"{STIR}/enable").status_code == 303
    assert "Rules may make jobs with it" in admin.get(STIR).text
    assert trail(web)[:2] == [
        ("administrator", "enabled a pipeline", "t2-to-stir"), ("operator", "disabled a pipeline", "t2-to-stir")
    ]  # fmt: skip
    with web.database.read() as connection:
        waiting = connection.execute(tables.outbox.select()).one()
        assert (waiting.stage, waiting.subject, waiting.priority) == ("process", "j1", 4)


def test_the_same_by_the_api(web: Running) -> None:
    add_jobs(web.database, "QUEUED", "REFUSED")
    with web.client(Role.OPERATOR) as client:
        assert client.post(f"/api/v1{STIR}/disable").status_code == 422
        assert client.post(f"/api/v1{STIR}/disable", params={"why": "x"}).json() == {"disabled": True}
        assert client.post(f"/api/v1{STIR}/disable", params={"why": "y"}).json() == {"disabled": False}
        row = next(one for one in client.get("/api/v1/pipelines").json() if one["id"] == "t2-to-stir")
        assert (row["enabled"], row["switch"]["reason"], row["switch"]["version"]) == (False, "x", row["version"])
        assert row["jobs"] == {"QUEUED": 1, "REFUSED": 1}
        assert row["rules"] == [{"name": "t2", "version": 1, "enabled": True}]
        assert row["digest_problem"] is None
        detail = client.get(f"/api/v1{STIR}").json()
        assert detail["refusals"] == [{"check": "te-ms", "jobs": 1, "latest": REFUSED}]
        assert detail["inputs"][0]["role"] == "T2W"
        assert ["TE, ms", "70 to 150"] in detail["inputs"][0]["needs"]
        assert len(detail["metrics"]) == 4
        assert client.get("/api/v1/pipelines/no-such").status_code == 404
        assert client.post("/api/v1/pipelines/no-such/self-test").status_code == 404
    with web.client(Role.ADMINISTRATOR) as client:
        assert client.post(f"/api/v1{STIR}/enable").json() == {"enabled": True}
        assert client.post(f"/api/v1{STIR}/enable").json() == {"enabled": False}


def test_what_workers_report_and_what_a_self_test_found(web: Running, operator: httpx.Client) -> None:
    held = {"t2-to-stir": {"version": "1.0.0", "loaded": True, "warm": True, "seconds": 1.5, "runtime": "onnxruntime"},
            "ct-denoise": {"version": "1.0.0", "error": "weights are gone"}}  # fmt: skip
    heartbeats.Heart(web.database, "process-0@host", device="cuda:0", pipelines=held)
    heartbeats.Heart(web.database, "transfer-0@host")
    page = operator.get(STIR).text
    assert "cuda:0" in page
    assert "warm, computed by onnxruntime" in page
    assert "transfer-0" not in page
    assert "It was never tested here" in page
    assert "weights are gone" in operator.get("/pipelines/ct-denoise").text

    assert operator.post(f"{STIR}/self-test").status_code == 303
    with web.database.read() as connection:
        waiting = connection.execute(tables.outbox.select()).one()
        assert (waiting.stage, waiting.subject) == (outbox.SELF_TEST, "t2-to-stir")
    assert "Asked for by operator" in operator.get(f"{STIR}/self-test").text
    with web.database.write() as connection:
        assert self_tests.begin(connection, "t2-to-stir", "process-0@host")
        assert not self_tests.begin(connection, "t2-to-stir", "process-1@host"), "one worker is enough"
        assert connection.execute(tables.outbox.select()).all() == []
    assert "every 2s" in operator.get(f"{STIR}/self-test").text
    outcome = {"passed": False, "version": "1.0.0", "device": "cpu", "seconds": 2.0,
               "steps": [{"name": "result", "passed": False, "found": "one value everywhere"}]}  # fmt: skip
    with web.database.write() as connection:
        self_tests.end(connection, "t2-to-stir", "process-0@host", outcome)
    fragment = operator.get(f"{STIR}/self-test").text
    assert "one value everywhere" in fragment
    assert "every 2s" not in fragment
    assert trail(web)[0] == ("operator", "asked for a self-test", "t2-to-stir")


def test_only_pictures_of_the_model_are_given(operator: httpx.Client) -> None:
    picture = operator.get(f"{STIR}/pictures/real.png")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    for name in ("manifest.toml", "..%2freal.png", "%2e%2e%2fct-denoise%2freal.png", "other.png"):
        assert operator.get(f"{STIR}/pictures/{name}").status_code == 404, name


def test_a_card_is_markdown_and_never_markup() -> None:
    html = rendered(
        "# A\n\n<script>alert(1)</script>\n\n<!-- hidden -->\n![x](real.png) ![y](https://evil.example/y.png)\n\n"
        "[bad](javascript:alert(1)) [deep](../../etc) [good](https://example.org)\n\n| a |\n| - |\n| <b>1</b> |\n",
        "/pipelines/p/pictures",
    )
    assert "<h2>A</h2>" in html
    assert "<script" not in html
    assert "hidden" not in html
    assert '<img src="/pipelines/p/pictures/real.png" alt="x">' in html
    assert "evil" not in html
    assert re.findall(r'href="([^"]*)"', html) == ["https://example.org"]
    assert "<td>&lt;b&gt;1&lt;/b&gt;</td>" in html


def test_a_broken_manifest_is_named(web: Running, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "x"
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text("schema = 2\n")
    broken: dict[str, Any] = {"weights_dir": folder.parent}
    object.__setattr__(web.settings, "weights_dir", broken["weights_dir"])
    with web.client(Role.VIEWER) as client:
        answer = client.get("/pipelines")
    assert answer.status_code == 409
    assert "schema: found 2" in answer.text


def test_settings_in_use_without_secrets(web: Running, admin: httpx.Client, operator: httpx.Client) -> None:
    assert operator.get("/settings").status_code == 403
    page = admin.get("/settings").text
    assert "listener.port" in page
    assert "SCANNER3 (not shown)" in page
    assert not re.search("sha256:[0-9a-f]{64}", page)
    found = admin.get("/settings", params={"text": "dimse"}).text
    assert "listener.dimse_timeout_s" in found
    assert "node.ae_title" not in found
    assert "No setting fits" in admin.get("/settings", params={"text": "no such"}).text
    with web.client(Role.AUDITOR) as client:
        rows = {row["key"]: row for row in client.get("/api/v1/settings").json()}
    assert rows["listener.dimse_timeout_s"] == {
        "key": "listener.dimse_timeout_s", "value": "30", "default": "30", "unit": "seconds", "origin": "default",
        "source": "default", "help": "seconds that one message may take before a minimum rate is asked of it",
    }  # fmt: skip


def test_help_knows_every_page_of_the_menu(web: Running) -> None:
    assert [place for _, place, _ in MENU if place not in PAGES] == []
    with web.client(Role.VIEWER) as client:
        page = client.get("/help").text
    for words in ("SUPERSEDED", "COMMITTING", "A series did not come back", "auditor", "port 11112"):
        assert words in page
