"""Logging in at an identity provider with a real browser, and what a person finds under the own name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from browser import WIDE, picture, require_accessible
from identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from modality import MakeGateway
from playwright.sync_api import Browser, Page, expect

from gateway.commands.sandbox import Sandbox, free_port


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A gateway that lets in whom the provider vouches for."""
    secret = tmp_path_factory.mktemp("secret") / "client"
    secret.write_text(CLIENT_SECRET)
    port = free_port()
    return make_gateway(
        "",
        web={
            "enabled": True,
            "port": port,
            "public_url": f"http://127.0.0.1:{port}",
            "oidc": {
                "issuer": provider.issuer,
                "client_id": CLIENT_ID,
                "client_secret_file": str(secret),
                "roles": {"gateway-admins": "administrator", "readers": "viewer"},
                "button": "Log in with the account of the house",
            },
        },
    )


@pytest.fixture
def page(chromium: Browser, node: Sandbox, provider: IdentityProvider) -> Iterator[Page]:
    """A page that may ask the gateway and the provider, nobody else, and on which no script fails."""
    context = chromium.new_context(viewport=WIDE, base_url=f"http://127.0.0.1:{node.settings.web.port}")
    context.set_default_timeout(30_000)
    page = context.new_page()
    asked: set[str] = set()
    failed: list[str] = []
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    context.close()
    assert asked == {f"127.0.0.1:{node.settings.web.port}", urlsplit(provider.issuer).netloc}
    assert not failed


def test_from_the_login_page_to_the_provider_and_back(page: Page, provider: IdentityProvider) -> None:
    # the first one of all gets in without a set-up token: the group says what for
    provider.claims = {"sub": "ada-1", "preferred_username": "ada", "groups": ["gateway-admins"]}
    page.goto("/setup")
    page.get_by_role("link", name="Log in with the account of the house").click()
    page.get_by_role("link", name="I am Ada").click()
    expect(page.get_by_role("link", name="People", exact=True)).to_be_visible()
    page.get_by_role("button", name="Log out").click()

    # what was asked for before the login is what comes after it
    page.goto("/me")
    expect(page).to_have_url(re.compile("/login"))
    require_accessible(page)
    picture(page, "login")
    page.get_by_role("link", name="Log in with the account of the house").press("Enter")
    page.get_by_role("link", name="I am Ada").press("Enter")
    expect(page).to_have_url(re.compile("/me$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("ada")
    expect(page.get_by_text("this one")).to_be_visible()
    expect(page.get_by_text("your role follows your groups there")).to_be_visible()
    require_accessible(page)
    picture(page, "me")

    page.goto("/people")
    expect(page.get_by_text("by groups of single sign-on")).to_be_visible()
    require_accessible(page)
    picture(page, "people")


def test_a_local_person_changes_the_password_and_ends_the_other_sessions(
    page: Page, chromium: Browser, provider: IdentityProvider
) -> None:
    provider.claims = {"sub": "ada-1", "preferred_username": "ada", "groups": ["gateway-admins"]}
    page.goto("/login?to=/people")
    page.get_by_role("link", name="Log in with the account of the house").click()
    page.get_by_role("link", name="I am Ada").click()
    page.get_by_label("Name", exact=True).fill("bob")
    page.get_by_label("Password, 12 characters or more").fill("a long enough password")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_label("New password of bob")).to_have_count(1)
    origin = page.url.removesuffix("/people")

    def bob(password: str) -> Page:
        other = chromium.new_context(viewport=WIDE, base_url=origin).new_page()
        other.goto("/login?to=/me")
        other.get_by_label("Name").fill("bob")
        other.get_by_label("Password").fill(password)
        other.get_by_role("button", name="Log in").click()
        return other

    first, second = bob("a long enough password"), bob("a long enough password")
    second.get_by_role("button", name="End all others").click()
    second.get_by_role("button", name="Yes").click()
    expect(second.get_by_role("button", name="End all others")).to_have_count(0)
    first.reload()
    expect(first).to_have_url(re.compile("/login"))
    second.get_by_label("Password of now").fill("not the password")
    second.get_by_label("New password, 12 characters or more").fill("another long enough password")
    second.get_by_role("button", name="Change").click()
    expect(second.get_by_role("alert")).to_contain_text("not changed")
    require_accessible(second)
    second.get_by_label("Password of now").fill("a long enough password")
    second.get_by_label("New password, 12 characters or more").fill("another long enough password")
    second.get_by_role("button", name="Change").click()
    expect(second.get_by_role("alert")).to_have_count(0)
    picture(second, "me-local")
    expect(bob("another long enough password").get_by_role("heading", level=1)).to_have_text("bob")


def test_nobody_gets_in_without_a_group(page: Page, provider: IdentityProvider) -> None:
    provider.claims = {"sub": "eve-2", "preferred_username": "eve", "groups": ["visitors"]}
    page.goto("/login")
    page.get_by_role("link", name="Log in with the account of the house").click()
    page.get_by_role("link", name="I am Ada").click()
    expect(page.get_by_role("alert")).to_contain_text("none of your groups")
    require_accessible(page)
    picture(page, "login-refused")
