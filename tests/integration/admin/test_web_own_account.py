"""/me and the sessions of everybody: what a person changes alone, what an administrator ends."""

from __future__ import annotations

import re

import httpx
import sqlalchemy as sa
from web_application import PASSWORD, Running

from gateway.admin.access import COOKIE, digest_of
from gateway.domain.roles import Role
from gateway.store import people
from gateway.store.tables import web_session

NEW = "another long enough password"


def act(client: httpx.Client, path: str, **form: str) -> httpx.Response:
    csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/me").text)
    assert csrf
    return client.post(path, data={**form, "csrf": csrf[1]})


def test_the_own_password_is_changed_with_the_one_of_now_and_other_sessions_end(web: Running) -> None:
    with web.browser(Role.VIEWER) as client, web.browser(Role.VIEWER) as other, web.browser(Role.OPERATOR) as operator:
        wrong = act(client, "/me/password", password="not the password", new=NEW)
        assert wrong.status_code == 403
        assert "not changed: name or password is wrong" in wrong.text
        assert act(client, "/me/password", password=PASSWORD, new="short").status_code == 400
        assert other.get("/me").status_code == 200
        assert act(client, "/me/password", password=PASSWORD, new=NEW).headers["location"] == "/me"
        assert client.get("/me").status_code == 200
        assert other.get("/me").status_code == 303
        assert operator.get("/me").status_code == 200
        assert client.post("/login", data={"name": "viewer", "password": PASSWORD}).status_code == 401
        assert client.post("/login", data={"name": "viewer", "password": NEW}).status_code == 303
    with web.database.read() as connection:
        assert "changed the own password" in [row["what"] for row in people.audit_trail(connection, 9)]


def test_sessions_are_listed_and_ended_by_their_owner_alone(web: Running) -> None:
    with web.browser(Role.VIEWER) as client, web.browser(Role.VIEWER) as other, web.browser(Role.OPERATOR) as operator:
        other.headers["user-agent"] = "x"
        mine = client.get("/api/v1/me/sessions").json()
        assert {one["name"] for one in mine} == {"viewer"}
        assert len(mine) == 2
        assert "python-httpx" in mine[0]["agent"]
        # not those of somebody else
        digest = digest_of(operator.cookies[COOKIE])
        assert act(client, f"/me/sessions/{digest}/end").status_code == 303
        assert operator.get("/me").status_code == 200
        assert act(client, f"/me/sessions/{digest_of(other.cookies[COOKIE])}/end").status_code == 303
        assert other.get("/me").status_code == 303
    with web.browser(Role.VIEWER) as client, web.browser(Role.VIEWER) as other:
        assert act(client, "/me/sessions/end-others").status_code == 303
        assert other.get("/me").status_code == 303
        assert len(client.get("/api/v1/me/sessions").json()) == 1


def test_an_administrator_ends_any_session_or_all_of_a_person(web: Running) -> None:
    with web.browser(Role.ADMINISTRATOR) as admin, web.browser(Role.VIEWER) as one, web.browser(Role.VIEWER) as two:
        assert {row["name"] for row in admin.get("/api/v1/sessions").json()} == {"administrator", "viewer"}
        with web.client(Role.ADMINISTRATOR) as program:
            digest = digest_of(one.cookies[COOKIE])
            assert program.delete(f"/api/v1/sessions/{digest}").json() == {"ended": True}
            assert program.delete(f"/api/v1/sessions/{digest}").json() == {"ended": False}
        assert one.get("/me").status_code == 303
        assert act(admin, "/people/viewer/sessions/end").status_code == 303
        assert two.get("/me").status_code == 303
        assert act(admin, "/people/nobody/sessions/end").status_code == 404


def test_what_ended_by_itself_is_not_listed_and_goes_with_the_next_login(web: Running) -> None:
    with web.browser(Role.VIEWER) as client, web.browser(Role.OPERATOR) as operator:
        with web.database.write() as connection:
            connection.execute(
                sa.update(web_session)
                .where(web_session.c.digest == digest_of(client.cookies[COOKIE]))
                .values(seen_at=web_session.c.seen_at - people.IDLE_S - 1)
            )
        assert client.get("/me").status_code == 303
        with web.database.read() as connection:
            assert [row["name"] for row in people.sessions(connection)] == ["operator"]
        operator.post("/login", data={"name": "operator", "password": PASSWORD})
    with web.database.read() as connection:
        names = connection.execute(sa.select(sa.func.count()).select_from(web_session)).scalar_one()
    assert names == 2


def test_an_api_key_sees_its_role_and_has_no_password(empty_web: Running) -> None:
    with empty_web.client(Role.OPERATOR) as program:
        assert program.get("/api/v1/me").json() == {"name": "key operator", "role": "operator"}
        assert program.get("/api/v1/me/sessions").json() == []
        assert "neither password nor sessions" in program.get("/me").text
        assert program.post("/me/password", data={"password": PASSWORD, "new": NEW}).status_code == 409
