"""A destination goes down and comes back: an alert on the page, one letter for each, nothing to reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import picture, require_accessible, set_up
from message_servers import SmtpServer, smtp_server
from modality import MakeGateway, WritePhantom, storescu
from playwright.sync_api import Page, expect

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port

RULES = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { all = [{ attribute = "Modality", equals = "MR" }] }
"""


@pytest.fixture(scope="module")
def smtp() -> Iterator[SmtpServer]:
    with smtp_server(SmtpServer()) as server:
        yield server


@pytest.fixture(scope="module")
def pacs_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, smtp: SmtpServer, pacs_port: int) -> Sandbox:
    """A gateway that writes letters, whose PACS is not there."""
    mail = {
        "host": "127.0.0.1", "port": smtp.port, "security": "none", "sender": "gw@example.org",
        "recipients": ["it@example.org"],
    }  # fmt: skip
    return make_gateway(
        RULES,
        web={"enabled": True, "port": free_port()},
        destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port}},
        deliver={"first_retry_s": 1.0, "longest_retry_s": 2.0},
        alerts={"quiet_s": 0.0, "allow_private": True, "email": mail},
    )


def test_a_destination_that_is_down_is_an_alert_until_it_is_back(
    page: Page, node: Sandbox, phantom: WritePhantom, smtp: SmtpServer, pacs_port: int, tmp_path: Path
) -> None:
    set_up(page, node)
    page.get_by_role("link", name="Alerts", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Nothing needs anybody.")).to_be_visible()
    require_accessible(page)

    # the settings name a server: does it take a message
    page.get_by_role("button", name="Send a test message by email").click()
    expect(page.get_by_text("the server took the message")).to_be_visible()

    # the PACS is away
    page.evaluate("window.notReloaded = true")
    storescu(node.port, phantom(slices=2))
    alert = page.get_by_role("region", name="Destination pacs takes nothing")
    expect(alert).to_be_visible(timeout=90_000)
    expect(alert).to_contain_text("email: opened", timeout=30_000)
    require_accessible(page)
    picture(page, "alerts")
    alert.get_by_role("button", name="Acknowledge").press("Enter")
    page.get_by_role("button", name="Yes").press("Enter")
    expect(alert).to_contain_text("ada looks after it")

    # and back
    page.evaluate("window.notReloaded = true")
    with SmallPacs(tmp_path / "pacs", port=pacs_port):
        expect(page.get_by_text("Nothing needs anybody.")).to_be_visible(timeout=60_000)
    assert page.evaluate("window.notReloaded")
    page.reload()
    over = page.get_by_role("row").filter(has_text="Destination pacs takes nothing")
    expect(over).to_contain_text("ada")
    picture(page, "alerts-over")
    assert [letter["Subject"] for letter in smtp.letters][:2] == [
        "[ATHANOR] Test of alerts", "[ATHANOR] Destination pacs takes nothing",
    ]  # fmt: skip
