"""Senders and destinations that are added in the browser, while every process of the gateway goes on running."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from behaviour import QUICK
from browser import picture, require_accessible, set_up
from modality import MakeGateway, WritePhantom
from playwright.sync_api import Page, expect

from gateway.admin.access import digest_of, new_key
from gateway.commands.sandbox import Sandbox, SmallPacs, free_port
from gateway.domain.roles import Role
from gateway.store import people

# the address of this machine is known, but only one AE title may call from it
PEERS = {"*": [], "KNOWN": "127.0.0.1"}


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway) -> Sandbox:
    """A gateway that knows one sender and no destination."""
    return make_gateway(
        "", **QUICK, web={"enabled": True, "port": free_port()}, listener={"port": free_port(), "peers": PEERS}
    )


@pytest.fixture(scope="module")
def api(node: Sandbox) -> Iterator[httpx.Client]:
    """A program with an administrator's key."""
    key, database = new_key(), node.database()
    with database.write() as connection:
        people.add_key(connection, "test", digest_of(key), Role.ADMINISTRATOR, "test")
    database.close()
    url = f"http://127.0.0.1:{node.settings.web.port}/api/v1"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
        yield client


def within(seconds: float, true: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, words
        time.sleep(0.1)


def confirmed(page: Page, *words: str) -> None:
    """The dialog names all of it; yes."""
    for word in words:
        expect(page.get_by_role("dialog")).to_contain_text(word)
    page.get_by_role("button", name="Yes").click()


def test_a_refused_caller_is_let_in_by_one_click(page: Page, node: Sandbox, phantom: WritePhantom) -> None:
    files = phantom(slices=2)
    assert not node.send(files, "CT1").is_delivered
    set_up(page, node)
    page.get_by_role("link", name="Senders", exact=True).click()
    row = page.get_by_role("row").filter(has_text="this AE title may not call from this address")

    def listed() -> bool:
        page.reload()
        return row.count() == 1

    within(20, listed, "refusals are written within seconds")
    require_accessible(page)
    picture(page, "senders")
    page.get_by_role("button", name="Allow CT1 at 127.0.0.1").click()
    confirmed(page, "CT1", "127.0.0.1", "ATHANOR")
    expect(page.get_by_text("may call now")).to_be_visible()
    within(20, lambda: node.send(files, "CT1").is_delivered, "a receiver that runs lets CT1 in")
    # and out again, by the keyboard
    page.get_by_role("button", name="Remove CT1").press("Enter")
    confirmed(page, "CT1", "127.0.0.1")
    expect(page.get_by_role("button", name="Allow CT1 at 127.0.0.1")).to_be_visible()
    within(3, lambda: not node.send(files, "CT1").is_delivered, "a receiver that runs lets CT1 in no more")


def test_what_is_wrong_with_a_sender_stands_beside_its_field(page: Page, node: Sandbox) -> None:
    set_up(page, node)
    page.goto("/senders")
    page.get_by_label("AE title", exact=True).fill("MR1")
    page.get_by_label("Addresses or networks").fill("10.20.3.256")
    page.get_by_role("button", name="Allow", exact=True).click()
    confirmed(page, "MR1", "10.20.3.256")
    expect(page.locator("#problem-addresses")).to_contain_text("expected an address")
    require_accessible(page)
    page.get_by_label("Addresses or networks").fill("10.20.3.7")
    page.get_by_label("Note").fill("room 3")
    page.get_by_role("button", name="Allow", exact=True).click()
    confirmed(page, "MR1", "10.20.3.7")
    expect(page.get_by_role("row").filter(has_text="room 3")).to_contain_text("here, by ada")
    page.get_by_role("link", name="Change").click()
    expect(page.get_by_label("Addresses or networks")).to_have_value("10.20.3.7")
    require_accessible(page)


def test_a_destination_is_added_asked_and_sent_to(
    page: Page, node: Sandbox, api: httpx.Client, phantom: WritePhantom, tmp_path: Path
) -> None:
    with SmallPacs(tmp_path / "pacs2") as pacs:
        set_up(page, node)
        page.get_by_role("link", name="Destinations").click()
        expect(page.get_by_text("There is no destination yet")).to_be_visible()
        require_accessible(page)
        page.get_by_role("link", name="Add a destination").first.click()
        page.get_by_label("Name that rules use").fill("pacs2")
        page.get_by_label("ae_title").fill("PACS")
        page.get_by_label("host name or address").fill("127.0.0.1")
        page.get_by_label("TCP port").fill("99999")
        page.get_by_role("button", name="Ask it").click()
        expect(page.get_by_role("status").filter(has_text="Not asked")).to_contain_text("65535")
        page.get_by_role("button", name="Save").click()
        confirmed(page, "pacs2")
        expect(page.locator("#problem-port")).to_contain_text("found '99999'")
        require_accessible(page)
        page.get_by_label("TCP port").fill(str(pacs.port))
        page.get_by_role("button", name="Ask it").click()
        expect(page.locator("#echo .verdict.good")).to_be_visible()
        picture(page, "destination-form")
        page.get_by_role("button", name="Save").click()
        confirmed(page, "pacs2")
        expect(page.get_by_text(re.compile(f"PACS at 127.0.0.1 port {pacs.port}"))).to_be_visible()
        require_accessible(page)
        picture(page, "destination-added")

        # the processes that run know it: rules may name it, and a transfer worker sends to it
        rule = {"name": "stir", "pipeline": "t2-to-stir", "destinations": ["pacs2"],
                "when": {"attribute": "Modality", "equals": "MR"}}  # fmt: skip
        assert api.put("/rules", json=[rule]).status_code == 200
        assert node.send(phantom(slices=2), "KNOWN").is_delivered
        within(60, lambda: len(pacs.received) == 2, "the result goes to the destination that was added")
        page.get_by_role("button", name="Remove pacs2").click()
        confirmed(page, "pacs2")
        expect(page.get_by_text("rule stir")).to_be_visible()
        assert api.put("/rules", json=[]).status_code == 200
        assert api.delete("/destinations/pacs2").json() == {"removed": True}
