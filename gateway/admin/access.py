"""Who is behind a request, and whether that is enough for what is asked.

A person has a cookie with 256 random bits that names a row of `web_session`; a program has an API key. Unsafe methods
under a cookie also need a token that only our own pages know, and a request that comes from them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from gateway import logs
from gateway.domain.roles import Role, may
from gateway.store import people
from gateway.store.database import Database
from gateway.store.people import Somebody

COOKIE = "athanor_session"
KEY_PREFIX = "athanor_"
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"

_SHORTEST_PASSWORD = 12
_FREE_FAILURES, _FIRST_LOCK_S, _LONGEST_LOCK_S = 4, 30.0, 900.0
_LOGINS_A_MINUTE = 20  # of one address, good or bad
_HASHER = PasswordHasher()  # Argon2id with the library's parameters (RFC 9106, low memory)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

log = logs.get("web")


class NotAllowed(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """The request is refused: 401 who are you, 403 not you, 429 not so fast."""

    def __init__(self, code: int, words: str) -> None:
        self.code = code
        super().__init__(words)


class Access:
    """Logins, sessions and keys of one web process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._nobody = _HASHER.hash(secrets.token_urlsafe())
        self._attempts: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = Lock()

    def log_in(self, name: str, password: str, address: str, agent: str) -> str:
        """What the cookie of a new session holds. Raises NotAllowed as `prove` does."""
        return self.open_session(self.prove(name, password, address), address, agent)

    def prove(self, name: str, password: str, address: str) -> Somebody:
        """Whose name and password these are. Raises NotAllowed; it never tells whether the name exists."""
        self.slow_down(address)
        with self._database.read() as connection:
            account = people.account(connection, name)
        # a wrong name costs as much time as a wrong password
        is_right = self._verifies(account.password_hash if account else None, password)
        if account is None or account.is_locked or not is_right:
            with self._database.write() as connection:
                if account is not None and not account.is_locked:
                    people.record_failed_login(
                        connection, account.person_id,
                        free=_FREE_FAILURES, first_s=_FIRST_LOCK_S, longest_s=_LONGEST_LOCK_S,
                    )  # fmt: skip
                known = Somebody(account.name if account else "", account.role if account else Role.VIEWER)
                people.note(connection, known, address, "login failed")
            log.warning("login failed", address=address)
            raise NotAllowed(
                401, "name or password is wrong, or the account is locked for a while after too many attempts"
            )
        return Somebody(account.name, account.role, account.person_id)

    def open_session(self, somebody: Somebody, address: str, agent: str) -> str:
        """A new session of a person; what the cookie is to hold."""
        assert somebody.person_id is not None, "a key has no session"
        token = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            people.open_session(connection, somebody.person_id, digest_of(token), address, agent)
            people.note(connection, somebody, address, "login")
        return token

    def somebody_of(self, request: Request) -> Somebody | None:
        """The person or key behind a request; None without, or when session or key ended."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key.startswith(KEY_PREFIX):
            return self._of_key(digest_of(key))
        cookie = request.cookies.get(COOKIE)
        return self._of_session(digest_of(cookie)) if cookie else None

    def _of_session(self, digest: str) -> Somebody | None:
        with self._database.read() as connection:
            found = people.of_session(connection, digest)
        return self._seen(found, people.touch_session, digest)

    def _of_key(self, digest: str) -> Somebody | None:
        with self._database.read() as connection:
            found = people.of_key(connection, digest)
        return self._seen(found, people.touch_key, digest)

    def _seen(
        self, found: tuple[Somebody, bool] | None, touch: Callable[[Any, str], None], digest: str
    ) -> Somebody | None:
        """Who was found, after the use was written if that is due."""
        if found is None:
            return None
        somebody, is_due = found
        if is_due:
            with self._database.write() as connection:
                touch(connection, digest)
        return somebody

    def _verifies(self, password_hash: str | None, password: str) -> bool:
        try:
            return _HASHER.verify(password_hash or self._nobody, password) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False

    def slow_down(self, address: str) -> None:
        """Count a login of this address. Raises NotAllowed when there were too many within a minute."""
        with self._lock:
            attempts = self._attempts[address]
            while attempts and attempts[0] < time.monotonic() - 60.0:
                attempts.popleft()
            if len(attempts) >= _LOGINS_A_MINUTE:
                raise NotAllowed(429, "too many logins from this address; try again in a minute")
            attempts.append(time.monotonic())
            if len(self._attempts) > 10_000:  # a flood of addresses must not fill the memory
                self._attempts.clear()


def needs(role: Role) -> Callable[[Request], Awaitable[Somebody]]:
    """A dependency that lets in whoever may do what `role` may, and gives who that is. Raises NotAllowed."""

    async def somebody(request: Request) -> Somebody:
        access: Access = request.app.state.access
        found = await run_in_threadpool(access.somebody_of, request)
        if found is None:
            raise NotAllowed(401, "log in, or show an API key in the Authorization header")
        if not may(found.role, role):
            raise NotAllowed(403, f"found the role {found.role}; expected one that may do what {role} may")
        if request.method not in _SAFE and found.person_id is not None:
            await require_own_page(request)
        request.state.somebody = found
        return found

    return somebody


async def require_own_page(request: Request) -> None:
    """Raise NotAllowed unless an unsafe request under a cookie was made by one of our pages."""
    require_same_site(request)
    shown = request.headers.get(CSRF_HEADER)
    if shown is None and "form" in request.headers.get("content-type", ""):
        shown = str((await request.form()).get(CSRF_FIELD, ""))
    if not hmac.compare_digest(shown or "", csrf_token(request)):
        raise NotAllowed(403, "the page is out of date; load it again, then repeat")


def require_same_site(request: Request) -> None:
    """Raise NotAllowed when a page of another site made the browser send this."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"} or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    ):
        raise NotAllowed(403, "the request comes from another site; use the pages of this gateway")


def csrf_token(request: Request) -> str:
    """What our pages put into their forms: a function of the session that another site cannot compute."""
    cookie = request.cookies.get(COOKIE, "")
    return hmac.new(cookie.encode(), b"csrf", hashlib.sha256).hexdigest() if cookie else ""


def hash_password(password: str) -> str:
    """The Argon2id hash of a new password. Raises NotAllowed when it is too short."""
    if len(password) < _SHORTEST_PASSWORD:
        raise NotAllowed(400, f"password: found {len(password)} characters; expected {_SHORTEST_PASSWORD} or more")
    return _HASHER.hash(password)


def new_key() -> str:
    """A new API key, shown once."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What the database holds of a cookie or a key: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
