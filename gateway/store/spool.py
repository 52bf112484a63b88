"""The spool: where the bytes are. A file is durable before anybody is told that it exists.

    incoming/<process>/   files being written; whatever lies here at start was never acknowledged
    received/aa/<hash>/   received instances, one folder a series
    derived/<job>/        derived instances, one folder a job
    quarantine/           what was refused, as it came

No name comes from the wire: folders and files are named by SHA-256 of the UIDs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.errors import NotDicom, OutOfResources
from gateway.store.intake import StoredFile

_FREE_SPACE_IS_OLD_AFTER_S = 0.5


def name_of(uid: str) -> str:
    """A file name for a UID: the first 160 bits of its SHA-256."""
    return hashlib.sha256(uid.encode()).hexdigest()[:40]


class Spool:
    """Files under one folder, written by `process` (a name of its own for each process that writes)."""

    def __init__(self, folder: Path, process: str, reserve_bytes: int = 0) -> None:
        self.folder = folder
        self.reserve_bytes = reserve_bytes
        self._incoming = folder / "incoming" / process
        self._free_bytes = 0
        self._asked_at = float("-inf")
        for name in (self._incoming, folder / "received", folder / "derived", folder / "quarantine"):
            name.mkdir(parents=True, exist_ok=True, mode=0o700)

    def clear_incoming(self) -> int:
        """At start: remove what this process's predecessor left half written. The number of files."""
        left = list(self._incoming.iterdir())
        for file in left:
            file.unlink()
        return len(left)

    def path(self, relative: str) -> Path:
        """The file of a path that a row holds."""
        return self.folder / relative

    def free_bytes(self) -> int:
        """Free space of the spool's file system, at most half a second old."""
        if time.monotonic() - self._asked_at > _FREE_SPACE_IS_OLD_AFTER_S:
            self._free_bytes = shutil.disk_usage(self.folder).free
            self._asked_at = time.monotonic()
        return self._free_bytes

    def require_room(self, size_bytes: int) -> None:
        """Raise OutOfResources when `size_bytes` more would touch the reserve."""
        free = self.free_bytes()
        if free - size_bytes < self.reserve_bytes:
            raise OutOfResources(
                f"spool: found {free} free bytes; expected {size_bytes} above the reserve of {self.reserve_bytes}; "
                "free some space or lower spool.reserve_bytes"
            )

    def keep_received(self, series_uid: str, sop_instance_uid: str, parts: Sequence[bytes]) -> StoredFile:
        """Make one received instance durable: written, synced, linked into place, its folder synced.

        The last of `parts` is the data set. What stands before it also tells who sent it, so it is not compared: an
        earlier file of the same UID is never overwritten, and another data set gets a name of its own beside it.
        """
        series = name_of(series_uid)
        folder = self.folder / "received" / series[:2] / series
        if not folder.is_dir():
            self._make_folder(folder)
        data_set = parts[-1]
        sha256 = hashlib.sha256(data_set).hexdigest()
        size = sum(len(part) for part in parts)
        stem = name_of(sop_instance_uid)
        place = folder / f"{stem}.dcm"
        if not self._write(place, parts) and not _ends_with(place, data_set):
            place = folder / f"{stem}.{sha256[:16]}.dcm"
            self._write(place, parts)
        return StoredFile(str(place.relative_to(self.folder)), size, sha256)

    def keep_derived(
        self, job_id: str, attempt: int, profile: str, files: Iterator[tuple[str, bytes]]
    ) -> list[StoredFile]:
        """Make the derived instances of one attempt durable; `files` are (SOP Instance UID, Part 10 bytes)."""
        folder = self.folder / "derived" / job_id / str(attempt) / name_of(profile)[:12]
        self._make_folder(folder)
        kept = []
        for sop_instance_uid, content in files:
            place = folder / f"{name_of(sop_instance_uid)}.dcm"
            _write_synced(place, (content,))
            kept.append(
                StoredFile(str(place.relative_to(self.folder)), len(content), hashlib.sha256(content).hexdigest())
            )
        _sync_folder(folder)
        return kept

    def keep_quarantined(self, parts: Sequence[bytes]) -> str | None:
        """Keep a refused instance as it came; its path, or None when there is no room for it."""
        place = self.folder / "quarantine" / f"{uuid.uuid4()}.dcm"
        try:
            self.require_room(sum(len(part) for part in parts))
            self._write(place, parts)
        except (OutOfResources, OSError):
            return None
        return str(place.relative_to(self.folder))

    def received_files(self) -> Iterator[Path]:
        """Every received instance in the spool, for the search for files that have no row."""
        return (self.folder / "received").glob("*/*/*.dcm")

    def require_intact(self, relative: str, sha256: str) -> Path:
        """The file, when it still holds what was written. Raises OSError, or NotDicom when it holds anything else."""
        file = self.path(relative)
        if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise NotDicom(f"{file.name}: found other bytes than were written; the disk or somebody changed them")
        return file

    def remove_attempt(self, job_id: str, attempt: int) -> None:
        """Remove what one attempt of a job wrote for nothing."""
        shutil.rmtree(self.folder / "derived" / job_id / str(attempt), ignore_errors=True)

    def remove_other_attempts(self, job_id: str, attempt: int) -> None:
        """Remove what dead attempts of a job left behind."""
        for folder in (self.folder / "derived" / job_id).iterdir():
            if folder.name != str(attempt):
                shutil.rmtree(folder)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and make its entry in each parent durable."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(new.parent)

    def _write(self, place: Path, parts: Sequence[bytes]) -> bool:
        """Write, sync and put in place, unless a file of that name is there: then False, and it is untouched."""
        part = self._incoming / f"{uuid.uuid4()}.part"
        linked = True
        try:
            _write_synced(part, parts)
            # a link, not a rename: of two associations with the same UID at once, neither may overwrite the other
            place.hardlink_to(part)
        except FileExistsError:
            linked = False
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(place.parent)  # whoever linked the file may not have come to this yet
        return linked


def _ends_with(file: Path, data_set: bytes) -> bool:
    return file.read_bytes().endswith(data_set)


def _write_synced(place: Path, parts: Sequence[bytes]) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
