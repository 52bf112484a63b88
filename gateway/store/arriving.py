"""One instance on its way from a socket to its place in the spool.

Each step is a call of its own, because the order is the promise: the bytes are synced before they get a name among
the received instances, and that name is synced before anybody is told.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

Buffer = bytes | memoryview
Content = bytes | mmap.mmap

_COMPARED_BYTES = 1024 * 1024
_MOST_PIECES = 1024  # IOV_MAX
_WRITE = 2  # SYNC_FILE_RANGE_WRITE

_sync_file_range = ctypes.CDLL(None, use_errno=True).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Placed(Enum):
    """What the folder of its series said to a file."""

    NEW = "new"
    SAME = "same"  # a file with this data set lies there already, and has got a second name
    BESIDE = "beside"  # a file of this SOP Instance UID with another data set lies there: this one has a name beside it


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies, and under which name of the incoming folder it is found until its row is committed."""

    path: str
    placed: Placed
    pending: str | None

    @property
    def folder(self) -> str:
        """The folder of its series."""
        return self.path.rpartition("/")[0]


class Arriving:
    """A file that is being written under the name `part`, a new one; the bytes of `prefix` precede the data set.

    `require_room` raises OutOfResources. Raises OSError.
    """

    def __init__(self, part: str, prefix: bytes, require_room: Callable[[int], None]) -> None:
        self._part = part  # plain text: a Path costs more than the system call that it is made for
        self._prefix_bytes = len(prefix)
        self._require_room = require_room
        self._unwritten: list[Buffer] = [prefix]
        self.size_bytes = len(prefix)
        require_room(len(prefix))
        self._descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @property
    def data_set_bytes(self) -> int:
        """How much of the data set has come."""
        return self.size_bytes - self._prefix_bytes

    def write(self, *pieces: Buffer) -> None:
        """Append to the data set."""
        size = sum(map(len, pieces))
        self._require_room(size)
        _write_all(self._descriptor, [*self._unwritten, *pieces])
        self._unwritten = []
        # the disk begins while more arrives and the header is read: the sync waits for what is left then
        _sync_file_range(self._descriptor, 0, 0, _WRITE)
        self.size_bytes += size

    def beginning(self, most: int) -> bytes:
        """Up to `most` bytes of the data set, from its first on."""
        return os.pread(self._descriptor, most, self._prefix_bytes)

    @contextmanager
    def content(self) -> Iterator[tuple[Content, int]]:
        """The file as it is in memory anyway, and where in it the data set begins."""
        if self.data_set_bytes == 0:
            yield b"", 0
            return
        with mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) as content:
            yield content, self._prefix_bytes

    def sync(self) -> None:
        """The bytes are on disk."""
        os.fsync(self._descriptor)

    def link(self, folder: str, stem: str) -> Place:
        """Give it its name in the folder of its series, without overwriting any; `sync_folder` makes that durable.

        What stands before the data set also tells who sent it, so it is not compared.
        """
        # a link, not a rename: of two associations with the same UID at once, neither may overwrite the other, and the
        # name in the incoming folder is what a restart finds until the row is committed
        first = f"{folder}/{stem}.dcm"
        if self._link(first):
            return Place(first, Placed.NEW, self._part)
        try:
            if self._is_same(first):
                return Place(first, Placed.SAME, self._take_hold(first))
            beside = f"{folder}/{stem}.{self._digest()[:32]}.dcm"
            if self._link(beside):
                return Place(beside, Placed.BESIDE, self._part)
            return Place(beside, Placed.BESIDE, self._take_hold(beside))
        except FileNotFoundError:  # retention deleted it in this very moment: there is none of that name any more
            return self.link(folder, stem)

    def quarantine(self, folder: Path) -> Path | None:
        """Keep it, whatever it is, among what was refused; None when that cannot be."""
        place = folder / f"{Path(self._part).stem}.dcm"
        try:
            if self._unwritten:
                _write_all(self._descriptor, self._unwritten)
            self.sync()
            Path(self._part).rename(place)
        except OSError:
            self.discard()
            return None
        self.close()
        return place

    def close(self) -> None:
        """Let go of the file; it stays where it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Remove it from the incoming folder."""
        self.close()
        Path(self._part).unlink(missing_ok=True)

    def _take_hold(self, same: str) -> str:
        """Use the file that is there instead of this one; a second name of it keeps retention away from it."""
        held = f"{os.path.dirname(self._part)}/{uuid.uuid4().hex}.part"  # noqa: PTH120 - as `_part`
        os.link(same, held)
        self.discard()
        return held

    def _link(self, place: str) -> bool:
        try:
            os.link(self._part, place)
        except FileExistsError:
            return False
        return True

    def _digest(self) -> str:
        with self.content() as (content, start):
            return hashlib.sha256(memoryview(content)[start:]).hexdigest()

    def _is_same(self, other: str) -> bool:
        """Whether the file at `other` ends with this very data set."""
        with Path(other).open("rb") as file, self.content() as (content, start):
            size = os.fstat(file.fileno()).st_size
            if size < self.data_set_bytes:
                return False
            file.seek(size - self.data_set_bytes)
            return all(
                file.read(_COMPARED_BYTES) == content[at : at + _COMPARED_BYTES]
                for at in range(start, len(content), _COMPARED_BYTES)
            )


def sync_folder(folder: Path | str) -> None:
    """The names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, pieces: list[Buffer]) -> None:
    first = 0
    while first < len(pieces):
        written = os.writev(descriptor, pieces[first : first + _MOST_PIECES])
        while first < len(pieces) and written >= len(pieces[first]):
            written -= len(pieces[first])
            first += 1
        if written:
            pieces[first] = memoryview(pieces[first])[written:]
