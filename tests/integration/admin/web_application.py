"""A web application that listens, as tests see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from keeping import Keeping

from gateway.admin.access import Access
from gateway.admin.setup_token import SetupToken
from gateway.domain.roles import Role
from gateway.settings import Settings
from gateway.store import people
from gateway.store.database import Database

PASSWORD = "a long enough password"
TOKEN = "the token of SCANNER3"


@dataclass(frozen=True)
class Running:
    """A web application that listens."""

    url: str
    settings: Settings
    database: Database
    setup_token: SetupToken
    keys: dict[Role, str]
    kept: Keeping

    def client(self, role: Role | None = None) -> httpx.Client:
        """A client with the API key of a role, or with none; it follows no redirect."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"} if role else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    @contextmanager
    def browser(self, role: Role) -> Iterator[httpx.Client]:
        """A client that logged in as the person of that role."""
        with self.client() as client:
            answer = client.post("/login", data={"name": role.value, "password": PASSWORD})
            assert answer.status_code == 303, answer.text
            yield client

    def populate(self) -> None:
        """A person of each role."""
        access = Access(self.database)
        password_hash = access.hash_password(PASSWORD)
        with self.database.write() as connection:
            for role in Role:
                people.add_person(connection, role.value, role, password_hash)
