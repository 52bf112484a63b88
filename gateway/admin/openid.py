"""The identity provider: where it is, what it signs with, and who it says somebody is (OpenID Connect Core 1.0).

Authorization code flow with PKCE (RFC 7636), state and nonce. Whatever the provider answers is judged here; nothing of
a code or a token gets into a message.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import jwt

from gateway.admin.access import NotAllowed
from gateway.errors import ConfigurationError, Unavailable
from gateway.settings.watch import OpenId, Web
from gateway.store.logins import Attempt

CALLBACK = "/login/openid/callback"

_WITHIN_S = 10.0  # a whole answer of the provider
_LARGEST_BYTES = 1_000_000
_KEPT_S = 3600.0  # discovery document and keys
_LEEWAY_S = 30.0  # the provider's clock and ours
_LONGEST_NAME, _LONGEST_SUBJECT = 64, 255
# what may sign an ID token, and the kind of key that it takes: never none, never a shared secret
_KEY_FOR = {"RS256": {"kty": "RSA"}, "PS256": {"kty": "RSA"}, "ES256": {"kty": "EC", "crv": "P-256"}}
_WORDS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired; compare the clocks of both",
    jwt.ImmatureSignatureError: "it is not valid yet; compare the clocks of both",
    jwt.InvalidAudienceError: "it is meant for another client; check web.oidc.client_id",
    jwt.InvalidIssuerError: "it is from another issuer; check web.oidc.issuer",
    jwt.InvalidSignatureError: "its signature does not hold with any key of the provider",
    jwt.MissingRequiredClaimError: "it lacks one of iss, sub, aud, exp and iat",
}


@dataclass(frozen=True, slots=True)
class Claimed:
    """Who the provider says that somebody is."""

    subject: str
    name: str
    groups: frozenset[str]


class Provider:
    """One provider, as the settings name it; its document and its keys are kept for an hour."""

    def __init__(self, openid: OpenId, web: Web) -> None:
        """Raises ConfigurationError when a file that the settings name cannot be read."""
        self._openid = openid
        self._redirect_uri = f"{web.public_url}{CALLBACK}"  # of the settings: a Host header is anybody's word
        self._host = urlsplit(openid.issuer).netloc
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}
        try:
            self._secret = openid.client_secret_file.read_text("utf-8").strip() if openid.client_secret_file else ""
            self._tls = ssl.create_default_context(cafile=openid.ca)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"web.oidc: cannot read client_secret_file or ca ({error}); expected files that this process may read"
            ) from None

    async def answers(self) -> str:
        """What it publishes, for whoever checks the settings. Raises Unavailable, ConfigurationError."""
        keys = await self._keys()
        usable = [one for one in keys if any(_fits(one, algorithm) for algorithm in _KEY_FOR)]
        if not usable:
            raise ConfigurationError(f"{self._host} has no key for {', '.join(_KEY_FOR)}")
        return f"{self._host} answers; keys that may sign: {len(usable)}"

    async def login_page(self, state: str, attempt: Attempt) -> str:
        """The address at the provider where somebody logs in. Raises Unavailable, ConfigurationError."""
        place = (await self._document())["authorization_endpoint"]
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._openid.client_id,
                "redirect_uri": self._redirect_uri,
                "scope": " ".join(self._openid.scopes),
                "state": state,
                "nonce": attempt.nonce,
                "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
                "code_challenge_method": "S256",
            }
        )
        return f"{place}{'&' if '?' in place else '?'}{query}"

    async def who(self, code: str, attempt: Attempt) -> Claimed:
        """Who came back with this code. Raises NotAllowed, Unavailable, ConfigurationError."""
        claims = await self._claims(await self._id_token(code, attempt))
        audience = claims["aud"]
        if claims.get("azp", self._openid.client_id) != self._openid.client_id or (
            isinstance(audience, list) and len(audience) > 1 and "azp" not in claims
        ):
            raise self._refused("it was given to another client; check web.oidc.client_id")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(errors="replace"), attempt.nonce.encode()):
            raise self._refused("it belongs to another login")
        subject = str(claims["sub"])
        if not 1 <= len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise self._refused(f"sub is not 1 to {_LONGEST_SUBJECT} printable characters")
        named = _found(claims, self._openid.name_claim)
        groups = _found(claims, self._openid.groups_claim)
        return Claimed(
            subject,
            _plain_name(named if isinstance(named, str) else "") or _plain_name(subject) or "somebody",
            frozenset(one for one in (groups if isinstance(groups, list) else [groups]) if isinstance(one, str)),
        )

    async def _id_token(self, code: str, attempt: Attempt) -> str:
        document = await self._document()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers = {}
        # without a list of ways it is the first (OpenID Connect Discovery 1.0, section 3)
        ways = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret and "client_secret_basic" in ways:
            both = f"{quote(self._openid.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
        else:
            form["client_id"] = self._openid.client_id
            if self._secret:
                form["client_secret"] = self._secret
        status, answer = await self._ask("POST", document["token_endpoint"], data=form, headers=headers)
        if status != 200 or not isinstance(answer.get("id_token"), str):
            raise NotAllowed(
                403,
                f"the identity provider {self._host} gave no ID token: {error_word(answer.get('error'))}, "
                f"HTTP {status}; begin again, and check web.oidc.client_id and its secret if it stays so",
            )
        return str(answer["id_token"])

    async def _claims(self, token: str) -> dict[str, Any]:
        """What a token says, once its signature, issuer, audience and times hold. Raises NotAllowed."""
        for is_last in (False, True):  # a key that we do not know may be new: ask for the keys again, once
            try:
                header = jwt.get_unverified_header(token)
                algorithm = str(header.get("alg"))
                if algorithm not in _KEY_FOR:
                    raise self._refused(f"it is not signed with one of {', '.join(_KEY_FOR)}")
                key = await self._key(algorithm, header.get("kid"), is_fresh=is_last)
                return jwt.decode(
                    token, key, algorithms=[algorithm],
                    audience=self._openid.client_id, issuer=self._openid.issuer, leeway=_LEEWAY_S,
                    options={"require": ["iss", "sub", "aud", "exp", "iat"], "enforce_minimum_key_length": True},
                )  # fmt: skip
            except (jwt.PyJWKError, jwt.InvalidSignatureError) as error:
                if is_last:
                    raise self._refused(_WORDS[jwt.InvalidSignatureError]) from error
            except jwt.PyJWTError as error:
                raise self._refused(_WORDS.get(type(error), type(error).__name__)) from error
        raise AssertionError("the last round returns or raises")

    async def _key(self, algorithm: str, key_id: Any, *, is_fresh: bool) -> jwt.PyJWK:
        """The key of the provider that a header means. Raises PyJWKError when there is not exactly one."""
        keys = await self._keys(is_fresh=is_fresh)
        fitting = [one for one in keys if _fits(one, algorithm) and (key_id is None or one.get("kid") == key_id)]
        if len(fitting) != 1:
            raise jwt.PyJWKError("no such key")
        return jwt.PyJWK(fitting[0], algorithm)

    async def _keys(self, *, is_fresh: bool = False) -> list[dict[str, Any]]:
        place = (await self._document())["jwks_uri"]
        found = (await self._get(place, is_fresh=is_fresh)).get("keys")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    async def _document(self) -> dict[str, Any]:
        """The discovery document. Raises ConfigurationError when it is another provider's, or leads to plain HTTP."""
        issuer = self._openid.issuer
        place = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._get(place)
        problem = ""
        if found.get("issuer") != issuer:
            problem = "names itself otherwise than web.oidc.issuer; copy issuer from its openid-configuration"
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            scheme = urlsplit(str(found.get(name))).scheme
            if not problem and scheme != "https" and (scheme, urlsplit(issuer).scheme) != ("http", "http"):
                problem = f"has no {name} by https; ask who runs it"
        if problem:
            del self._kept[place]  # it may be repaired within the hour
            raise ConfigurationError(f"the identity provider {self._host} {problem}")
        return found

    async def _get(self, place: str, *, is_fresh: bool = False) -> dict[str, Any]:
        until, kept = self._kept.get(place, (0.0, {}))
        if is_fresh or time.monotonic() > until:
            status, kept = await self._ask("GET", place)
            if status != 200:
                raise Unavailable(f"the identity provider {self._host} answered HTTP {status} for what it publishes")
            self._kept[place] = time.monotonic() + _KEPT_S, kept
        return kept

    async def _ask(self, method: str, place: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer, within a deadline and a size; redirects are not followed."""
        content = bytearray()
        try:
            async with (
                asyncio.timeout(_WITHIN_S),
                httpx.AsyncClient(verify=self._tls, trust_env=False) as client,
                client.stream(method, place, **options) as answer,
            ):
                async for piece in answer.aiter_bytes():
                    content += piece
                    if len(content) > _LARGEST_BYTES:
                        raise Unavailable(f"the identity provider {self._host} answered with too much")
        except TimeoutError:
            raise Unavailable(f"the identity provider {self._host} did not answer within {_WITHIN_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"the identity provider {self._host} could not be asked ({type(error).__name__}: {error}); "
                "check the network and the certificate"
            ) from None
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        return answer.status_code, found if isinstance(found, dict) else {}

    def _refused(self, words: str) -> NotAllowed:
        return NotAllowed(403, f"the ID token of {self._host} is refused: {words}; then log in again")


def error_word(word: object) -> str:
    """An error code of the provider (RFC 6749, section 5.2); any other text of it is left out."""
    return word if isinstance(word, str) and re.fullmatch("[a-z_]{1,40}", word) else "no reason given"


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    """Whether a key of a JWK Set may sign tokens in this way (RFC 7517, section 4)."""
    return (
        all(key.get(name) == value for name, value in _KEY_FOR[algorithm].items())
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )


def _found(claims: dict[str, Any], name: str) -> Any:
    """A claim by its name, or by a way through several, such as ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _plain_name(text: str) -> str:
    """A name as it may stand in the audit trail: without spaces, which the names of keys and commands have."""
    return re.sub(r"[^\w.@+-]+", "_", text).strip("_")[:_LONGEST_NAME]
