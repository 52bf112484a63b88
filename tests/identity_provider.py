"""A small identity provider on the loopback: discovery, login page, tokens, keys; honest until told otherwise."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLIENT_ID, CLIENT_SECRET = "athanor", "the secret: of / the client"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Claims = dict[str, Any]


def new_key(algorithm: str) -> PrivateKey:
    """A private key for RS256, PS256 or ES256."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def _first_key() -> PrivateKey:
    return new_key("RS256")


def unsigned(claims: Claims, header: Claims, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A token as an attacker writes one, whom no library stops."""

    def part(content: bytes) -> bytes:
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    head = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
    return (head + b"." + part(sign(head))).decode()


@dataclass
class IdentityProvider:
    """One that listens; what a test changes of it, it does from then on."""

    claims: Claims = field(default_factory=lambda: {"sub": "ada-1", "preferred_username": "ada", "groups": ["readers"]})
    algorithm: str = "RS256"
    key_id: str = "one"
    keys: dict[str, PrivateKey] = field(default_factory=lambda: {"one": _first_key()})
    forge: Callable[[IdentityProvider, Claims], str] | None = None  # the token instead of the honest one
    ways: tuple[str, ...] | None = ("client_secret_basic",)
    takes_codes_again: bool = False
    named: str = ""  # the issuer in the discovery document, if not the true one
    redirects: str = ""  # where the token endpoint leads to, if not nowhere
    asked: list[str] = field(default_factory=list)  # paths
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def rotate(self, key_id: str, algorithm: str = "RS256") -> None:
        """Sign with a new key from now on; the old one is gone."""
        self.keys, self.key_id, self.algorithm = {key_id: new_key(algorithm)}, key_id, algorithm

    def public_pem(self) -> bytes:
        """The key of now, as everybody may read it."""
        return self.keys[self.key_id].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def document(self) -> Claims:
        """What stands in the discovery document."""
        ways = {} if self.ways is None else {"token_endpoint_auth_methods_supported": list(self.ways)}
        return {
            "issuer": self.named or self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?realm=house",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            **ways,
        }

    def key_set(self) -> Claims:
        """The public keys as a JWK Set."""
        keys = []
        for key_id, key in self.keys.items():
            kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
            keys.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig"})  # type: ignore[arg-type]
        return {"keys": keys}

    def code_for(self, asked: dict[str, str]) -> str:
        """Somebody logged in: a code for what the client asked."""
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["realm"] == "house", "the query of our own endpoint is kept"
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        return code

    def token_for(self, form: dict[str, str], authorization: str) -> tuple[int, Claims]:
        """The answer of the token endpoint."""
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        if authorization.startswith("Basic "):
            client, secret = map(unquote, base64.b64decode(authorization[6:]).decode().split(":"))
        if (client, secret) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        code = form.get("code", "")
        asked = self._codes.get(code) if self.takes_codes_again else self._codes.pop(code, None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or (asked["redirect_uri"], asked["code_challenge"]) != (form["redirect_uri"], challenge):
            return 400, {"error": "invalid_grant", "error_description": "<script>alert(1)</script>"}
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "exp": time.time() + 300, "iat": time.time(),
            "nonce": asked["nonce"], **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return 200, {"token_type": "Bearer", "access_token": "x", "id_token": self._token(claims)}

    def _token(self, claims: Claims) -> str:
        if self.forge:
            return self.forge(self, claims)
        return jwt.encode(claims, self.keys[self.key_id], self.algorithm, {"kid": self.key_id})


class _Handler(BaseHTTPRequestHandler):
    provider: IdentityProvider

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        self.provider.asked.append(place.path)
        asked = {name: values[0] for name, values in parse_qs(place.query).items()}
        if place.path == "/authorize":
            back = urlencode(
                {"code": self.provider.code_for(asked), "state": asked["state"], "iss": self.provider.issuer}
            )
            self._answer(200, "text/html", f'<title>House</title><a href="{asked["redirect_uri"]}?{back}">I am Ada</a>')
        elif place.path == "/jwks":
            self._answer(200, "application/json", json.dumps(self.provider.key_set()))
        elif place.path == "/.well-known/openid-configuration":
            self._answer(200, "application/json", json.dumps(self.provider.document()))
        else:
            self._answer(404, "text/plain", "")

    def do_POST(self) -> None:
        self.provider.asked.append(self.path)
        if self.provider.redirects:
            self._answer(307, "text/plain", "", Location=self.provider.redirects)
            return
        content = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(content).items()}
        status, answer = self.provider.token_for(form, self.headers.get("Authorization", ""))
        self._answer(status, "application/json", json.dumps(answer))

    def _answer(self, status: int, kind: str, content: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        """Nothing: tests read what was asked in `asked`."""


def hs256_with_the_public_key(provider: IdentityProvider, claims: Claims) -> str:
    """A token whose shared secret is what everybody may read."""
    header = {"alg": "HS256", "typ": "JWT", "kid": provider.key_id}
    return unsigned(claims, header, lambda head: hmac.digest(provider.public_pem(), head, "sha256"))
