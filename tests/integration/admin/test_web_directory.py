"""Senders and destinations on the web port: pages, REST operations, what is noted of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from web_application import Running

from gateway.commands.sandbox import SmallPacs
from gateway.domain.refusal import Reason, Refusal
from gateway.domain.roles import Role
from gateway.store import people, refusals

PACS = {"ae_title": "PACS2", "host": "127.0.0.1", "port": 104}


@pytest.fixture
def ada(web: Running) -> Iterator[httpx.Client]:
    """A browser in which an administrator logged in."""
    with web.browser(Role.ADMINISTRATOR) as client:
        yield client


@pytest.fixture
def api(empty_web: Running) -> Iterator[httpx.Client]:
    """A program with an administrator's key."""
    with empty_web.client(Role.ADMINISTRATOR) as client:
        yield client


def post(client: httpx.Client, place: str, page: str, **fields: Any) -> httpx.Response:
    """Post a form of a page."""
    csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', client.get(page).text)
    assert csrf
    return client.post(place, data={"csrf": csrf[1], **fields})


def noted(web: Running) -> list[tuple[str, str]]:
    with web.database.read() as connection:
        return [(row["what"], row["subject"]) for row in people.audit_trail(connection, 10) if row["what"] != "login"]


def refuse(web: Running, address: str, title: str, reason: Reason = Reason.CALLING_AE_TITLE) -> None:
    with web.database.write() as connection:
        refusals.record(connection, Counter({Refusal(address, title, "ATHANOR" if title else "", reason): 3}), 1e9)


def test_a_sender_is_added_changed_and_removed_on_the_page(web: Running, ada: httpx.Client) -> None:
    added = post(ada, "/senders", "/senders", ae_title="CT1", addresses="10.20.3.8, 10.20.4.0/24", note="room 3")
    assert added.status_code == 303
    page = ada.get("/senders").text
    assert "10.20.3.8, 10.20.4.0/24" in page
    assert "room 3" in page
    assert ">10.20.3.8\n10.20.4.0/24</textarea>" in ada.get("/senders?change=CT1").text
    changed = post(ada, "/senders", "/senders?change=CT1", ae_title="CT1", addresses="10.20.3.9", version=1)
    assert changed.status_code == 303
    late = post(ada, "/senders", "/senders?change=CT1", ae_title="CT1", addresses="10.20.3.10", version=1)
    assert late.status_code == 409
    assert "somebody else changed it" in late.text
    assert post(ada, "/senders/remove", "/senders", ae_title="CT1").status_code == 303
    assert "CT1" not in ada.get("/senders").text
    assert noted(web) == [("removed a sender", "CT1"), ("let a sender call", "CT1"), ("let a sender call", "CT1")]


def test_what_is_wrong_with_a_sender_stands_beside_its_field(ada: httpx.Client) -> None:
    wrong = post(ada, "/senders", "/senders", ae_title="<b>", addresses="10.20.3.256 scanner-3")
    assert wrong.status_code == 422
    assert 'id="problem-addresses"' in wrong.text
    assert "10.20.3.256" in wrong.text
    assert "scanner-3" in wrong.text
    assert 'value="&lt;b&gt;"' in wrong.text
    assert "<b>" not in wrong.text


def test_a_refused_caller_is_let_in_by_one_click(web: Running, ada: httpx.Client) -> None:
    refuse(web, "10.20.3.8", "CT1")
    page = ada.get("/senders").text
    assert 'data-confirm="Let CT1 at 10.20.3.8 call ATHANOR?"' in page
    assert post(ada, "/senders/allow", "/senders", ae_title="CT1", address="10.20.3.8").status_code == 303
    page = ada.get("/senders").text
    assert "may call now" in page
    assert "Allow CT1 at" not in page
    assert ada.get("/api/v1/senders").json()[-1]["addresses"] == ["10.20.3.8"]
    assert noted(web) == [("let a sender call", "CT1")]


def test_a_refusal_says_what_to_do_where_a_click_would_not_help(web: Running, ada: httpx.Client) -> None:
    refuse(web, "10.20.3.8", "", Reason.ADDRESS)
    refuse(web, "10.20.3.9", "CT2", Reason.CERTIFICATE)
    page = ada.get("/senders").text
    assert "Its AE title" in page
    assert "Allow it at 10.20.3.8" in page
    assert "give the peer its own certificate" in page
    assert "Allow CT2" not in page


def test_an_operator_sees_senders_and_changes_none(web: Running) -> None:
    refuse(web, "10.20.3.8", "CT1")
    with web.browser(Role.OPERATOR) as bob:
        page = bob.get("/senders").text
        assert "Let somebody call" not in page
        assert "Allow CT1" not in page
        assert "Add a destination" not in bob.get("/destinations").text


