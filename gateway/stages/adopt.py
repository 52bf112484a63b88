"""Adopt: what a dead receiver left in the spool gets its rows, before its successor receives anything.

A received file keeps a second name in the incoming folder of its process until its row has its digest, so only those
names are looked at, however large the spool is. The whole spool is searched when `Spool.look_everywhere` asked for it,
as after the database was restored from a backup, and when the database knows no instance at all.
"""

from __future__ import annotations

import hashlib
import mmap
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from gateway import logs
from gateway.dicom.elements import DEFAULT_LIMITS, HeaderLimits
from gateway.dicom.header import read_instance_header
from gateway.domain.completeness import AssociationState
from gateway.errors import DicomError, Unavailable
from gateway.killpoints import reached
from gateway.store import intake, retention
from gateway.store.database import Database
from gateway.store.intake import Arrival, Arrived, Caller, OnConflict, StoredFile
from gateway.store.spool import Spool

_CANNOT_UNDERSTAND = 0xC000
_FILES_AT_A_TIME = 500
# where the elements after the group length begin in a file that part10_prefix began
_META_START = 128 + 4 + 12

log = logs.get("receive")


def adopt_orphans(
    database: Database,
    spool: Spool,
    *,
    judge_after_s: float,
    on_conflict: OnConflict = "keep-first",
    limits: HeaderLimits = DEFAULT_LIMITS,
) -> int:
    """Give a row to every received file that has none, and end the associations that died with their process.

    The number adopted. A file that cannot be read is reported and left where it is. Raises Unavailable.
    """
    adopter = _Adopter(database, spool, judge_after_s, on_conflict, limits, {})
    adopted = adopter.adopt_of(spool.process)
    with spool.left_by_the_dead() as names:
        adopted += sum(adopter.adopt_of(name) for name in names)
    with database.read() as connection:
        is_another_database = not intake.has_instances(connection)
    if spool.is_to_be_searched or is_another_database:
        adopted += adopter.adopt(spool.received_files())
        spool.was_searched()
    if adopted:
        log.info("files adopted", files=adopted)
    return adopted


@dataclass(frozen=True, slots=True)
class _Adopter:
    database: Database
    spool: Spool
    judge_after_s: float
    on_conflict: OnConflict
    limits: HeaderLimits
    callers: dict[str, Caller]  # one ended association for each sender stands for those whose rows are lost

    def adopt_of(self, process: str) -> int:
        """What a process that is dead received and did not record."""
        with self.database.write() as connection:
            intake.abort_open_associations(connection, process)
        return self.adopt(self.spool.pending(process))

    def adopt(self, files: Iterable[Path]) -> int:
        """Adopt those of `files` that have no row; many at a time, for there may be millions."""
        rest, adopted = iter(files), 0
        while batch := list(islice(rest, _FILES_AT_A_TIME)):
            known = self._known(map(self.spool.relative, batch))
            found = [one for file in batch if self.spool.relative(file) not in known and (one := self._read(file))]
            known = self._known(one.file.path for one in found)
            self._seal([one for one in found if one.file.path in known])
            going = self._going(one.file.path for one in found if one.pending is None)
            adopted += self._record([one for one in found if one.file.path not in known | going])
        return adopted

    def _seal(self, recorded: list[Arrived]) -> None:
        """They have their rows; whether these have their digests, nobody knows."""
        with self.database.write() as connection:
            intake.seal(connection, {one.file.path: one.file.sha256 for one in recorded})
        for one in recorded:
            self.spool.settle(one.pending)

    def _going(self, paths: Iterable[str]) -> set[str]:
        """Those of `paths` that retention is about to delete: they have no row, and are not to get one."""
        with self.database.read() as connection:
            return retention.noted_paths(connection, list(paths))

    def _known(self, paths: Iterable[str]) -> set[str]:
        with self.database.read() as connection:
            return intake.known_paths(connection, list(paths))

    def _read(self, file: Path) -> Arrived | None:
        """What a file says of itself; None when it cannot be read, which is reported."""
        try:
            return self._arrived(file)
        except OSError as error:  # of the disk, and perhaps gone at the next start
            log.warning("file not adopted", path=self.spool.relative(file), reason=error.strerror)
        except Exception as error:  # noqa: BLE001 - the edge of one file: none may keep the SCP from starting
            self._leave(file, error)
        return None

    def _arrived(self, file: Path) -> Arrived | None:
        meta = read_file_meta_info(file)
        start = _META_START + meta.FileMetaInformationGroupLength
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = read_instance_header(
                content,
                meta.TransferSyntaxUID,
                sop_class_uid=meta.MediaStorageSOPClassUID,
                sop_instance_uid=meta.MediaStorageSOPInstanceUID,
                start_at=start,
                limits=self.limits,
            )
            opened.seek(start)
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        place = self.spool.place_of(file, header.series_instance_uid, header.sop_instance_uid)
        if place is None:
            if self.spool.is_pending(file):
                file.unlink()  # its other name is none that we gave it: it was never acknowledged
                return None
            place = file
        ae_title = str(meta.get("SourceApplicationEntityTitle", ""))
        caller = self.callers.setdefault(ae_title, Caller(str(uuid.uuid4()), ae_title, "", ""))
        stored = StoredFile(self.spool.relative(place), place.stat().st_size, sha256)
        return Arrived(header, stored, caller, None if place == file else file)

    def _record(self, arrived: list[Arrived]) -> int:
        try:
            arrivals = self._record_at_once(arrived)
        except (Unavailable, intake.Raced):
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a batch: what the database takes of it is recorded
            if len(arrived) > 1:
                return sum(self._record([one]) for one in arrived)
            self._leave(self.spool.path(arrived[0].file.path), error)
            arrivals = []
        if arrived:
            reached("adopt.committed")
        for one in arrived:
            self.spool.settle(one.pending)
        return arrivals.count(Arrival.NEW)

    def _record_at_once(self, arrived: list[Arrived]) -> list[Arrival]:
        if not arrived:
            return []
        callers = {one.caller.association_id: one.caller for one in arrived}
        with self.database.write() as connection:
            intake.open_associations(connection, list(callers.values()), self.spool.process)
            arrivals = intake.record_instances(
                connection, arrived, judge_after_s=self.judge_after_s, on_conflict=self.on_conflict
            )
            for association_id in callers:
                intake.end_association(connection, association_id, AssociationState.ABORTED)
        return arrivals

    def _leave(self, file: Path, error: Exception) -> None:
        """Report a file that cannot be adopted, once: its row keeps the next start from trying it again."""
        path = self.spool.relative(file)
        found = str(error) if isinstance(error, DicomError) else type(error).__name__
        reason = f"found in the spool without a row, and it cannot be read: {found}; it is left where it is"
        log.warning("file not adopted", path=path, reason=reason)
        with self.database.write() as connection:
            unknown = Caller("", "", "", "")
            intake.record_quarantine(connection, unknown, status=_CANNOT_UNDERSTAND, reason=reason, path=path)
