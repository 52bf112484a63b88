"""``athanor alerts``: listed with what to do, acknowledged once, and a test message that says which step fails."""

from __future__ import annotations

import tomlkit
from command_node import Node
from message_servers import SmtpServer, smtp_server

from gateway.domain.alerts import Cause, Severity
from gateway.store import alerts
from gateway.store.alerts import Rules

DOWN = Cause("destination:pacs:down", Severity.WARNING, "Destination pacs takes nothing", "Ask it.", "/destinations", 3)


def let_be(node: Node, *causes: Cause) -> None:
    rules = Rules([], 0.0, 0.0)
    with node.database.write() as connection:
        alerts.write(connection, alerts.changes(connection, causes, rules), rules)


def test_an_alert_is_listed_acknowledged_and_over(node: Node) -> None:
    assert node("alerts").out == "nothing needs anybody\n"
    let_be(node, DOWN)
    line = node("alerts", "ls").out.splitlines()[1]
    assert "Destination pacs takes nothing" in line
    assert "Ask it." in line
    (row,) = node("alerts", "ls", "--json").json
    assert {"id", "cause", "severity", "title", "times", "resolved_at", "messages"} <= set(row)
    assert node("alerts", "acknowledge", row["id"], "--json").json == {"acknowledged": True}
    assert node("alerts", "acknowledge", row["id"]).code == 1
    let_be(node)
    assert node("alerts", "ls", "--json").json == []
    assert [one["cause"] for one in node("alerts", "ls", "--over", 5, "--json").json] == [DOWN.key]


def test_a_test_message_says_what_became_of_it(node: Node) -> None:
    assert node("alerts", "test", "email").code == 2  # the settings name no server
    with smtp_server(SmtpServer()) as server:
        document = tomlkit.parse(node.settings_file.read_text())
        mail = {"host": "127.0.0.1", "port": server.port, "security": "none", "sender": "gw@example.org",
                "recipients": ["it@example.org"]}  # fmt: skip
        document["alerts"] = {"email": mail}
        node.settings_file.write_text(tomlkit.dumps(document))
        refused = node("alerts", "test", "email")
        assert refused.code == 1
        assert "alerts.allow_private" in refused.out
        document["alerts"]["allow_private"] = True  # type: ignore[index]
        node.settings_file.write_text(tomlkit.dumps(document))
        assert node("alerts", "test", "email", "--json").json["taken"] is True
        assert len(server.letters) == 1
