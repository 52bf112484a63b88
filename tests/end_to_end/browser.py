"""A real browser in front of a gateway's web port: what every page has to keep to."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from gateway.commands.sandbox import Sandbox

PASSWORD = "a long enough password"
# what makes the page wider than the window
TOO_WIDE = """width => document.documentElement.scrollWidth <= width ? [] : [...document.querySelectorAll("main *")]
    .filter(one => one.getBoundingClientRect().right > width && !one.closest(".scroll")).map(one => one.outerHTML)"""
NARROW, WIDE = {"width": 390, "height": 800}, {"width": 1280, "height": 900}
_SCREENSHOTS = os.environ.get("ATHANOR_SCREENSHOTS")


@pytest.fixture(scope="module")  # its event loop would be in the way of other modules
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = shutil.which("chromium")
    assert program, "chromium: not found; apt-get install chromium"
    with sync_playwright() as playwright:
        # root, as in a container, has no sandbox
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, node: Sandbox) -> Iterator[Page]:
    """A page of the module's gateway that may ask nothing of another origin, and on which no script fails."""
    context = chromium.new_context(viewport=WIDE, base_url=f"http://127.0.0.1:{node.settings.web.port}")
    context.set_default_timeout(30_000)
    page = context.new_page()
    asked: set[str] = set()
    failed: list[str] = []
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda message: failed.append(message.text) if _is_failure(message) else None)
    yield page
    context.close()
    assert asked == {f"127.0.0.1:{node.settings.web.port}"}
    assert not failed


def _is_failure(message: ConsoleMessage) -> bool:
    """An error on the console, but for the answer to a form that says what is wrong with it."""
    return message.type == "error" and not re.search("status of (409|422)", message.text)


def set_up(page: Page, node: Sandbox) -> None:
    """Make the administrator ada with the token of the log, or log her in where she is there already."""
    page.goto("/")
    if page.url.endswith("/setup"):
        token = re.search(r'"setup_token": "([^"]+)"', node.log_file.read_text())
        assert token
        page.get_by_label("Set-up token").fill(token[1])
        page.get_by_label("Your name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Make the administrator").click()
    else:
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="Studies", exact=True)).to_be_visible()


def require_accessible(page: Page) -> None:
    """No serious finding of axe-core, at both widths, and nothing wider than the window."""
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, f"{page.url} at {size['width']}: {serious}"
        assert page.evaluate(TOO_WIDE, size["width"]) == [], page.url
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]


def picture(page: Page, name: str) -> None:
    """Keep a screenshot for somebody to look at, where the environment asks for it."""
    if _SCREENSHOTS:
        page.screenshot(path=Path(_SCREENSHOTS) / f"{name}.png", full_page=True)
