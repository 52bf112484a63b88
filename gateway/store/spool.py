"""The spool: where the bytes are. A file is durable before anybody is told that it exists.

    incoming/<process>/   files being written, and a second name of each received file whose row or digest is to come
    incoming/<process>.lock   held by the process as long as it lives: what a dead one left is anybody's to adopt
    received/aa/<hash>/   received instances, one folder a series
    derived/<job>/        derived instances, one folder a job
    quarantine/           what was refused, as it came

No name comes from the wire: folders and files are named by SHA-256 of the UIDs.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.errors import ConfigurationError, NotDicom, OutOfResources
from gateway.killpoints import reached
from gateway.store.arriving import Arriving, Place, sync_folder
from gateway.store.intake import StoredFile

_FREE_SPACE_IS_OLD_AFTER_S = 0.5
_LOCKED_WITHIN_S = 60.0
_ASK_AGAIN_S = 0.1
_AT_ONCE_BYTES = 2 * 1024 * 1024
_LOOK_EVERYWHERE = "look-everywhere"


def name_of(uid: str) -> str:
    """A file name for a UID: the first 160 bits of its SHA-256."""
    return hashlib.sha256(uid.encode()).hexdigest()[:40]


class Spool:
    """Files under one folder, written by `process` (a name of its own for each process that writes)."""

    def __init__(self, folder: Path, process: str, reserve_bytes: int = 0) -> None:
        self.folder = folder
        self.reserve_bytes = reserve_bytes
        self.process = process
        self._incoming = folder / "incoming" / process
        self._received = str(folder / "received")  # plain text, as in `Arriving`
        self._run, self._count = uuid.uuid4().hex, itertools.count()
        self._free_bytes = 0
        self._asked_at = float("-inf")
        for name in (self._incoming, folder / "received", folder / "derived", folder / "quarantine"):
            name.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the lock of this process's incoming folder. Raises ConfigurationError when another process keeps it."""
        until = time.monotonic() + _LOCKED_WITHIN_S
        while not (lock := _Lock.of(self.folder / "incoming" / f"{self.process}.lock")):
            if time.monotonic() > until:
                raise ConfigurationError(
                    f"spool: found another process that calls itself {self.process}; expected none; stop it first"
                )
            time.sleep(_ASK_AGAIN_S)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def left_by_the_dead(self) -> Iterator[list[str]]:
        """Names of other processes that died with their incoming folder, and whose locks are held here meanwhile."""
        names = {file.stem for file in (self.folder / "incoming").glob("*.lock")} - {self.process}
        locks = {name: _Lock.of(self.folder / "incoming" / f"{name}.lock") for name in sorted(names)}
        try:
            yield [name for name, lock in locks.items() if lock]
        finally:
            for lock in locks.values():
                if lock:
                    lock.release()

    def pending(self, process: str) -> Iterator[Path]:
        """The second names of files that `process`, which is dead, received and whose rows may be missing.

        What was half written is removed on the way: it was never acknowledged.
        """
        for file in (self.folder / "incoming" / process).glob("*.part"):
            if file.stat().st_nlink == 1:
                file.unlink()
            else:
                yield file

    def is_pending(self, file: Path) -> bool:
        """Whether the file lies in an incoming folder."""
        return file.is_relative_to(self.folder / "incoming")

    def settle(self, pending: Path | str | None) -> None:
        """The row of a received file is committed: it needs no second name any more."""
        if pending is not None:
            with suppress(FileNotFoundError):
                os.unlink(pending)  # noqa: PTH108 - once for each instance that is received

    def look_everywhere(self) -> None:
        """Let the next SCP that starts look for files without rows in the whole spool: the database is another one."""
        (self.folder / _LOOK_EVERYWHERE).touch()
        sync_folder(self.folder)

    @property
    def is_to_be_searched(self) -> bool:
        """Whether `look_everywhere` was asked for."""
        return (self.folder / _LOOK_EVERYWHERE).exists()

    def was_searched(self) -> None:
        """Every file that has no row was looked at."""
        (self.folder / _LOOK_EVERYWHERE).unlink(missing_ok=True)

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

    def receive(self, prefix: bytes) -> Arriving:
        """A file for one instance that is about to arrive. Raises OutOfResources and OSError, as its writing does."""
        # counted, for a random name is a system call for each instance; `_run` keeps those of a predecessor apart
        return Arriving(f"{self._incoming}/{self._run}-{next(self._count)}.part", prefix, self.require_room)

    def link_received(self, arriving: Arriving, series_uid: str, sop_instance_uid: str) -> Place:
        """Give a synced file its name among the received ones; durable once the folder of that name is synced."""
        folder, stem = self._folder_of(series_uid), name_of(sop_instance_uid)
        while True:
            try:
                return arriving.link(folder, stem)
            except FileNotFoundError:  # the first instance of its series
                self._make_folder(Path(folder))

    def folder_of(self, series_uid: str) -> Path:
        """Where the received instances of a series lie."""
        return Path(self._folder_of(series_uid))

    def _folder_of(self, series_uid: str) -> str:
        series = name_of(series_uid)
        return f"{self._received}/{series[:2]}/{series}"

    def place_of(self, file: Path, series_uid: str, sop_instance_uid: str) -> Path | None:
        """The name among the received instances of a file that is pending, or that is one of them."""
        folder, stem = self.folder_of(series_uid), name_of(sop_instance_uid)
        first = folder / f"{stem}.dcm"
        if first.exists() and first.samefile(file):
            return first
        return next((place for place in folder.glob(f"{stem}.*.dcm") if place.samefile(file)), None)

    def relative(self, file: Path | str) -> str:
        """The path that a row holds."""
        return str(file).removeprefix(f"{self.folder}/")

    def digest(self, relative: str, last_bytes: int) -> str:
        """SHA-256 of the end of a file. Raises OSError."""
        with self.path(relative).open("rb", buffering=0) as file:
            file.seek(-last_bytes, os.SEEK_END)
            if last_bytes > _AT_ONCE_BYTES:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(file.read()).hexdigest()

    def keep_derived(
        self, job_id: str, attempt: int, profile: str, files: Iterator[tuple[str, bytes]]
    ) -> list[StoredFile]:
        """Make the derived instances of one attempt durable; `files` are (SOP Instance UID, Part 10 bytes).

        Raises OutOfResources and OSError.
        """
        folder = self.folder / "derived" / job_id / str(attempt) / name_of(profile)[:12]
        self._make_folder(folder)
        kept = []
        for sop_instance_uid, content in files:
            place = folder / f"{name_of(sop_instance_uid)}.dcm"
            self.require_room(len(content))
            _write_synced(place, content)
            reached("process.file")
            kept.append(
                StoredFile(str(place.relative_to(self.folder)), len(content), hashlib.sha256(content).hexdigest())
            )
        sync_folder(folder)
        return kept

    def quarantine(self, arriving: Arriving) -> str | None:
        """Keep a refused instance as it came; its path, or None when there is no room for it."""
        place = arriving.quarantine(self.folder / "quarantine")
        return self.relative(place) if place else None

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

    def remove_earlier_attempts(self, job_id: str, attempt: int) -> None:
        """Remove what attempts before this one left behind: they are dead, or have lost their lease."""
        for folder in (self.folder / "derived" / job_id).iterdir():
            if int(folder.name) < attempt:
                shutil.rmtree(folder, ignore_errors=True)  # one that lost its lease may remove its own right now

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and make its entry in each parent durable."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(mode=0o700, exist_ok=True)
            sync_folder(new.parent)


class _Lock:
    """An advisory lock that ends with the process that holds it, however that ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of(cls, file: Path) -> _Lock | None:
        """The lock of a file, or None while another process holds it."""
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


def _write_synced(place: Path, content: bytes) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