def test_senders_over_the_api(api: httpx.Client) -> None:
    made = api.post("/api/v1/senders", json={"ae_title": "CT1", "addresses": ["10.20.3.8"]})
    assert made.status_code == 200
    assert made.json()["version"] == 1
    assert [one["ae_title"] for one in api.get("/api/v1/senders").json()] == ["*", "CT1"]
    wrong = api.post("/api/v1/senders", json={"ae_title": "CT1", "addresses": ["10.20.3"]})
    assert wrong.status_code == 422
    assert "addresses.0" in wrong.json()["error"]
    of_the_file = api.delete("/api/v1/senders", params={"ae_title": "*"})
    assert of_the_file.status_code == 409
    assert "[listener.peers] of the settings" in of_the_file.json()["error"]
    assert api.delete("/api/v1/senders", params={"ae_title": "CT1"}).json() == {"removed": True}
    assert api.delete("/api/v1/senders", params={"ae_title": "CT1"}).status_code == 404


def test_a_destination_over_the_api(api: httpx.Client, empty_web: Running) -> None:
    made = api.put("/api/v1/destinations/pacs2", json={"definition": PACS | {"commitment": True}, "why": "archive"})
    assert made.json() == {"name": "pacs2", "version": 1, "definition": PACS | {"commitment": True}}
    shown = api.get("/api/v1/destinations/pacs2").json()
    assert (shown["origin"], shown["host"], shown["commitment"]) == ("directory", "127.0.0.1", True)
    assert [one["name"] for one in api.get("/api/v1/destinations").json()] == ["pacs2"]
    wrong = api.put("/api/v1/destinations/pacs2", json={"definition": PACS | {"port": 0}})
    assert (wrong.status_code, "port: " in wrong.json()["error"]) == (422, True)
    assert api.delete("/api/v1/destinations/pacs2").json() == {"removed": True}
    assert api.get("/api/v1/destinations/pacs2").status_code == 404
    assert noted(empty_web) == [("removed a destination", "pacs2"), ("added a destination", "pacs2")]


def test_no_destination_is_on_a_link_local_address(api: httpx.Client, ada: httpx.Client) -> None:
    for host in ("169.254.169.254", "fe80::1", "::ffff:169.254.1.1", "0.0.0.0"):
        refused = api.put("/api/v1/destinations/pacs2", json={"definition": PACS | {"host": host}})
        assert refused.status_code == 422
        assert "host: found" in refused.json()["error"]
        asked = post(ada, "/destinations/ask", "/destinations/new", ae_title="PACS2", host=host, port="80")
        assert "no connection is made there" in asked.text


def test_a_destination_is_asked_before_it_is_saved(ada: httpx.Client, tmp_path: Path) -> None:
    fields = {"name": "pacs2", "ae_title": "PACS", "host": "localhost", "label": "yes"}
    with SmallPacs(tmp_path / "pacs") as pacs:
        asked = post(ada, "/destinations/ask", "/destinations/new", port=str(pacs.port), **fields)
        assert 'class="verdict good"' in asked.text
    asked = post(ada, "/destinations/ask", "/destinations/new", port=str(pacs.port), **fields)
    assert 'class="verdict bad"' in asked.text
    asked = post(ada, "/destinations/ask", "/destinations/new", port="none", **fields)
    assert "Not asked" in asked.text
    assert ada.get("/api/v1/destinations").json() == []


def test_a_destination_is_added_and_changed_on_the_page(web: Running, ada: httpx.Client) -> None:
    form = {"name": "pacs2", "ae_title": "PACS2", "host": "127.0.0.1", "port": "70000", "quiet_hours": "late"}
    wrong = post(ada, "/destinations/save", "/destinations/new", **form)
    assert wrong.status_code == 422
    assert 'id="problem-port"' in wrong.text
    assert 'id="problem-quiet_hours"' in wrong.text
    assert 'value="70000"' in wrong.text
    assert post(ada, "/destinations/save", "/destinations/new", **form | {"port": "104", "quiet_hours": ""}).is_redirect
    page = ada.get("/destinations/pacs2/edit").text
    assert 'value="PACS2"' in page
    assert 'value="104"' in page
    changed = form | {"port": "105", "quiet_hours": "22:00-06:00", "version": "1", "why": "moved"}
    assert post(ada, "/destinations/save", "/destinations/pacs2/edit", **changed).is_redirect
    page = ada.get("/destinations/pacs2/edit").text
    assert "by administrator: moved" in page
    assert "PACS2 at 127.0.0.1 port 105" in ada.get("/destinations").text
    assert post(ada, "/destinations/pacs2/remove", "/destinations").is_redirect
    assert ada.get("/destinations/pacs2/edit").status_code == 404


def test_rules_may_name_a_destination_that_was_added(api: httpx.Client) -> None:
    rule = {"name": "stir", "pipeline": "t2-to-stir", "destinations": ["pacs2"],
            "when": {"attribute": "Modality", "equals": "MR"}}  # fmt: skip
    assert "pacs2" in api.put("/api/v1/rules", json=[rule]).json()["error"]
    api.put("/api/v1/destinations/pacs2", json={"definition": PACS})
    assert api.put("/api/v1/rules", json=[rule]).status_code == 200
    kept = api.delete("/api/v1/destinations/pacs2")
    assert kept.status_code == 409
    assert "rule stir" in kept.json()["error"]
    assert api.put("/api/v1/rules", json=[]).status_code == 200
    assert api.delete("/api/v1/destinations/pacs2").status_code == 200
