"""The web port of a whole gateway, by a real browser: what an administrator walks through on the first day."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pydicom
import pytest
from axe_playwright_python.sync_playwright import Axe
from modality import MakeGateway, WritePhantom, storescu
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port

PASSWORD = "a long enough password"
# what makes the page wider than the window
TOO_WIDE = """width => document.documentElement.scrollWidth <= width ? [] : [...document.querySelectorAll("main *")]
    .filter(one => one.getBoundingClientRect().right > width && !one.closest(".scroll")).map(one => one.outerHTML)"""
NARROW, WIDE = {"width": 390, "height": 800}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = shutil.which("chromium")
    assert program, "chromium: not found; apt-get install chromium"
    with sync_playwright() as playwright:
        # root, as in a container, has no sandbox
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, pacs: SmallPacs) -> Sandbox:
    """A gateway without rules, with its web port."""
    return make_gateway(
        "",
        web={"enabled": True, "port": free_port()},
        destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
    )


@pytest.fixture
def page(chromium: Browser, node: Sandbox) -> Iterator[Page]:
    """A page that may ask nothing of another origin, and on which no script fails."""
    context = chromium.new_context(viewport=WIDE, base_url=f"http://127.0.0.1:{node.settings.web.port}")
    context.set_default_timeout(30_000)
    page = context.new_page()
    asked: set[str] = set()
    failed: list[str] = []
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert asked == {f"127.0.0.1:{node.settings.web.port}"}
    assert not failed


def require_accessible(page: Page) -> None:
    """No serious finding of axe-core, at both widths, and nothing wider than the window."""
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, f"{page.url} at {size['width']}: {serious}"
        assert page.evaluate(TOO_WIDE, size["width"]) == [], page.url
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]


def test_the_first_day(page: Page, node: Sandbox, phantom: WritePhantom, pacs: SmallPacs) -> None:
    # set up, with the token of the log
    token = re.search(r'"setup_token": "([^"]+)"', node.log_file.read_text())
    assert token
    page.goto("/")
    expect(page).to_have_url(re.compile("/setup$"))
    require_accessible(page)
    page.get_by_label("Set-up token").fill(token[1])
    page.get_by_label("Your name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make the administrator").click()
    expect(page.get_by_role("status").filter(has_text="The gateway is well.")).to_be_visible()
    require_accessible(page)

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
    page.get_by_label("Why, for the history").fill("the first rule")
    page.get_by_role("button", name="Activate").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("link", name="stir", exact=True)).to_be_visible()
    require_accessible(page)

    # a series arrives and its timeline fills without a reload
    page.get_by_role("link", name="Studies", exact=True).click()
    expect(page.get_by_text("Nothing has been received yet.")).to_be_visible()
    before = len(pacs.received)
    storescu(node.port, files)
    page.locator("tbody a").first.click()
    page.evaluate("window.notReloaded = true")
    page.get_by_text("Timeline", exact=True).click()
    expect(page.get_by_text("DELIVERED", exact=True)).to_be_visible(timeout=90_000)
    assert page.evaluate("window.notReloaded")
    # what was opened stays open while the part around it loads itself again
    expect(page.locator(".timeline li.good").filter(has_text="delivered")).to_be_visible()
    assert len(pacs.received) == before + len(files)
    require_accessible(page)

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
    storescu(node.port, phantom(slices=2))
    expect(page.locator("dl.figures dd").first).to_have_text(re.compile("^1"), timeout=60_000)
    page.get_by_role("button", name="Release").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("dl.figures dd").first).to_have_text(re.compile("^0"), timeout=60_000)
    assert len(pacs.received) == before + len(files) + 2

    for place in ("/senders", "/people", "/audit"):
        page.goto(place)
        require_accessible(page)
    expect(page.get_by_text("activated a rule").first).to_be_visible()


def test_what_is_hostile_in_a_header_is_text_on_every_page(page: Page, node: Sandbox, phantom: WritePhantom) -> None:

    script = "<script>document.title='owned'</script>"
    for file in phantom(slices=4):
        ds = pydicom.dcmread(file)
        ds.PatientName, ds.SeriesDescription, ds.StudyDescription, ds.AccessionNumber = script, script, script, "<b>1"
        ds.save_as(file)
    storescu(node.port, [file])
    page.goto("/login")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto("/studies?text=document.title")
    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(script)
    assert "owned" not in page.title()
