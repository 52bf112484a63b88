"""Receive: one instance becomes one durable file; only then is Success answered (PS3.4 B.2.3). Its row follows.

    pieces written -> header read -> file synced -> linked into place -> folder synced -> 0x0000 ... row committed

Whatever goes wrong has a status that says so. A file whose row a crash lost is found again by `adopt_orphans`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gateway import logs, metrics
from gateway.dicom.elements import DEFAULT_LIMITS, Beginning, Encoded, HeaderLimits
from gateway.dicom.header import InstanceHeader, read_instance_header
from gateway.domain.completeness import AssociationState
from gateway.domain.refusal import Reason, Refusal
from gateway.domain.uids import is_valid_uid
from gateway.errors import DataSetMismatch, NotDicom, OutOfResources
from gateway.killpoints import reached
from gateway.network.part10 import part10_prefix
from gateway.network.receiver import AssociationEnd, AssociationInfo, Buffer, Incoming, StoreAnswer, StoreRequest
from gateway.store.arriving import Arriving, Place, Placed, sync_folder
from gateway.store.intake import Arrived, Caller, OnConflict, StoredFile
from gateway.store.recorder import Ended, Recorder, Refused
from gateway.store.spool import Spool

SUCCESS = 0x0000
DUPLICATE_INSTANCE = 0x0111
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_BEGINNING_BYTES = 16 * 1024
# the fragments of any other have to be walked, to the end of the file
_WITHOUT_FRAGMENTS = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian})

log = logs.get("receive")


@dataclass(frozen=True, slots=True)
class Receive:
    """The receiver of the storage SCP. Called in the thread of each association.

    `refused` is told of each instance for which there was no room: it must not write, for the disk is full.
    """

    spool: Spool
    recorder: Recorder
    on_conflict: OnConflict = "keep-first"
    limits: HeaderLimits = DEFAULT_LIMITS
    refused: Callable[[Refusal], None] = lambda _: None
    room: Room = field(default_factory=lambda: Room())
    callers: metrics.Callers = field(default_factory=metrics.Callers)

    def association_opened(self, info: AssociationInfo) -> None:
        """Record who called."""
        log.info("association opened", calling_ae_title=info.calling_ae_title, address=info.address)
        metrics.ASSOCIATIONS_OPEN.inc()
        self.recorder.put(_caller(info))

    def association_ended(self, info: AssociationInfo, how: AssociationEnd) -> None:
        """Record the end: it is the first evidence that the series it carried are complete."""
        log.info("association ended", how=how)
        metrics.ASSOCIATIONS_OPEN.dec()
        metrics.ASSOCIATIONS.labels(how).inc()
        self.recorder.put(Ended(info.id, AssociationState(how)))

    def begin(self, request: StoreRequest) -> Incoming:
        """Take one instance; what stands against it is the answer at its end."""
        if self.recorder.is_full:
            reason = "the database is away and too much waits for it; try later"
            return self.no_room(request, Reason.NOT_READY, reason)
        try:
            return _Instance(self, request, self.spool.receive(_prefix(request)))
        except OutOfResources as error:
            return self.no_room(request, Reason.NO_ROOM, str(error))
        except OSError as error:
            return self.no_room(request, Reason.DISK, _of_disk(error))

    def no_room(self, request: StoreRequest, why: Reason, reason: str) -> RefusedInstance:
        """Refuse for now: neither a row nor a line of the log for each, of which a full disk would see thousands."""
        info = request.association
        self.refused(Refusal(info.address, info.calling_ae_title, info.called_ae_title, why))
        self.room.is_gone(reason)
        metrics.refused_instance(OUT_OF_RESOURCES)
        return RefusedInstance(StoreAnswer(OUT_OF_RESOURCES, reason))

    def refuse(
        self, request: StoreRequest, status: int, reason: str, kept: str | None = None, pending: str | None = None
    ) -> RefusedInstance:
        """Record a refusal, which is the answer to whatever still comes of the instance."""
        log.warning("instance refused", status=f"0x{status:04X}", reason=reason, kept=kept)
        metrics.refused_instance(status)
        if not self.recorder.is_full:
            self.recorder.put(Refused(_caller(request.association), status, reason, kept, pending))
        return RefusedInstance(StoreAnswer(status, reason))


class Room:
    """Whether there is room for instances, as far as was seen; each change is logged once."""

    def __init__(self) -> None:
        self._is_there = True

    def is_gone(self, reason: str) -> None:
        """An instance was refused for want of it."""
        if self._is_there:
            self._is_there = False
            log.error("nothing is received", reason=reason)

    def is_there(self) -> None:
        """An instance was kept."""
        if not self._is_there:
            self._is_there = True
            log.info("received again")


@dataclass(frozen=True, slots=True)
class RefusedInstance:
    """An instance that was refused: what comes of it is passed over."""

    answer: StoreAnswer

    def write(self, *pieces: Buffer) -> None:
        """Nothing."""

    def finish(self) -> StoreAnswer:
        """Why."""
        return self.answer

    def discard(self) -> None:
        """Nothing."""


class _Instance:
    """An instance on its way into the spool."""

    def __init__(self, receive: Receive, request: StoreRequest, file: Arriving) -> None:
        self._receive = receive
        self._request = request
        self._file = file
        self._began = time.perf_counter()
        self._refused: RefusedInstance | None = None

    def write(self, *pieces: Buffer) -> None:
        """Append to its file; when that fails, the rest is passed over."""
        if self._refused is not None:
            return
        try:
            self._file.write(*pieces)
        except OutOfResources as error:
            self._find_no_room(Reason.NO_ROOM, str(error))
        except OSError as error:
            self._find_no_room(Reason.DISK, _of_disk(error))

    def finish(self) -> StoreAnswer:
        """Make the instance durable and findable, then answer."""
        if self._refused is None:
            try:
                return self._keep()
            except NotDicom as error:
                self._refuse(CANNOT_UNDERSTAND, str(error))
            except DataSetMismatch as error:
                self._refuse(DATA_SET_MISMATCH, str(error))
            except OSError as error:
                self._find_no_room(Reason.DISK, _of_disk(error))
            finally:
                self._file.close()
        assert self._refused is not None, "every branch above sets it"
        return self._refused.answer

    def discard(self) -> None:
        """The sender has gone in the middle of it: nothing was promised."""
        self._file.discard()

    def _keep(self) -> StoreAnswer:
        """The steps of the promise, in their order."""
        file, spool = self._file, self._receive.spool
        header = self._read_header()
        reached("receive.written")
        file.sync()
        reached("receive.synced")
        place = spool.link_received(file, header.series_instance_uid, header.sop_instance_uid)
        reached("receive.linked")
        sync_folder(place.folder)
        reached("receive.durable")
        if place.placed is Placed.BESIDE and self._receive.on_conflict == "refuse":
            return self._refuse_other_bytes(place)
        self._receive.recorder.put(
            Arrived(
                header,
                StoredFile(spool.relative(place.path), file.size_bytes, ""),
                _caller(self._request.association),
                place.pending,
                file.data_set_bytes,
            )
        )
        self._receive.room.is_there()
        reached("receive.queued")
        self._receive.callers.stored(self._request.association.calling_ae_title, file.size_bytes, self._began)
        return StoreAnswer(SUCCESS)

    def _read_header(self) -> InstanceHeader:
        if self._file.data_set_bytes == 0:
            raise NotDicom("found no data set, expected one; correct the sender")
        request, file = self._request, self._file
        header = None
        if request.transfer_syntax_uid in _WITHOUT_FRAGMENTS:
            # mapping a file takes longer than everything else about its header
            with suppress(NotDicom):
                header = self._header_of(Beginning.of(file.beginning(_BEGINNING_BYTES), file.data_set_bytes), 0)
        if header is None:
            with file.content() as (content, start):
                header = self._header_of(content, start)
        if request.study_instance_uid not in {None, header.study_instance_uid}:
            raise DataSetMismatch("Study Instance UID: found another than the request names; store it under its own")
        return header

    def _header_of(self, encoded: Encoded, start: int) -> InstanceHeader:
        request = self._request
        return read_instance_header(
            encoded,
            request.transfer_syntax_uid,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            start_at=start,
            limits=self._receive.limits,
        )

    def _refuse_other_bytes(self, place: Place) -> StoreAnswer:
        reason = "SOP Instance UID is stored already with other bytes, and listener.on_conflict is refuse"
        kept = self._receive.spool.relative(place.path)
        self._refused = self._receive.refuse(self._request, DUPLICATE_INSTANCE, reason, kept, place.pending)
        return self._refused.answer

    def _find_no_room(self, why: Reason, reason: str) -> None:
        self._file.discard()
        self._refused = self._receive.no_room(self._request, why, reason)

    def _refuse(self, status: int, reason: str) -> None:
        kept = self._receive.spool.quarantine(self._file)
        self._file.discard()
        self._refused = self._receive.refuse(self._request, status, reason, kept)


def _of_disk(error: OSError) -> str:
    """What the disk said, without the file name, which the peer has no business to know."""
    return f"spool: {error.strerror}"


def _caller(info: AssociationInfo) -> Caller:
    return Caller(info.id, info.calling_ae_title, info.called_ae_title, info.address)


def _prefix(request: StoreRequest) -> bytes:
    if not (is_valid_uid(request.sop_class_uid) and is_valid_uid(request.sop_instance_uid)):
        return b""  # only ever quarantined: no file meta can be written for it
    return part10_prefix(
        request.sop_class_uid,
        request.sop_instance_uid,
        request.transfer_syntax_uid,
        request.association.calling_ae_title,
    )
