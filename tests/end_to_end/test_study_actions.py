"""What an operator does about a series, by a real browser: the PACS goes and comes back, another pipeline, cancel."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import picture, require_accessible, set_up
from modality import TO_PACS, MakeGateway, WritePhantom, storescu
from playwright.sync_api import Page, expect

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port

LONG = 90_000  # milliseconds: a generator on a busy machine


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPacs]:
    """A destination that goes and comes back."""
    with SmallPacs(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, archive: SmallPacs) -> Sandbox:
    """A gateway that waits for minutes before it asks again a destination that was down."""
    return make_gateway(
        TO_PACS,
        web={"enabled": True, "port": free_port()},
        deliver={"first_retry_s": 600.0},
        destinations={
            name: {"ae_title": "PACS", "host": "127.0.0.1", "port": archive.port} for name in ("pacs", "archive")
        },
    )


def confirm(page: Page, *words: str) -> None:
    """Say yes to a question that names the object."""
    dialog = page.get_by_role("dialog", name="Confirm")
    for one in words:
        expect(dialog).to_contain_text(one)
    dialog.get_by_role("button", name="Yes").click()


def test_an_operator_repairs_what_went_wrong(
    page: Page, node: Sandbox, phantom: WritePhantom, archive: SmallPacs
) -> None:
    set_up(page, node)
    files = phantom(slices=4)
    archive.__exit__()  # the PACS goes
    storescu(node.port, files)
    page.goto("/studies")
    page.locator("tbody a").first.click()
    page.evaluate("window.notReloaded = true")
    row = page.get_by_role("row").filter(has_text="pacs")
    expect(row).to_contain_text("takes nothing since", timeout=LONG)
    expect(row).to_contain_text("QUEUED")
    require_accessible(page)

    # it waits visibly in the queue, too
    page.get_by_role("link", name="Queue", exact=True).click()
    waiting = page.get_by_role("region", name="Deliveries").get_by_role("row").filter(has_text="pacs")
    expect(waiting).to_contain_text("nothing listens there")
    require_accessible(page)
    picture(page, "queue")
    page.go_back()

    # what was chosen stays while the page loads itself again
    page.evaluate("window.notReloaded = true")
    page.get_by_text("Run another pipeline").click()
    page.get_by_label("Pipeline", exact=True).select_option("t2-to-tirm")
    with page.expect_response(re.compile("/now")):
        page.evaluate("document.body.dispatchEvent(new CustomEvent('athanor:changed'))")
    expect(page.get_by_label("Pipeline", exact=True)).to_have_value("t2-to-tirm")

    # the PACS comes back, and nobody waits any longer
    archive.__enter__()
    page.get_by_role("button", name="Send now").click()
    confirm(page, "to pacs now")
    expect(page.get_by_role("status").filter(has_text="Will be sent again to: pacs")).to_be_visible()
    expect(row).to_contain_text("DELIVERED", timeout=LONG)
    assert page.evaluate("window.notReloaded")
    assert len(archive.received) == len(files)

    # another pipeline by hand, by the keyboard alone
    page.get_by_label("archive", exact=True).press("Space")
    page.get_by_role("button", name="Run", exact=True).press("Enter")
    confirm(page, "Run t2-to-tirm on series", "to archive?")
    expect(page.get_by_role("status").filter(has_text="of t2-to-tirm for archive")).to_be_visible()
    made = page.get_by_role("row").filter(has_text="archive")
    expect(made).to_contain_text("DELIVERED", timeout=LONG)
    expect(page.get_by_text("by hand, asked for by ada")).to_be_visible()
    assert len({file.name for _, file in archive.received}) == 2 * len(files), "objects of their own"
    # once more the same is not made: the reason is said
    with page.expect_response(re.compile("/run$")):
        page.get_by_role("button", name="Run", exact=True).click()
        confirm(page)
    expect(page.get_by_role("status").filter(has_text="retry or resend that")).to_be_visible()

    # cancel what waits for a PACS that has gone again
    archive.__exit__()
    made.get_by_role("button", name="Resend all").click()
    confirm(page, "all of it")
    expect(made).to_contain_text("takes nothing since", timeout=LONG)
    made.get_by_role("button", name="Cancel").click()
    confirm(page, "to archive?")
    expect(made).to_contain_text("CANCELLED")
    page.get_by_text("Timeline", exact=True).click()
    for what in ("asked for now", "job made", "asked for again", "cancelled"):
        expect(page.locator(".timeline li").filter(has_text=what).filter(has_text="by ada").first).to_be_visible()
    assert page.evaluate("window.notReloaded")
    require_accessible(page)
    picture(page, "study-actions")
    archive.__enter__()

    page.goto("/audit")
    for what in ("sent results again", "made a job by hand", "cancelled"):
        expect(page.get_by_text(what).first).to_be_visible()
