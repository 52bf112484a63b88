"""Pipelines, settings and help by a real browser in front of a whole gateway with a real worker."""

from __future__ import annotations

import re

import pytest
from browser import picture, require_accessible, set_up
from modality import TO_PACS, MakeGateway, WritePhantom, storescu
from playwright.sync_api import Page, expect

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, pacs: SmallPacs) -> Sandbox:
    """A gateway with one rule and its web port."""
    return make_gateway(
        TO_PACS,
        web={"enabled": True, "port": free_port()},
        destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
    )


def test_a_pipeline_is_tested_disabled_and_enabled(page: Page, node: Sandbox, phantom: WritePhantom) -> None:
    set_up(page, node)
    page.get_by_role("link", name="Pipelines", exact=True).click()
    section = page.get_by_role("region", name=re.compile("^t2-to-stir "))
    expect(section.get_by_text("process-0")).to_be_visible()
    expect(section.get_by_text("warm")).to_be_visible()
    require_accessible(page)
    picture(page, "pipelines")

    section.get_by_role("link", name="t2-to-stir").click()
    page.get_by_role("button", name="Self-test").click()
    expect(page.locator("#self-test-now").get_by_text("passed")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("the same voxels, bit for bit")).to_be_visible()
    expect(page.get_by_role("img", name="three slices")).to_be_visible()

    # one click, a reason, and a question that names the pipeline
    page.get_by_label("Why").fill("the canal is dark")
    page.get_by_role("button", name="Disable").press("Enter")
    expect(page.get_by_text("Disable t2-to-stir?")).to_be_visible()
    page.get_by_role("button", name="Yes").press("Enter")
    expect(page.get_by_text("Disabled by ada")).to_be_visible()
    require_accessible(page)
    picture(page, "pipeline")

    # what comes now says why it is not translated
    storescu(node.port, phantom(slices=2))
    page.goto("/studies")
    page.locator("tbody a").first.click()
    expect(page.get_by_text("rule stir matches, but its pipeline t2-to-stir is disabled", exact=True)).to_be_visible(
        timeout=60_000
    )
    expect(page.get_by_text("Its pipeline is disabled by ada")).to_be_visible()
    picture(page, "study-pipeline-disabled")
    page.goto("/rules")
    expect(page.get_by_text("disabled: this rule makes no job")).to_be_visible()

    page.get_by_role("link", name="t2-to-stir").click()
    page.get_by_role("button", name="Enable").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_text("Rules may make jobs with it.")).to_be_visible()


def test_settings_and_help(page: Page, node: Sandbox) -> None:
    set_up(page, node)
    page.get_by_role("link", name="Settings", exact=True).click()
    require_accessible(page)
    picture(page, "settings")
    page.get_by_label("Name, help or source").fill("web.port")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text(str(node.settings.web.port))
    expect(page.locator("tbody tr")).to_contain_text("settings.toml")
    assert "text=web.port" in page.url

    page.get_by_role("link", name="Help", exact=True).click()
    expect(page.get_by_role("heading", name="A series did not come back")).to_be_visible()
    require_accessible(page)
    picture(page, "help")
    for link in page.locator("main a[href^='/']").all():
        place = link.get_attribute("href")
        assert page.request.get(str(place)).status == 200, place
