"""STOW-RS, user agent (PS3.18 10.5): stored instances go to an HTTP origin server, with the outcomes of C-STORE.

The files go out as they are, from disk, a batch of them in a request. No redirect is followed and no proxy of the
environment is asked: instances go to the server of the settings or nowhere.
"""

from __future__ import annotations

import ipaddress
import ssl
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import httpx

from gateway.errors import ConfigurationError, NotDicom
from gateway.network.destination import Step, StepFailed
from gateway.network.outcomes import EchoReport, InstanceOutcome, OnAnswer, SendReport
from gateway.network.outgoing import OutgoingInstance, file_pieces
from gateway.network.pace import Pace, at_once
from gateway.network.requestor import resolve
from gateway.network.socket_deadline import SocketDeadline
from gateway.network.stow_answer import FINAL, STORE_RESPONSE, Answer, outcomes_of
from gateway.network.tls import TlsFiles, describe_failure

_PIECE_BYTES = 128 * 1024
_ANSWER_BYTES, _ANSWER_BYTES_PER_INSTANCE = 64 * 1024, 4 * 1024
_CRLF = b"\r\n"
_JSON, _XML = "application/dicom+json", "application/dicom+xml"


@dataclass(frozen=True, slots=True)
class StowAddress:
    """A STOW-RS server. `url` is the base of its services; `/studies` is added.

    `connect_timeout_s` bounds name, connection and TLS handshake, each; `response_timeout_s` each piece that is sent
    and the whole of each answer. `batch_bytes` go into one request, or one instance.
    """

    url: str
    token_file: Path | None = None
    tls: TlsFiles | None = None
    tls_server_name: str | None = None
    connect_timeout_s: float = 10.0
    response_timeout_s: float = 60.0
    batch_bytes: int = 50_000_000


def store(
    server: StowAddress, instances: Sequence[OutgoingInstance], on_answer: OnAnswer, pace: Pace = at_once
) -> SendReport:
    """Send every instance; never raises for what the server does: the report says it, instance by instance.

    A batch that is too large for the server (413) is halved, down to one instance. Raises TransferStopped when `pace`
    does.
    """
    began = time.monotonic()
    outcomes: list[InstanceOutcome] = []
    failure: StepFailed | None = None
    requests = 0
    batches = deque(_batches(instances, server.batch_bytes))
    try:
        with _Session(server) as session:
            while batches:
                batch = batches.popleft()
                requests += 1
                answer = session.store(batch, pace)
                if answer.code == 413 and len(batch) > 1:
                    half = len(batch) // 2
                    batches.extendleft((batch[half:], batch[:half]))
                    continue
                found = _outcomes(answer, batch)
                outcomes += found
                for outcome in found:
                    if outcome.status is not None:
                        on_answer(outcome.sop_instance_uid, outcome.status, outcome.explanation)
    except StepFailed as failed:
        failure = failed
    except NotDicom as error:
        failure = StepFailed(Step.REQUEST, str(error), worth_retrying=False)
    outcomes += [
        InstanceOutcome(instance.sop_instance_uid, None, f"not sent, or not answered: {failure}", worth_retrying=True)
        for instance in instances[len(outcomes) :]
    ]
    return SendReport(tuple(outcomes), failure, requests, time.monotonic() - began)


def ask(server: StowAddress) -> EchoReport:
    """Ask the server what it can do (OPTIONS, PS3.18 8.9): whether it is there, and lets us in.

    What it answers does not matter otherwise: few servers know the transaction.
    """
    milliseconds: dict[Step, float] = {}
    failure: StepFailed | None = None
    code = None
    try:
        with _Session(server, milliseconds) as session:
            answer = session.ask()
            code = answer.code
            if code in {401, 403} or 300 <= code < 400 or code >= 500:
                failure = StepFailed(Step.REQUEST, answer.words, worth_retrying=code >= 500)
    except StepFailed as failed:
        failure = failed
    return EchoReport(failure, code, milliseconds)


def _outcomes(answer: Answer, batch: Sequence[OutgoingInstance]) -> list[InstanceOutcome]:
    """What became of a batch. Raises StepFailed for an answer that speaks of the server and not of instances."""
    if answer.code in STORE_RESPONSE:
        return outcomes_of(answer, batch)
    if answer.code in FINAL or answer.code == 413:
        return [InstanceOutcome(one.sop_instance_uid, None, answer.words, worth_retrying=False) for one in batch]
    raise StepFailed(Step.REQUEST, answer.words, worth_retrying=True, retry_after_s=answer.retry_after_s)


def _batches(instances: Sequence[OutgoingInstance], batch_bytes: int) -> Iterator[list[OutgoingInstance]]:
    batch: list[OutgoingInstance] = []
    size = 0
    for instance in instances:
        length = _size(instance)
        if batch and size + length > batch_bytes:
            yield batch
            batch, size = [], 0
        batch.append(instance)
        size += length
    if batch:
        yield batch


def _size(instance: OutgoingInstance) -> int:
    try:
        return instance.path.stat().st_size
    except OSError as error:
        raise NotDicom(f"{instance.path}: cannot be read: {error.strerror}") from None


