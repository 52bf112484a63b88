"""Every route with every role and with none, from the OpenAPI document: a new route cannot be forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from web_application import Running

from gateway.domain.roles import Role, may

PUBLIC = {"/login", "/logout", "/setup", "/health", "/dicom-web/studies", "/dicom-web/studies/{study_instance_uid}"}
"""Asks for no role; each has tests of its own."""


def operations(empty_web: Running) -> Iterator[tuple[str, str, Role]]:
    """Method, path and needed role of each operation that is not public."""
    with empty_web.client(Role.VIEWER) as client:
        document = client.get("/api/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path not in PUBLIC:
                assert "x-role" in operation, f"{method} {path} was added without a role"
                yield method.upper(), path, Role(operation["x-role"])


def ask(client: httpx.Client, method: str, path: str) -> int:
    """The status of the answer; its body is not read, for news never end."""
    concrete = path.replace("{key_id}", "999").replace("{", "").replace("}", "")
    with client.stream(method, concrete) as answer:
        return answer.status_code


def test_each_role_may_what_the_document_says_and_no_more(empty_web: Running) -> None:
    asked = 0
    for method, path, needed in operations(empty_web):
        for role in Role:
            with empty_web.client(role) as client:
                status = ask(client, method, path)
            assert (status == 403) is not may(role, needed), f"{role} {method} {path}: {status}"
            assert status not in {401, 500}, f"{role} {method} {path}: {status}"
            asked += 1
    assert asked >= 4 * 20


def test_nobody_gets_in_without_a_login(empty_web: Running) -> None:
    with empty_web.client() as client:
        for method, path, _ in operations(empty_web):
            status = ask(client, method, path)
            assert status == 401 if path.startswith("/api/") else status == 303, f"{method} {path}: {status}"


def test_a_wrong_or_revoked_key_is_nobody(empty_web: Running) -> None:
    from gateway.store import people

    with empty_web.client(Role.OPERATOR) as client:
        assert client.get("/api/v1/status").status_code == 200
        with empty_web.database.write() as connection:
            key_id = next(key["id"] for key in people.keys(connection) if key["name"] == "operator")
            people.revoke_key(connection, key_id)
        assert client.get("/api/v1/status").status_code == 401
    wrong = httpx.get(f"{empty_web.url}/api/v1/status", headers={"Authorization": "Bearer athanor_wrong"})
    assert wrong.status_code == 401


def test_pages_are_as_open_as_the_document_says(empty_web: Running) -> None:
    """Routes that are kept out of the document would be walked by nobody."""
    with empty_web.client(Role.VIEWER) as client:
        documented = set(client.get("/api/openapi.json").json()["paths"])
    from gateway.admin.app import make_app

    app = make_app(empty_web.settings, empty_web.database, None, empty_web.kept, empty_web.setup_token)  # type: ignore[arg-type]
    paths = {getattr(route, "path", "") for route in app.routes}
    assert paths - documented <= {"/static", "/api/openapi.json", ""}
