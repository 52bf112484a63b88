"""Alerts on the web port: listed, acknowledged by who may, and a test message that says which step fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from message_servers import SmtpServer, smtp_server
from web_application import Running, serving

from gateway.domain.alerts import Cause, Severity
from gateway.domain.roles import Role
from gateway.settings import Settings
from gateway.settings.line import Node
from gateway.settings.watch import Alerts, Mail
from gateway.store import alerts, tables
from gateway.store.alerts import Rules
from gateway.store.database import Database

RULES = Rules([], 600.0, 0.0)
HOSTILE = Cause("sender:<b>", Severity.WARNING, "<script>alert(1)</script>", "<b>do</b>", "/senders")
DOWN = Cause(
    "destination:pacs:down", Severity.CRITICAL, "Destination pacs takes nothing", "Ask it.", "/destinations", 3
)


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with smtp_server(SmtpServer()) as server:
        yield server


@pytest.fixture
def web(tmp_path: Path, smtp: SmtpServer) -> Iterator[Running]:
    """A web application that may send mail, with a person of each role."""
    mail = Mail(
        host="127.0.0.1", port=smtp.port, security="none", sender="gw@example.org", recipients=("it@example.org",)
    )
    settings = Settings(node=Node(state_dir=tmp_path / "state"), alerts=Alerts(email=mail, allow_private=True))
    database = Database(f"sqlite:///{tmp_path / 'athanor.sqlite'}")
    database.upgrade()
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(settings, database, listener) as running:
        running.populate()
        yield running
    database.close()


def let_be(database: Database, *causes: Cause) -> None:
    """Make the open alerts those of `causes`."""
    with database.write() as connection:
        alerts.write(connection, alerts.changes(connection, causes, RULES), RULES)


def test_open_ones_come_first_and_what_is_over_goes_on_by_key(web: Running) -> None:
    for number in range(120):
        let_be(web.database, Cause(f"c{number}", Severity.WARNING, f"cause {number}", "", "/"))
    let_be(web.database, HOSTILE, DOWN)
    with web.client(Role.VIEWER) as client:
        assert client.get("/api/v1/status").json()["alerts"] == 2
        first = client.get("/api/v1/alerts").json()
        assert [one["title"] for one in first["open"]] == [DOWN.title, HOSTILE.title]
        seen = [one["cause"] for one in first["resolved"]]
        after = first["after"]
        while after:
            page = client.get("/api/v1/alerts", params={"after": after}).json()
            seen += [one["cause"] for one in page["resolved"]]
            after = page["after"]
        assert seen == [f"c{number}" for number in reversed(range(120))]
    with web.browser(Role.VIEWER) as browser:
        text = browser.get("/alerts").text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "<script>alert" not in text
        assert "Acknowledge</button>" not in text
        assert "Send a test message" not in text
        assert '<a href="/alerts">2</a>' in browser.get("/dashboard/now").text


def test_an_operator_acknowledges_and_the_audit_trail_knows(web: Running) -> None:
    let_be(web.database, DOWN)
    with web.client(Role.OPERATOR) as client:
        alert_id = client.get("/api/v1/alerts").json()["open"][0]["id"]
        assert client.post(f"/api/v1/alerts/{alert_id}/acknowledge").json() == {"acknowledged": True}
        assert client.post(f"/api/v1/alerts/{alert_id}/acknowledge").json() == {"acknowledged": False}
        assert client.get("/api/v1/alerts").json()["open"][0]["acknowledged_by"] == "key operator"
    with web.database.read() as connection:
        (done,) = [row.subject for row in connection.execute(sa.select(tables.audit)) if "acknowledged" in row.what]
    assert done == str(alert_id)


def test_a_test_message_arrives_or_says_which_step_fails(web: Running, smtp: SmtpServer) -> None:
    with web.client(Role.ADMINISTRATOR) as client:
        taken = client.post("/api/v1/alerts/test", params={"channel": "email"}).json()
        assert (taken["taken"], taken["step"]) == (True, None)
        assert smtp.letters[0]["Subject"] == "[ATHANOR] Test of alerts"
        smtp.answers["RCPT"] = "550 nobody of that name"
        refused = client.post("/api/v1/alerts/test", params={"channel": "email"}).json()
        assert (refused["taken"], refused["step"]) == (False, "request")
        assert "550 nobody of that name" in refused["explanation"]
        answer = client.post("/api/v1/alerts/test", params={"channel": "webhook"})
        assert answer.status_code == 409
        assert "alerts.webhook" in answer.json()["error"]
        assert client.post("/api/v1/alerts/test", params={"channel": "pigeon"}).status_code == 422
    with web.client(Role.OPERATOR) as client:
        assert client.post("/api/v1/alerts/test", params={"channel": "email"}).status_code == 403
    with web.database.read() as connection:
        noted = [row.subject for row in connection.execute(sa.select(tables.audit)) if "test message" in row.what]
    assert noted == ["email", "email"]
