"""A letter by HTTP POST, as JSON, signed as the Standard Webhooks specification has it.

No redirect is followed and no proxy is asked: the request goes to the address that was judged, or nowhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from gateway.domain.alerts import Letter
from gateway.errors import ConfigurationError
from gateway.network.destination import Step, StepFailed
from gateway.network.reachable import Resolver, places
from gateway.network.requestor import Place, resolve
from gateway.network.socket_deadline import SocketDeadline
from gateway.network.tls import TlsFiles, describe_failure

_ENCODED = "whsec_"
_WORTH_RETRYING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """Where letters are posted; name, connection, TLS and answer together take `timeout_s` at most."""

    url: str
    secret_file: Path | None = None
    ca: Path | None = None
    allow_private: bool = False
    timeout_s: float = 15.0
    resolver: Resolver = resolve


def send(address: WebhookAddress, letter: Letter) -> None:
    """Post a letter; any 2xx means that it was taken. Raises StepFailed, which says at which step."""
    deadline = time.monotonic() + address.timeout_s
    parts = urlsplit(address.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        body = json.dumps(letter.document, separators=(",", ":")).encode()
        headers = {"Host": parts.netloc, "User-Agent": "Athanor", "Content-Type": "application/json"}
        headers |= _signature(address.secret_file, letter.id, int(time.time()), body)
        context = TlsFiles(ca=address.ca).calling_context() if address.ca else ssl.create_default_context()
    except ConfigurationError as error:
        raise StepFailed(Step.REQUEST, str(error), worth_retrying=False) from error
    found = places(host, port, deadline, allow_private=address.allow_private, resolver=address.resolver)
    for place in found[:-1]:
        try:
            return _Post(address.url, host, place, deadline).send(context, headers, body)
        except StepFailed as failed:
            if failed.step is not Step.CONNECT:
                raise
    return _Post(address.url, host, found[-1], deadline).send(context, headers, body)


class _Post:
    """One request to one address of the server."""

    def __init__(self, url: str, host: str, place: Place, deadline: float) -> None:
        self._url = httpx.URL(url).copy_with(host=place[1][0])
        self._host = host
        self._left_s = max(0.001, deadline - time.monotonic())
        self._watch = SocketDeadline()
        self._step = Step.CONNECT

    def send(self, context: ssl.SSLContext, headers: dict[str, str], body: bytes) -> None:
        """Raises StepFailed."""
        # the name in the certificate is that of the settings, though the connection goes to an address
        extensions = {"trace": self._trace, "sni_hostname": self._host}
        self._watch.start()
        self._watch.begin(self._left_s)
        try:
            with (
                httpx.Client(verify=context, timeout=self._left_s, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", self._url, headers=headers, content=body, extensions=extensions) as answer,
            ):
                code = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StepFailed(self._step, f"{self._host}: {self._words(error)}", worth_retrying=True) from error
        finally:
            self._watch.stop()
        if not 200 <= code < 300:
            words = "; redirects are not followed" if 300 <= code < 400 else ""
            again = code >= 500 or code in _WORTH_RETRYING
            raise StepFailed(Step.REQUEST, f"{self._host} answered {code}{words}", worth_retrying=again)

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        name = event.partition(".")[2]
        if name in {"connect_tcp.complete", "start_tls.complete"}:
            self._watch.guard(info["return_value"].get_extra_info("socket"))
        if name == "start_tls.started":
            self._step = Step.TLS
        elif name == "send_request_headers.started":
            self._step = Step.REQUEST

    def _words(self, error: BaseException) -> str:
        if self._watch.has_passed or isinstance(error, httpx.TimeoutException):
            return "no answer in time"
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLError):
                return describe_failure(cause, self._host)
            if isinstance(cause, OSError) and cause.strerror:
                return cause.strerror.lower()
            cause = cause.__cause__ or cause.__context__
        return "the server closed the connection, or broke HTTP, before it answered"


def _signature(file: Path | None, letter_id: str, at: int, body: bytes) -> dict[str, str]:
    """Id, time and, with a secret, the HMAC-SHA256 of both and the body (Standard Webhooks 1.0.0)."""
    headers = {"webhook-id": letter_id, "webhook-timestamp": str(at)}
    if file is not None:
        digest = hmac.digest(_secret(file), f"{letter_id}.{at}.".encode() + body, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _secret(file: Path) -> bytes:
    """The key in a file: what stands there, or after whsec_ what its base64 means. Raises ConfigurationError."""
    try:
        text = file.read_text(encoding="utf-8").strip()
        return (
            base64.b64decode(text.removeprefix(_ENCODED), validate=True) if text.startswith(_ENCODED) else text.encode()
        )
    except (OSError, UnicodeDecodeError, binascii.Error):
        raise ConfigurationError(f"secret_file {file} cannot be read; a text file with one line is expected") from None
