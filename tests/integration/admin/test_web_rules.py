"""Rules by the page: edit, test on a header, dry run, activate, roll back, move, import and export."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from small_series import write_small_series
from web_application import PASSWORD, Running

from gateway.dicom.header import read_attributes
from gateway.domain.roles import Role
from gateway.settings import Destination
from gateway.store import rulebook
from gateway.store.tables import series, study

RULE = {
    "name": "t2",
    "enabled": True,
    "pipeline": "t2-to-stir",
    "destinations": ["pacs"],
    "when": {"all": [{"attribute": "Modality", "equals": "MR"}]},
}


@pytest.fixture
def admin(web: Running) -> httpx.Client:
    """An administrator's browser, on a node with one destination."""
    web.settings.destinations["pacs"] = Destination(ae_title="PACS", host="127.0.0.1", port=11113)
    client = web.client()
    assert client.post("/login", data={"name": "administrator", "password": PASSWORD}).status_code == 303
    page = client.get("/").text
    token = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert token
    client.headers["X-CSRF-Token"] = token[1]
    return client


def form(rule: dict[str, object], **more: object) -> dict[str, object]:
    return {"definition": json.dumps(rule), **more}


def activate(client: httpx.Client, rule: dict[str, object], base_version: int, why: str = "because") -> httpx.Response:
    return client.post(f"/rules/{rule['name']}/activate", data=form(rule, base_version=base_version, why=why))


def in_force(web: Running) -> list[tuple[str, int]]:
    with web.database.read() as connection:
        return [(one.rule.name, one.version) for one in rulebook.active(connection)]


def test_from_draft_to_force_and_back(web: Running, admin: httpx.Client) -> None:
    assert admin.post("/rules/new/draft", data=form(RULE)).headers["location"] == "/rules/t2"
    assert in_force(web) == []  # a draft is not in force
    assert "draft by administrator" in admin.get("/rules/t2").text
    assert activate(admin, RULE, 0).status_code == 303
    stricter = {**RULE, "when": {"all": [*RULE["when"]["all"], {"attribute": "EchoTime", "greater": 70}]}}  # type: ignore[index]
    assert activate(admin, stricter, 1, "echo time").status_code == 303
    assert in_force(web) == [("t2", 2)]
    page = admin.get("/rules/t2").text
    assert "echo time" in page
    assert "EchoTime" in re.search(r'<pre class="difference">(.*?)</pre>', page, re.DOTALL)[1]  # type: ignore[index]
    # roll back: the page of version 1 activates its definition, as a version of its own
    assert "Roll back to version 1" in admin.get("/rules/t2", params={"version": 1}).text
    assert activate(admin, RULE, 2, "too strict").status_code == 303
    assert in_force(web) == [("t2", 3)]
    with web.database.read() as connection:
        versions = {one["version"]: one for one in rulebook.history(connection, "t2")}
        assert versions[3]["definition"] == versions[1]["definition"]
        assert rulebook.draft(connection, "t2") is None


def test_two_administrators_do_not_overwrite_each_other(web: Running, admin: httpx.Client) -> None:
    activate(admin, RULE, 0)
    assert activate(admin, {**RULE, "description": "mine"}, 1).status_code == 303
    late = activate(admin, {**RULE, "description": "theirs"}, 1)
    assert late.status_code == 409
    assert "load the page again" in late.text
    assert in_force(web) == [("t2", 2)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"when": {"all": [{"attribute": "Modalty", "equals": "MR"}]}}, "Modality"),
        ({"pipeline": "no-such"}, "pipeline"),
        ({"destinations": ["nowhere"]}, "destination"),
        ({"when": {"any": []}}, "rule.when.any"),
        ({"when": "x"}, "rule.when"),
    ],
)
def test_a_rule_that_could_not_work_is_refused_with_its_place(
    web: Running, admin: httpx.Client, change: dict[str, object], words: str
) -> None:
    wrong = {**RULE, **change}
    assert words in admin.post("/rule-test", data=form(wrong)).text
    assert activate(admin, wrong, 0).status_code == 409
    assert in_force(web) == []


def test_a_rule_is_tried_on_a_file_and_on_a_pasted_header(admin: httpx.Client, tmp_path: Path) -> None:
    file = write_small_series(tmp_path / "series", 1)[0]
    with file.open("rb") as content:
        answer = admin.post("/rule-test", data=form(RULE), files={"file": content}).text
    assert "t2 would make a job" in answer
    pasted = admin.post("/rule-test", data=form(RULE, header="# a CT\nModality = CT\nEchoTime = 80")).text
    assert "No enabled rule matches" in pasted
    assert "found &#39;CT&#39;" in pasted
    assert "line 1" in admin.post("/rule-test", data=form(RULE, header="Modalty = MR")).text


def test_a_dry_run_counts_the_series_of_the_last_days(web: Running, admin: httpx.Client, tmp_path: Path) -> None:
    import time

    model = read_attributes(write_small_series(tmp_path / "series", 1)[0]).to_json()
    with web.database.write() as connection:
        connection.execute(study.insert().values(
            uid="1.2", first_received_at=time.time(), patient_id="", patient_name="", accession_number="",
            study_date="", study_description="",
        ))  # fmt: skip
        for number, age_days in enumerate((0.1, 1, 3, 30)):
            at = time.time() - age_days * 86400
            connection.execute(series.insert().values(
                uid=f"1.2.{number}", study_uid="1.2", modality="MR", series_description="T2", calling_ae_title="MR1",
                called_ae_title="ATHANOR", address="127.0.0.1", state="UNMATCHED", revision=1, instances=1,
                first_received_at=at, last_received_at=at, attributes=model,
            ))  # fmt: skip
    answer = admin.post("/rule-rehearsal", data=form(RULE, days=7)).text
    assert "Of 3 series of the last 7 days, 3 would go another way" in answer
    counted = admin.post("/api/v1/rules/rehearsal", params={"days": 60}, json=[RULE]).json()
    assert counted["rules"]["t2"] == {"matches": 4, "wins": 4}


def test_order_switch_retire_export_and_import(web: Running, admin: httpx.Client) -> None:
    for name in ("a", "b", "c"):
        activate(admin, {**RULE, "name": name}, 0)
    admin.post("/rules/c/move", data={"by": -1})
    assert [name for name, _ in in_force(web)] == ["a", "c", "b"]
    exported = admin.get("/rules/export.toml").text
    admin.post("/rules/c/enabled", data={"enabled": "false"})
    admin.post("/rules/b/retire")
    assert [(one["name"], one["enabled"]) for one in admin.get("/api/v1/rules").json()] == [("a", True), ("c", False)]
    assert admin.post("/rules/import", files={"file": exported.encode()}).status_code == 303
    assert [(one["name"], one["enabled"]) for one in admin.get("/api/v1/rules").json()] == [
        ("a", True), ("c", True), ("b", True),
    ]  # fmt: skip
    assert admin.post("/rules/import", files={"file": b"not TOML ="}).status_code == 409


def test_a_viewer_sees_the_rule_and_no_button(web: Running, admin: httpx.Client) -> None:
    activate(admin, RULE, 0)
    with web.browser(Role.VIEWER) as viewer:
        page = viewer.get("/rules/t2").text
        assert 'data-readonly="yes"' in page
        assert "Activate" not in page
        assert viewer.get("/rules/export.toml").status_code == 200
