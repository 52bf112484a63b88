"""Long lists in a real browser: older, newer, filters that stay, and the instances of one series."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from browser import PASSWORD, picture, require_accessible, set_up
from playwright.sync_api import Page, expect

from gateway.admin.access import hash_password
from gateway.commands.bench_web_rows import Filling
from gateway.commands.sandbox import Sandbox, free_port
from gateway.domain.roles import Role
from gateway.services.notify import ReadyChannel
from gateway.store import people


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The web process alone, over rows of a hundred and twenty studies; nobody works on them."""
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    sandbox = Sandbox(
        tmp_path_factory.mktemp("lists"),
        {"web": {"enabled": True, "port": free_port()}, "destinations": {"pacs": pacs}},
    )
    database = sandbox.database()
    database.upgrade()
    Filling(database, 2500, 120).fill(lambda _: None)
    with database.write() as connection:
        people.add_person(connection, "ada", Role.ADMINISTRATOR, hash_password(PASSWORD))
    database.close()
    with ReadyChannel() as channel, sandbox.log_file.open("ab") as log:
        environment = {**os.environ, "ATHANOR_SETTINGS": str(sandbox.settings_file), "NOTIFY_SOCKET": channel.address}
        process = subprocess.Popen([sys.executable, "-m", "gateway", "web"], env=environment, stderr=log)
        assert channel.wait(60)
        yield sandbox
        process.terminate()
        process.wait(60)


def test_lists_lead_on_and_back(page: Page, node: Sandbox) -> None:
    set_up(page, node)
    page.goto("/studies")
    page.get_by_label("State of a series").select_option("UNMATCHED")
    page.get_by_role("button", name="Search").click()
    first = page.locator("tbody a").first.get_attribute("href")
    pages = page.get_by_role("navigation", name="Pages")
    pages.get_by_role("link", name="Older").press("Enter")
    expect(page.get_by_label("State of a series")).to_have_value("UNMATCHED")
    expect(page.locator(f'tbody a[href="{first}"]')).to_have_count(0)
    require_accessible(page)
    pages.get_by_role("link", name="Newer").click()
    expect(page.locator("tbody a").first).to_have_attribute("href", str(first))
    for place in ("/audit", "/people", "/senders"):
        page.goto(place)
        expect(pages).to_be_visible()
        require_accessible(page)


def test_instances_of_a_series_stand_in_the_order_in_which_they_came(page: Page, node: Sandbox) -> None:
    set_up(page, node)
    page.goto("/studies?text=A00000060")  # the one with very many instances
    page.locator("tbody a").first.click()
    expect(page.get_by_text("the longest silence between two").first).to_be_visible()
    require_accessible(page)
    page.get_by_role("link", name="instances").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("instances of")
    rows = page.locator("tbody tr")
    expect(rows.nth(1)).to_contain_text("0.050 s")
    require_accessible(page)
    picture(page, "instances")
    page.get_by_role("link", name="Study", exact=True).click()
    expect(page.get_by_text("Patient id")).to_be_visible()


def test_a_study_of_many_series_has_pages(page: Page, node: Sandbox) -> None:
    set_up(page, node)
    page.goto("/studies?text=A00000040")
    page.locator("tbody a").first.click()
    expect(page.locator("main section h2")).to_have_count(20)
    page.get_by_role("link", name="Later series").click()
    expect(page.get_by_role("link", name="Earlier series")).to_be_visible()
    expect(page.locator("main section h2")).to_have_count(20)
