"""A destination that a test can make fail: pynetdicom's SCP, a foreign peer, which answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

ABORT = -1
"""What an answer may be besides a C-STORE status: the association is aborted and nothing answered."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A data set that came, as its bytes, and how it was answered."""

    sop_instance_uid: str
    transfer_syntax_uid: str
    encoded: bytes
    status: int


@dataclass
class FaultPacs:
    """Listens on `port` between `start` and `stop`, which may follow each other any number of times.

    `answer` is asked for the status of each instance, with how many came before it.
    """

    port: int
    transfer_syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    answer: Callable[[int], int] = lambda _: 0x0000
    stored: list[Stored] = field(default_factory=list)
    _server: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> Self:
        """Listen."""
        entity = AE("PACS")
        entity.network_timeout = 30
        for sop_class in (MRImageStorage, SecondaryCaptureImageStorage):
            entity.add_supported_context(sop_class, list(self.transfer_syntaxes))
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def stop(self) -> None:
        """Listen no more; what comes now is refused by the system."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def clear(self) -> None:
        """Forget what came and answer Success from now on."""
        self.answer = lambda _: 0x0000
        self.stored.clear()

    def accepted(self) -> list[str]:
        """SOP Instance UIDs that were answered with Success, in their order, repeated ones too."""
        return [item.sop_instance_uid for item in self.stored if item.status == 0x0000]

    def _store(self, event: Any) -> int:
        with self._lock:
            status = self.answer(len(self.stored))
            self.stored.append(
                Stored(
                    str(event.request.AffectedSOPInstanceUID),
                    str(event.context.transfer_syntax),
                    event.request.DataSet.getvalue(),
                    status,
                )
            )
        if status == ABORT:
            event.assoc.abort()
            return 0xC000  # nobody reads it any more
        return status

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
