"""Logging in at an identity provider: who gets in, as what, and the ways in which a token or an answer is wrong."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from athanor_command import athanor, write_settings
from cryptography.hazmat.primitives.asymmetric import rsa
from identity_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    Claims,
    IdentityProvider,
    hs256_with_the_public_key,
    new_key,
    unsigned,
)
from web_application import PASSWORD, Running, serving

from gateway.admin.access import COOKIE
from gateway.domain.roles import Role
from gateway.settings import Settings
from gateway.settings.line import Node
from gateway.settings.watch import OpenId, Web
from gateway.store import people
from gateway.store.database import Database

ROLES = {"gateway-admins": "administrator", "readers": "viewer", "clerks": "operator"}


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


MakeWeb = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def make_web(tmp_path: Path, provider: IdentityProvider, database: Database) -> MakeWeb:
    """Serves a web application that knows the provider; options are those of [web.oidc]."""
    secret = tmp_path / "secret"
    secret.write_text(f"{CLIENT_SECRET}\n")

    @contextmanager
    def make(**options: object) -> Iterator[Running]:
        values = {"issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret_file": secret, "roles": ROLES}
        openid = OpenId.model_validate({**values, **options})
        with socket.create_server(("127.0.0.1", 0)) as listener:
            web = Web(public_url=f"http://127.0.0.1:{listener.getsockname()[1]}", oidc=openid)
            settings = Settings(node=Node(state_dir=tmp_path / "state"), web=web)
            with serving(settings, database, listener) as running:
                running.populate()
                yield running

    return make


@pytest.fixture
def web(make_web: MakeWeb) -> Iterator[Running]:
    """Both ways in: at the provider, and with a password."""
    with make_web() as running:
        yield running


def at_the_provider(client: httpx.Client, to: str = "/") -> str:
    """Where the provider sends the browser back to."""
    there = client.get("/login/openid", params={"to": to})
    assert there.status_code == 303, there.text
    page = httpx.get(there.headers["location"])
    link = re.search(r'href="([^"]+)"', page.text)
    assert link
    return link[1]


def log_in(client: httpx.Client, to: str = "/") -> httpx.Response:
    return client.get(at_the_provider(client, to))


def words(answer: httpx.Response) -> str:
    """What the error page says; it always carries an id."""
    said = re.search(r'<p role="alert">([^<]+)</p>', answer.text)
    assert said, answer.text
    assert re.search(r"<code>[0-9a-f]{8}</code>", answer.text)
    return said[1]


def test_somebody_of_the_house_gets_in_and_the_role_follows_the_groups(
    web: Running, provider: IdentityProvider
) -> None:
    with web.client() as client:
        assert "Log in with single sign-on" in client.get("/login").text
        answer = log_in(client, "/studies?page=2")
        assert (answer.status_code, answer.headers["location"]) == (303, "/studies?page=2"), answer.text
        assert client.get("/api/v1/me").json() == {"name": "ada", "role": "viewer"}
        assert client.get("/people").status_code == 403
        # the same person, called otherwise, with another group: the role changes, the name stays
        provider.claims = {"sub": "ada-1", "preferred_username": "ada2", "groups": ["clerks", "gateway-admins"]}
        with web.client() as other:
            assert log_in(other).status_code == 303
            assert other.get("/api/v1/me").json() == {"name": "ada", "role": "administrator"}
        # what was open was given to a viewer
        assert client.get("/api/v1/me").status_code == 401
    with web.database.read() as connection:
        done = [row["what"] for row in people.audit_trail(connection, 50) if row["who"] == "ada"]
        person = people.find(connection, "ada")
    assert done == ["login", "changed a role", "login", "added a person"]
    assert person
    assert (person["issuer"], person["subject"]) == (provider.issuer, "ada-1")


def test_what_the_browser_is_sent_with(web: Running, provider: IdentityProvider) -> None:
    with web.client() as client:
        there = client.get("/login/openid", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    asked = {name: values[0] for name, values in parse_qs(urlsplit(there.headers["location"]).query).items()}
    assert asked["redirect_uri"] == f"{web.url}/login/openid/callback"
    assert asked["scope"] == "openid profile"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert min(len(asked["state"]), len(asked["nonce"])) >= 43
    cookie = there.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/login" in cookie


def test_it_leads_nowhere_else(web: Running) -> None:
    with web.client() as client:
        for to in ("//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "x", "/" * 3000):
            assert log_in(client, to).headers["location"] == "/", to


def test_a_local_account_is_not_taken_over_by_its_name(web: Running, provider: IdentityProvider) -> None:
    provider.claims = {"sub": "mallory-7", "preferred_username": "administrator", "groups": ["readers"]}
    with web.client() as client:
        assert log_in(client).status_code == 303
        assert client.get("/api/v1/me").json() == {"name": "administrator@127.0.0.1", "role": "viewer"}
        # nor does the new account get a password, here or by guessing
        assert client.post("/login", data={"name": "administrator@127.0.0.1", "password": ""}).status_code in {401, 422}
    with web.browser(Role.ADMINISTRATOR) as admin:
        csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', admin.get("/people").text)
        assert csrf
        form = {"csrf": csrf[1], "password": PASSWORD, "role": "administrator"}
        assert admin.post("/people/administrator@127.0.0.1/password", data=form).status_code == 409
        assert admin.post("/people/administrator@127.0.0.1/role", data=form).status_code == 409


def test_without_a_mapped_group_nobody_gets_in_and_what_was_open_ends(web: Running, provider: IdentityProvider) -> None:
    with web.client() as inside, web.client() as client:
        assert log_in(inside).status_code == 303
        for groups in ([], ["visitors"], None, "visitors", [["readers"]], {"readers": True}):
            provider.claims = {"sub": "ada-1", "groups": groups}
            answer = log_in(client)
            assert answer.status_code == 403, groups
            assert "groups" in words(answer)
            assert COOKIE not in client.cookies
        assert inside.get("/api/v1/me").status_code == 401


def test_who_was_shut_out_stays_out(web: Running, provider: IdentityProvider) -> None:
    with web.client() as client:
        assert log_in(client).status_code == 303
        with web.database.write() as connection:
            people.set_active(connection, "ada", active=False)
        assert client.get("/api/v1/me").status_code == 401
        answer = log_in(client)
        assert answer.status_code == 403
        assert "shut out" in words(answer)
    with web.database.read() as connection:
        assert people.audit_trail(connection, 1)[0]["what"] == "login failed"


def test_an_attempt_is_used_once_in_the_browser_that_began_it(web: Running, provider: IdentityProvider) -> None:
    provider.takes_codes_again = True  # a careless provider: it is us who have to notice
    with web.client() as client, web.client() as other:
        back = at_the_provider(client)
        assert other.get(back).status_code == 403, "another browser"
        assert other.get("/login/openid/callback", params={"code": "x"}).status_code == 403, "no state"
        assert client.get("/login/openid/callback", params={"code": "x", "state": "guessed"}).status_code == 403
        asked = provider.asked.count("/token")
        assert client.get(back).status_code == 303
        answer = client.get(back)
        assert answer.status_code == 403
        assert "used already" in words(answer)
        assert provider.asked.count("/token") == asked + 1
        # two tabs, each with its own attempt
        first, second = at_the_provider(client), at_the_provider(client)
        assert [client.get(one).status_code for one in (first, second)] == [303, 303]


def test_a_code_is_worth_nothing_twice_or_in_another_attempt(web: Running) -> None:
    with web.client() as client:
        used = parse_qs(urlsplit(at_the_provider(client)).query)["code"][0]
        state = parse_qs(urlsplit(at_the_provider(client)).query)["state"][0]
        # the verifier of this attempt does not fit the challenge of that code (RFC 7636)
        answer = client.get("/login/openid/callback", params={"code": used, "state": state})
        assert answer.status_code == 403
        assert "invalid_grant" in words(answer)
        assert "script" not in words(answer)


def test_the_provider_may_let_nobody_in_and_another_may_not_answer(web: Running) -> None:
    with web.client() as client:
        for query, expected in (
            ({"error": "access_denied"}, "access_denied"),
            ({"error": "<script>alert(1)</script>"}, "no reason given"),
            ({"code": "x", "iss": "https://other.example"}, "another identity provider"),
        ):
            state = parse_qs(urlsplit(client.get("/login/openid").headers["location"]).query)["state"][0]
            answer = client.get("/login/openid/callback", params={"state": state, **query})
            assert answer.status_code == 403
            assert expected in words(answer)


def signed(**changed: object) -> Callable[[IdentityProvider, Claims], str]:
    def forge(provider: IdentityProvider, claims: Claims) -> str:
        claims = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode(claims, provider.keys["one"], "RS256", {"kid": "one"})

    return forge


def with_key(algorithm: str, key_id: str = "one") -> Callable[[IdentityProvider, Claims], str]:
    return lambda _, claims: jwt.encode(claims, new_key(algorithm), algorithm, {"kid": key_id})


WRONG = {
    "the nonce of another login": (signed(nonce="x"), "another login"),
    "no nonce": (signed(nonce=None), "another login"),
    "another audience": (signed(aud="other"), "client_id"),
    "several audiences without azp": (signed(aud=[CLIENT_ID, "other"]), "another client"),
    "given to another client": (signed(aud=[CLIENT_ID, "other"], azp="other"), "another client"),
    "another issuer": (signed(iss="https://evil.example"), "web.oidc.issuer"),
    "expired": (signed(exp=time.time() - 40), "expired"),
    "without an end": (signed(exp=None), "lacks one of"),
    "not yet valid": (signed(nbf=time.time() + 86_400), "not valid yet"),
    "of tomorrow": (signed(iat=time.time() + 86_400), "not valid yet"),
    "nobody": (signed(sub=""), "sub"),
    "not signed": (lambda _, claims: unsigned(claims, {"alg": "none", "kid": "one"}), "not signed with one of"),
    "a shared secret": (hs256_with_the_public_key, "not signed with one of"),
    "somebody else's key": (with_key("RS256"), "does not hold"),
    "a key that is not there": (with_key("RS256", "two"), "does not hold"),
    "another kind of key": (with_key("ES256"), "does not hold"),
    "a longer name": (signed(sub="x" * 256), "sub"),
    "no name at all": (signed(sub="\ud800\0"), "sub"),
    "a way that is no word": (lambda _, claims: unsigned(claims, {"alg": ["RS256"]}), "refused"),
}


def test_no_wrong_token_lets_anybody_in_or_gets_into_a_log(
    web: Running, provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    with web.client() as client:
        for name, (forge, expected) in WRONG.items():

            def remembered(
                one: IdentityProvider, claims: Claims, forge: Callable[[IdentityProvider, Claims], str] = forge
            ) -> str:
                seen.append(forge(one, claims))
                return seen[-1]

            provider.forge = remembered
            answer = log_in(client)
            assert answer.status_code == 403, name
            assert expected in words(answer), name
            assert COOKIE not in client.cookies, name
        provider.forge = None
        assert log_in(client).status_code == 303, "and yet the honest one does"
    assert len(seen) == len(WRONG)
    assert not [token for token in seen if len(token) > 20 and (token in caplog.text or token[-20:] in caplog.text)]
    assert CLIENT_SECRET not in caplog.text


def test_a_clock_that_differs_a_little_does_no_harm(web: Running, provider: IdentityProvider) -> None:
    provider.forge = signed(exp=time.time() - 5, nbf=time.time() + 10, iat=time.time() + 10, aud=[CLIENT_ID])
    with web.client() as client:
        assert log_in(client).status_code == 303


def test_new_keys_of_any_allowed_kind_are_found(web: Running, provider: IdentityProvider) -> None:
    with web.client() as client:
        assert log_in(client).status_code == 303
        assert log_in(client).status_code == 303
        assert provider.asked.count("/jwks") == 1
        for algorithm in ("ES256", "PS256"):
            provider.rotate(f"key of {algorithm}", algorithm)
            assert log_in(client).status_code == 303, algorithm
        assert provider.asked.count("/jwks") == 3
        # another key under the same name
        provider.keys = {provider.key_id: new_key("RS256")}
        assert log_in(client).status_code == 303
        assert provider.asked.count("/.well-known/openid-configuration") == 1
        # a key that can be broken
        provider.keys = {provider.key_id: rsa.generate_private_key(public_exponent=65537, key_size=1024)}
        assert log_in(client).status_code == 403


def test_the_secret_goes_the_way_that_the_provider_takes(make_web: MakeWeb, provider: IdentityProvider) -> None:
    for ways in (("client_secret_post",), None):
        provider.ways = ways
        with make_web() as web, web.client() as client:
            assert log_in(client).status_code == 303, ways


def test_a_redirect_of_the_token_endpoint_is_not_followed(web: Running, provider: IdentityProvider) -> None:
    provider.redirects = f"{provider.issuer}/stolen"
    with web.client() as client:
        assert log_in(client).status_code == 403
    assert "/stolen" not in provider.asked


def test_a_provider_that_is_not_there_or_another_one_says_what_to_try(web: Running, provider: IdentityProvider) -> None:
    provider.named = "https://other.example"
    with web.client() as client:
        answer = client.get("/login/openid")
        assert answer.status_code == 409
        assert "web.oidc.issuer" in words(answer)
        # with a password people get in all the same
        assert client.post("/login", data={"name": "viewer", "password": PASSWORD}).status_code == 303


def test_a_dead_provider_is_unavailable(make_web: MakeWeb) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with make_web(issuer=f"http://127.0.0.1:{port}") as web, web.client() as client:
        answer = client.get("/login/openid")
        assert answer.status_code == 503
        assert f"127.0.0.1:{port}" in words(answer)


def test_passwords_can_be_switched_off_and_groups_may_lie_deep(make_web: MakeWeb, provider: IdentityProvider) -> None:
    provider.claims = {"sub": "b-2", "name": "Grace Hopper", "realm_access": {"roles": ["clerks"]}}
    with (
        make_web(passwords=False, groups_claim="realm_access.roles", name_claim="name") as web,
        web.client() as client,
    ):
        assert 'type="password"' not in client.get("/login").text
        assert client.post("/login", data={"name": "viewer", "password": PASSWORD}).status_code == 403
        assert client.get("/setup").headers["location"] == "/login"
        assert log_in(client).status_code == 303
        assert client.get("/api/v1/me").json() == {"name": "Grace_Hopper", "role": "operator"}
        assert "single sign-on" in client.get("/me").text


def test_the_doctor_asks_the_provider(tmp_path: Path, provider: IdentityProvider) -> None:
    openid = {"issuer": provider.issuer, "client_id": CLIENT_ID, "roles": ROLES}
    file = write_settings(tmp_path, web={"public_url": "https://athanor.example", "oidc": openid})

    def login() -> tuple[bool, str]:
        (found,) = [one for one in athanor("--settings", file, "doctor", "--json").json if one["check"] == "login"]
        return found["well"], found["found"]

    assert login() == (True, f"{provider.issuer.removeprefix('http://')} answers; keys that may sign: 1")
    provider.keys = {}
    is_well, found = login()
    assert not is_well
    assert "has no key for RS256" in found
