"""Who may send over HTTP: a bearer token for each sender, of which the settings hold the digest only."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping

from fastapi import HTTPException, Request

from gateway import logs
from gateway.admin import access

log = logs.get("web")

_PREFIX = "sha256:"


class Senders:
    """The senders of ``[web.senders]``, by name; the name stands where C-STORE has the calling AE title."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._digests = digests

    def sender_of(self, request: Request) -> str:
        """The sender whose token the request shows. Raises HTTPException 401, which says how to get one."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        shown = digest_of(token.strip())
        for name, digest in self._digests.items():
            # in constant time: how long a refusal takes tells nothing of the digest
            if scheme.lower() == "bearer" and hmac.compare_digest(shown, digest):
                return name
        log.warning("sender not known", address=request.client.host if request.client else "")
        raise HTTPException(
            401,
            "Authorization: found no token of a known sender; expected Bearer and one made by `athanor token NAME`",
            {"WWW-Authenticate": 'Bearer realm="athanor"'},
        )


def new_token() -> str:
    """A token that nobody guesses: 256 random bits, so that a plain digest of it is as good as a slow one."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What the settings hold of a token."""
    return _PREFIX + access.digest_of(token)
