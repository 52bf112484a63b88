"""The web port of a whole gateway, by a real browser: what an administrator walks through on the first day."""

from __future__ import annotations

import re

import pydicom
import pytest
from browser import picture, require_accessible, set_up
from modality import MakeGateway, WritePhantom, made_from, storescu
from playwright.sync_api import Page, expect

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, pacs: SmallPacs) -> Sandbox:
    """A gateway without rules, with its web port."""
    return make_gateway(
        "",
        web={"enabled": True, "port": free_port()},
        destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
    )


def test_the_first_day(page: Page, node: Sandbox, phantom: WritePhantom, pacs: SmallPacs) -> None:
    # set up, with the token of the log
    page.goto("/")
    expect(page).to_have_url(re.compile("/setup$"))
    require_accessible(page)
    set_up(page, node)
    expect(page.get_by_role("status").filter(has_text="The gateway is well.")).to_be_visible()
    require_accessible(page)
    picture(page, "dashboard")

    # a rule, by the keyboard alone where it can be: wrong first, tried on a file, then right
    files = phantom(slices=8)
    page.get_by_role("link", name="Rules", exact=True).click()
    expect(page.get_by_text("No rule is in force")).to_be_visible()
    page.get_by_role("link", name="New rule").press("Enter")
    page.get_by_label("Name", exact=True).fill("stir")
    page.get_by_label("Pipeline").select_option("t2-to-stir")
    page.get_by_label("pacs").press("Space")
    page.get_by_label("enabled").set_checked(True)
    page.get_by_role("button", name="Add a condition").press("Enter")
    page.get_by_label("Attribute").fill("Modalty")
    page.get_by_label("Value").fill("MR")
    page.get_by_label("or a DICOM file").set_input_files(files[0])
    page.get_by_role("button", name="Test").click()
    expect(page.locator('[data-place="rule.when.all[0].attribute"]')).to_contain_text("Modality")
    require_accessible(page)
    page.get_by_label("Attribute").fill("Modality")
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_text("stir would make a job.")).to_be_visible()
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("No series with a kept header")).to_be_visible()
    picture(page, "rule")
    page.get_by_label("Why, for the history").fill("the first rule")
    page.get_by_role("button", name="Activate").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("link", name="stir", exact=True)).to_be_visible()
    require_accessible(page)

    # a series arrives and its timeline fills without a reload
    page.get_by_role("link", name="Studies", exact=True).click()
    expect(page.get_by_text("Nothing has been received yet.")).to_be_visible()
    storescu(node.port, files)
    page.locator("tbody a").first.click()
    page.evaluate("window.notReloaded = true")
    page.get_by_text("Timeline", exact=True).click()
    expect(page.get_by_text("DELIVERED", exact=True)).to_be_visible(timeout=90_000)
    assert page.evaluate("window.notReloaded")
    # what was opened stays open while the part around it loads itself again
    expect(page.locator(".timeline li.good").filter(has_text="delivered")).to_be_visible()
    assert len(made_from(files, pacs)) == len(files)
    require_accessible(page)
    picture(page, "study")

    # what the rule would have done, and back to an earlier version
    page.goto("/rules/stir")
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("Of 1 series of the last 7 days, 0 would go another way")).to_be_visible()
    page.get_by_label("Value").fill("CT")
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("Of 1 series of the last 7 days, 1 would go another way")).to_be_visible()
    page.get_by_role("button", name="Activate").click()
    page.get_by_role("button", name="Yes").click()
    page.get_by_role("link", name="stir", exact=True).click()
    page.get_by_role("link", name="Version 1", exact=True).click()
    page.get_by_role("button", name="Roll back to version 1").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_text("version 3")).to_be_visible()

    # a destination is asked, held and released
    page.get_by_role("link", name="Destinations").click()
    page.get_by_role("button", name="Ask it").click()
    expect(page.locator(".verdict.good")).to_be_visible()
    page.get_by_label("Why").fill("the PACS is being moved")
    page.get_by_role("button", name="Hold").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_text("held by ada")).to_be_visible()
    require_accessible(page)
    held = phantom(slices=2)
    storescu(node.port, held)
    expect(page.locator("dl.figures dd").first).to_have_text(re.compile("^1"), timeout=60_000)
    page.get_by_role("button", name="Release").click()
    page.get_by_role("button", name="Yes").click()
    for waiting_or_being_sent in (0, 1):
        expect(page.locator("dl.figures dd").nth(waiting_or_being_sent)).to_have_text(re.compile("^0"), timeout=60_000)
    assert len(made_from(held, pacs)) == 2

    for place in ("/senders", "/people", "/audit"):
        page.goto(place)
        require_accessible(page)
        picture(page, place.strip("/"))
    expect(page.get_by_text("activated a rule").first).to_be_visible()


def test_what_is_hostile_in_a_header_is_text_on_every_page(page: Page, node: Sandbox, phantom: WritePhantom) -> None:

    script = "<script>document.title='owned'</script>"
    for file in phantom(slices=4):
        ds = pydicom.dcmread(file)
        ds.PatientName, ds.SeriesDescription, ds.StudyDescription, ds.AccessionNumber = script, script, script, "<b>1"
        ds.save_as(file)
    storescu(node.port, [file])
    set_up(page, node)
    page.goto("/studies?text=document.title")
    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(script)
    assert "owned" not in page.title()