class _Session:
    """One connection to a server, for the requests of one transfer."""

    def __init__(self, server: StowAddress, milliseconds: dict[Step, float] | None = None) -> None:
        self._server = server
        self._deadline = SocketDeadline()
        self._milliseconds = {} if milliseconds is None else milliseconds
        self._step, self._step_began = Step.CONNECT, time.monotonic()
        self._url = f"{server.url}/studies"
        timeout = httpx.Timeout(server.response_timeout_s, connect=server.connect_timeout_s)
        self._client = httpx.Client(
            verify=self._context(), timeout=timeout, follow_redirects=False, trust_env=False, headers=self._headers()
        )

    def __enter__(self) -> Self:
        parts = urlsplit(self._server.url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            # the client would wait for the name service without a deadline
            self._begin(Step.RESOLVE)
            resolve(host, port, time.monotonic() + self._server.connect_timeout_s)
        self._deadline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._deadline.stop()
        self._client.close()

    def store(self, batch: Sequence[OutgoingInstance], pace: Pace) -> Answer:
        """Send one batch. Raises StepFailed, NotDicom, TransferStopped."""
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"--{boundary}--\r\n".encode()
        length = sum(len(head) + _size(instance) + len(_CRLF) for instance in batch) + len(tail)

        def body() -> Iterator[bytes]:
            for instance in batch:
                yield head
                for piece in file_pieces(instance, _PIECE_BYTES):
                    pace(len(piece))
                    self._deadline.begin(self._server.response_timeout_s)
                    yield piece
                yield _CRLF
            self._deadline.begin(self._server.response_timeout_s)
            yield tail

        pace(0)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(length),
        }
        limit = _ANSWER_BYTES + len(batch) * _ANSWER_BYTES_PER_INSTANCE
        return self._exchange("POST", headers, body(), limit)

    def ask(self) -> Answer:
        """Send OPTIONS. Raises StepFailed."""
        self._deadline.begin(self._server.connect_timeout_s + self._server.response_timeout_s)
        return self._exchange("OPTIONS", {}, None, _ANSWER_BYTES)

    def _exchange(self, method: str, headers: dict[str, str], body: Iterator[bytes] | None, limit: int) -> Answer:
        extensions: dict[str, Any] = {"trace": self._trace}
        if self._server.tls_server_name:
            extensions["sni_hostname"] = self._server.tls_server_name
        self._begin(Step.CONNECT)
        try:
            with self._client.stream(
                method, self._url, headers=headers, content=body, extensions=extensions
            ) as response:
                return _answer(response, limit)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._failed(error) from error
        except OSError as error:  # of a file: the transport's are httpx's
            raise StepFailed(
                Step.REQUEST, f"a stored file ended early: {error.strerror}", worth_retrying=True
            ) from error
        finally:
            self._deadline.end()
            self._milliseconds[self._step] = (time.monotonic() - self._step_began) * 1000

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """What httpcore is about: which step fails, and the socket that a deadline shuts."""
        name = event.partition(".")[2]
        if name == "connect_tcp.complete":
            self._deadline.guard(info["return_value"].get_extra_info("socket"))
        elif name == "start_tls.started":
            self._begin(Step.TLS)
        elif name == "start_tls.complete":
            self._deadline.guard(info["return_value"].get_extra_info("socket"))
        elif name == "send_request_headers.started":
            self._begin(Step.REQUEST)

    def _begin(self, step: Step) -> None:
        now = time.monotonic()
        self._milliseconds[self._step] = (now - self._step_began) * 1000
        self._step, self._step_began = step, now

    def _failed(self, error: Exception) -> StepFailed:
        place = urlsplit(self._server.url)
        if self._deadline.has_passed or isinstance(error, httpx.TimeoutException):
            words = "no answer in time" if self._step is Step.REQUEST else f"{place.netloc}: no answer in time"
        elif (cause := _cause(error, ssl.SSLError)) is not None:
            words = describe_failure(cause, self._server.tls_server_name or place.hostname or "")
        elif (refused := _cause(error, OSError)) is not None and refused.strerror:
            words = f"{place.netloc}: {refused.strerror.lower()}"
        else:
            words = "the server closed the connection, or broke HTTP, before it answered"
        step = Step.TLS if self._step is Step.REQUEST and _cause(error, ssl.SSLError) else self._step
        return StepFailed(step, words, worth_retrying=True)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": f"{_JSON}, {_XML};q=0.5", "Accept-Encoding": "identity", "User-Agent": "Athanor"}
        if (file := self._server.token_file) is not None:
            try:
                token = file.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                raise StepFailed(Step.REQUEST, f"token_file {file} cannot be read", worth_retrying=False) from None
            if not token.isprintable():
                raise StepFailed(Step.REQUEST, f"token_file {file} holds more than one line", worth_retrying=False)
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _context(self) -> ssl.SSLContext:
        if self._server.tls is None:
            return ssl.create_default_context()  # TLS 1.2 at least, and the authorities that this machine trusts
        try:
            return self._server.tls.calling_context()
        except ConfigurationError as error:
            raise StepFailed(Step.TLS, str(error), worth_retrying=False) from error


def _answer(response: httpx.Response, limit: int) -> Answer:
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > limit:
            raise StepFailed(Step.REQUEST, f"an answer of more than {limit} bytes", worth_retrying=True)
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    # where it leads may hold a key in its query
    location = urlunsplit((*urlsplit(response.headers.get("location", "")[:256])[:3], "", ""))
    return Answer(
        response.status_code, b"" if encoded else bytes(body), location,
        _seconds(response.headers.get("retry-after", "")),
    )  # fmt: skip


def _seconds(retry_after: str) -> float:
    """Retry-After in seconds; its other form, a date, counts as none: our own waits do."""
    return float(retry_after) if retry_after.isdecimal() and len(retry_after) < 10 else 0.0


def _cause(error: BaseException | None, kind: type[Any]) -> Any:
    """The error of `kind` that led to `error`, if there is one."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error
