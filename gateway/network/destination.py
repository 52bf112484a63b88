"""Where instances are sent: the address of a destination, the steps of reaching it, and its deadlines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import ConfigurationError, DeliveryError
from gateway.network.tls import TlsFiles


class Step(StrEnum):
    """The steps of a transfer, in order."""

    RESOLVE = "name resolution"
    CONNECT = "transport connection"
    TLS = "TLS handshake"
    LOGIN = "login"
    ASSOCIATE = "association"
    CONTEXT = "presentation context"
    REQUEST = "request"
    RELEASE = "release"


class StepFailed(DeliveryError):  # noqa: N818 - the statement, not the suffix, says what it is
    """A step did not succeed; `worth_retrying` says whether it may later, with nothing changed on either side.

    `retry_after_s` is how long the peer asked to be left alone, 0 when it did not.
    """

    def __init__(self, step: Step, explanation: str, *, worth_retrying: bool, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{step}: {explanation}")
        self.step = step
        self.explanation = explanation
        self.worth_retrying = worth_retrying
        self.retry_after_s = retry_after_s


class TransferStopped(DeliveryError):  # noqa: N818
    """The transfer is no longer ours to finish: it was cancelled, or another worker has it."""


@dataclass(frozen=True, slots=True)
class DestinationAddress:
    """How to reach an application entity, and how long it may take.

    `response_timeout_s` bounds the wait for each single answer, `total_timeout_s` the whole transfer. With
    `tls` the association runs over TLS; `tls_server_name` is looked for in the peer's certificate instead of
    `host`.
    """

    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    tls: TlsFiles | None = None
    tls_server_name: str | None = None
    connect_timeout_s: float = 10.0
    response_timeout_s: float = 60.0
    total_timeout_s: float = 3600.0
    max_pdu_bytes: int = 131072

    def __post_init__(self) -> None:
        for title in (self.ae_title, self.calling_ae_title):
            if not 1 <= len(title.strip()) <= 16 or not title.isascii():
                raise ConfigurationError(f"AE title {title!r}; 1 to 16 ASCII characters are expected")
        if not 1 <= self.port <= 65535:
            raise ConfigurationError(f"port {self.port}; 1 to 65535 is expected")


class Clock:
    """The deadlines of one transfer, and the milliseconds that each step took."""

    def __init__(self, destination: DestinationAddress) -> None:
        self._destination = destination
        self._began = time.monotonic()
        self.milliseconds: dict[Step, float] = {}

    @contextmanager
    def timing(self, step: Step) -> Iterator[None]:
        """Add the time within to the step."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = (time.monotonic() - began) * 1000
            self.milliseconds[step] = self.milliseconds.get(step, 0.0) + spent

    @property
    def seconds(self) -> float:
        """Since the transfer began."""
        return time.monotonic() - self._began

    def connect_deadline(self) -> float:
        """By when the connection that is begun now must stand."""
        return self._deadline(self._destination.connect_timeout_s)

    def response_deadline(self) -> float:
        """By when the answer to what is sent now must be here."""
        return self._deadline(self._destination.response_timeout_s)

    def _deadline(self, seconds: float) -> float:
        return min(time.monotonic() + seconds, self._began + self._destination.total_timeout_s)
