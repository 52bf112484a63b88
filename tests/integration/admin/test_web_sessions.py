"""Set-up, login, logout, lock-out, and what another site can make a browser do."""

from __future__ import annotations

import re
import stat

import pytest
import sqlalchemy as sa
from web_application import PASSWORD, Running

from gateway.admin.access import COOKIE
from gateway.domain.roles import Role
from gateway.store import people
from gateway.store.database import Database


def test_the_first_administrator_is_made_with_the_token_of_the_log(empty_web: Running) -> None:
    token = empty_web.setup_token.make()
    assert stat.S_IMODE(empty_web.setup_token.file.stat().st_mode) == 0o600
    form = {"token": token, "name": "ada", "password": PASSWORD}
    with empty_web.client() as client:
        assert client.get("/login").headers["location"] == "/setup"
        assert client.post("/setup", data={**form, "token": "guessed"}).status_code == 403
        assert client.post("/setup", data={**form, "password": "short"}).status_code == 400
        assert client.post("/setup", data=form).headers["location"] == "/"
        assert "ada" in client.get("/").text
        # once only: the file is gone, and there is somebody
        assert not empty_web.setup_token.file.exists()
        assert client.post("/setup", data={**form, "name": "eve"}).headers["location"] == "/login"
    with empty_web.database.read() as connection:
        assert [person["name"] for person in people.people(connection)] == ["ada"]


def test_without_a_token_file_no_token_is_right(empty_web: Running) -> None:
    with empty_web.client() as client:
        answer = client.post("/setup", data={"token": "", "name": "eve", "password": PASSWORD})
        assert answer.status_code in {403, 422}
        assert client.post("/setup", data={"token": "x", "name": "eve", "password": PASSWORD}).status_code == 403


def test_login_and_logout(web: Running) -> None:
    with web.browser(Role.VIEWER) as client:
        cookie = client.cookies[COOKIE]
        assert client.get("/studies").status_code == 200
        page = client.get("/").text
        token = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
        assert token
        assert client.post("/logout", data={"csrf": token[1]}).headers["location"] == "/login"
        # the session ended on our side: the cookie is worth nothing
        client.cookies.set(COOKIE, cookie)
        assert client.get("/studies").headers["location"] == "/login?to=/studies"


def test_the_cookie_is_not_for_scripts_or_other_sites(web: Running) -> None:
    with web.client() as client:
        answer = client.post("/login", data={"name": "viewer", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_a_wrong_password_and_a_wrong_name_read_the_same(web: Running) -> None:
    with web.client() as client:
        wrong_password = client.post("/login", data={"name": "viewer", "password": "not the password"})
        wrong_name = client.post("/login", data={"name": "nobody", "password": "not the password"})
    assert wrong_password.status_code == wrong_name.status_code == 401
    assert wrong_password.text == wrong_name.text


def test_an_account_is_locked_after_five_failures_and_the_right_password_does_not_open_it(web: Running) -> None:
    with web.client() as client:
        for _ in range(5):
            assert client.post("/login", data={"name": "viewer", "password": "not the password"}).status_code == 401
        assert client.post("/login", data={"name": "viewer", "password": PASSWORD}).status_code == 401
        # another person is not locked out with it
        assert client.post("/login", data={"name": "operator", "password": PASSWORD}).status_code == 303
    with web.database.read() as connection:
        failed = [row for row in people.audit_trail(connection, 50) if row["what"] == "login failed"]
    assert len(failed) == 6


def test_logins_of_one_address_are_slowed_down(web: Running) -> None:
    with web.client() as client:
        answers = [client.post("/login", data={"name": f"n{n}", "password": "x"}).status_code for n in range(21)]
    assert answers == [401] * 20 + [429]


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_a_login_leads_nowhere_else(web: Running, to: str) -> None:
    with web.client() as client:
        answer = client.post("/login", data={"name": "viewer", "password": PASSWORD, "to": to})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    "headers", [{}, {"X-CSRF-Token": "0" * 64}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_another_site_can_change_nothing(web: Running, headers: dict[str, str]) -> None:
    form = {"name": "mallory", "role": "administrator", "password": PASSWORD}
    with web.browser(Role.ADMINISTRATOR) as client:
        if "X-CSRF-Token" not in headers and headers:  # even with the right token
            page = client.get("/people").text
            form["csrf"] = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)[1]  # type: ignore[index]
        assert client.post("/people", data=form, headers=headers).status_code == 403
    with web.database.read() as connection:
        assert "mallory" not in [person["name"] for person in people.people(connection)]


def test_the_token_of_one_session_is_not_that_of_another(web: Running) -> None:
    with web.browser(Role.ADMINISTRATOR) as one, web.browser(Role.ADMINISTRATOR) as other:
        tokens = {re.search(r'name="csrf" value="([0-9a-f]{64})"', c.get("/people").text)[1] for c in (one, other)}  # type: ignore[index]
    assert len(tokens) == 2


def act(client, path: str, **form: str):  # type: ignore[no-untyped-def]
    csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/").text)
    assert csrf
    return client.post(path, data={**form, "csrf": csrf[1]})


def test_who_is_shut_out_is_out_at_once_and_the_last_administrator_stays(web: Running) -> None:
    with web.browser(Role.ADMINISTRATOR) as admin, web.browser(Role.VIEWER) as viewer:
        assert viewer.get("/studies").status_code == 200
        assert act(admin, "/people/viewer/active", active="false").status_code == 303
        assert viewer.get("/studies").status_code == 303
        assert act(admin, "/people/administrator/active", active="false").status_code == 409
        assert act(admin, "/people/administrator/role", role="viewer").status_code == 409
        assert act(admin, "/people", name="grace", role="administrator", password=PASSWORD).status_code == 303
        assert act(admin, "/people/administrator/role", role="viewer").status_code == 303
    with web.database.read() as connection:
        done = [row["what"] for row in people.audit_trail(connection, 50) if row["who"] == "administrator"]
    assert done == ["changed a role", "added a person", "shut out", "login"]


def test_the_audit_trail_cannot_be_changed(database_url: str) -> None:
    database = Database(database_url)
    database.upgrade()
    with database.write() as connection:
        people.note(connection, people.Somebody("ada", Role.ADMINISTRATOR), "", "login")
    for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), database.engine.begin() as connection:
            connection.execute(sa.text(statement))
    database.downgrade("0002")
    database.upgrade()
    database.close()


def test_what_a_header_says_is_text_on_the_page(web: Running) -> None:
    with web.browser(Role.AUDITOR) as auditor, web.client() as client:
        client.post("/login", data={"name": "<script>alert(1)</script>", "password": "x"})
        page = auditor.get("/audit", params={"who": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_every_answer_carries_the_security_headers(web: Running) -> None:
    with web.client() as client:
        for path in ("/login", "/static/athanor.js", "/api/v1/status", "/nowhere"):
            headers = client.get(path).headers
            assert "unsafe" not in headers["content-security-policy"]
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
