"""Receive: one C-STORE becomes one durable file and one row; only then is Success answered (PS3.4 B.2.3).

    bytes -> header read -> file synced, renamed, folder synced -> row committed -> 0x0000

Whatever goes wrong has a status that says so. A file whose row a crash lost is found again by `adopt_orphans`.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from gateway import logs
from gateway.dicom.header import InstanceHeader, read_instance_header
from gateway.domain.completeness import AssociationState
from gateway.domain.uids import is_valid_uid
from gateway.errors import DataSetMismatch, DicomError, NotDicom, OutOfResources, Unavailable
from gateway.network.part10 import part10_prefix
from gateway.network.receiver import AssociationEnd, AssociationInfo, StoreAnswer, StoreRequest
from gateway.store import intake
from gateway.store.database import Database
from gateway.store.intake import Arrival, Caller, Raced, StoredFile
from gateway.store.spool import Spool

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

# where the elements after the group length begin in a file that part10_prefix began
_META_START = 128 + 4 + 12
_FILES_AT_A_TIME = 500
_CONFLICT = "SOP Instance UID is stored already with other bytes; the first is used, this one is kept beside it"

log = logs.get("receive")


@dataclass(frozen=True, slots=True)
class Receive:
    """The receiver of the storage SCP. Called in the thread of each association."""

    database: Database
    spool: Spool
    judge_after_s: float
    # associations that could not be recorded when they opened: their first instance does it
    unrecorded: set[str] = field(default_factory=set)

    def association_opened(self, info: AssociationInfo) -> None:
        """Record who called."""
        log.info("association opened", calling_ae_title=info.calling_ae_title, address=info.address)
        try:
            with self.database.write() as connection:
                intake.open_association(connection, _caller(info))
        except Unavailable as error:
            log.warning("association not recorded", reason=str(error))
            self.unrecorded.add(info.id)

    def association_ended(self, info: AssociationInfo, how: AssociationEnd) -> None:
        """Record the end: it is the first evidence that the series it carried are complete."""
        log.info("association ended", how=how)
        try:
            with self.database.write() as connection:
                intake.end_association(connection, info.id, AssociationState(how))
        except Unavailable as error:
            # the series then close on the long silence instead
            log.warning("end of association not recorded", reason=str(error))

    def store(self, request: StoreRequest) -> StoreAnswer:
        """Make the instance durable and findable, then answer."""
        try:
            self.spool.require_room(len(request.encoded))
            header = read_instance_header(
                request.encoded,
                request.transfer_syntax_uid,
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
            )
            file = self.spool.keep_received(header.series_instance_uid, header.sop_instance_uid, _part10(request))
            arrival = self._record(header, file, _caller(request.association))
        except NotDicom as error:
            return self._refuse(request, CANNOT_UNDERSTAND, str(error))
        except DataSetMismatch as error:
            return self._refuse(request, DATA_SET_MISMATCH, str(error))
        except OutOfResources as error:
            return self._refuse(request, OUT_OF_RESOURCES, str(error), keep=False)
        except OSError as error:
            # without the file name, which the peer has no business to know
            return self._refuse(request, OUT_OF_RESOURCES, f"spool: {error.strerror}", keep=False)
        except Unavailable as error:
            # the file is durable and will be adopted; the sender may send it again, the same bytes are then a Success
            return self._refuse(request, PROCESSING_FAILURE, str(error), keep=False)
        if arrival is Arrival.CONFLICT:
            return self._keep_beside(request, file)
        return StoreAnswer(SUCCESS)

    def _record(self, header: InstanceHeader, file: StoredFile, caller: Caller) -> Arrival:
        try:
            return self._record_once(header, file, caller)
        except Raced:
            return self._record_once(header, file, caller)  # now the other one's row is there to be compared with

    def _record_once(self, header: InstanceHeader, file: StoredFile, caller: Caller) -> Arrival:
        with self.database.write() as connection:
            if caller.association_id in self.unrecorded:
                intake.open_association(connection, caller)
            arrival = intake.record_instance(connection, header, file, caller, judge_after_s=self.judge_after_s)
        self.unrecorded.discard(caller.association_id)
        return arrival

    def _keep_beside(self, request: StoreRequest, file: StoredFile) -> StoreAnswer:
        """The same SOP Instance UID with other bytes: the first is kept, this one lies beside it and is flagged."""
        log.warning("conflicting instance", path=file.path)
        with self.database.write() as connection:
            intake.record_quarantine(
                connection, _caller(request.association), status=SUCCESS, reason=_CONFLICT, path=file.path
            )
        return StoreAnswer(SUCCESS)

    def _refuse(self, request: StoreRequest, status: int, reason: str, *, keep: bool = True) -> StoreAnswer:
        path = self.spool.keep_quarantined(_part10(request)) if keep else None
        log.warning("instance refused", status=f"0x{status:04X}", reason=reason, kept=path)
        try:
            with self.database.write() as connection:
                intake.record_quarantine(
                    connection, _caller(request.association), status=status, reason=reason, path=path
                )
        except Unavailable as error:
            log.warning("refusal not recorded", reason=str(error))
        return StoreAnswer(status, reason)


def adopt_orphans(database: Database, spool: Spool, *, judge_after_s: float) -> int:
    """At start: give a row to every file of the spool that has none, and end what a dead SCP left open.

    Such files were durable but never acknowledged, or acknowledged by a row that the database lost. The number adopted.
    A file that cannot be read is reported and left where it is.
    """
    with database.write() as connection:
        intake.abort_open_associations(connection)
    callers: dict[str, Caller] = {}
    adopted = 0
    for relative in _without_row(database, spool):
        try:
            adopted += _adopt(database, spool.path(relative), relative, callers, judge_after_s)
        except Unavailable:
            raise
        except OSError as error:  # of the disk, and perhaps gone at the next start
            log.warning("file not adopted", path=relative, reason=error.strerror)
        except Exception as error:  # noqa: BLE001 - the edge of one file: none may keep the SCP from starting
            _leave(database, relative, error)
    if adopted:
        log.info("files adopted", files=adopted)
    return adopted


def _without_row(database: Database, spool: Spool) -> Iterator[str]:
    """The paths of received files that have no row; asked for many at a time, for a spool may hold millions."""
    paths = (str(file.relative_to(spool.folder)) for file in spool.received_files())
    while batch := list(islice(paths, _FILES_AT_A_TIME)):
        with database.read() as connection:
            known = intake.known_paths(connection, batch)
        yield from (path for path in batch if path not in known)


def _adopt(database: Database, file: Path, relative: str, callers: dict[str, Caller], judge_after_s: float) -> bool:
    meta = read_file_meta_info(file)
    content = file.read_bytes()
    data_set = content[_META_START + meta.FileMetaInformationGroupLength :]
    ae_title = str(meta.get("SourceApplicationEntityTitle", ""))
    # one ended association for each sender stands for those whose rows are lost
    caller = callers.setdefault(ae_title, Caller(str(uuid.uuid4()), ae_title, "", ""))
    header = read_instance_header(
        data_set,
        meta.TransferSyntaxUID,
        sop_class_uid=meta.MediaStorageSOPClassUID,
        sop_instance_uid=meta.MediaStorageSOPInstanceUID,
    )
    stored = StoredFile(relative, len(content), hashlib.sha256(data_set).hexdigest())
    with database.write() as connection:
        intake.open_association(connection, caller)
        arrival = intake.record_instance(connection, header, stored, caller, judge_after_s=judge_after_s)
        intake.end_association(connection, caller.association_id, AssociationState.ABORTED)
        if arrival is Arrival.CONFLICT:
            intake.record_quarantine(connection, caller, status=SUCCESS, reason=_CONFLICT, path=relative)
    return arrival is Arrival.NEW


def _leave(database: Database, relative: str, error: Exception) -> None:
    """Report a file that cannot be read, once: its row keeps the next start from trying it again."""
    found = str(error) if isinstance(error, DicomError) else type(error).__name__
    reason = f"found in the spool without a row, and it cannot be read: {found}; it is left where it is"
    log.warning("file not adopted", path=relative, reason=reason)
    with database.write() as connection:
        unknown = Caller("", "", "", "")
        intake.record_quarantine(connection, unknown, status=CANNOT_UNDERSTAND, reason=reason, path=relative)


def _caller(info: AssociationInfo) -> Caller:
    return Caller(info.id, info.calling_ae_title, info.called_ae_title, info.address)


def _part10(request: StoreRequest) -> tuple[bytes, ...]:
    if not (is_valid_uid(request.sop_class_uid) and is_valid_uid(request.sop_instance_uid)):
        return (request.encoded,)  # only ever quarantined: no file meta can be written for it
    prefix = part10_prefix(
        request.sop_class_uid,
        request.sop_instance_uid,
        request.transfer_syntax_uid,
        request.association.calling_ae_title,
    )
    return prefix, request.encoded
