"""The beginning of a Part 10 file that arrives in pieces: preamble, prefix, file meta information (PS3.10 7.1)."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import pydicom
from pydicom.errors import InvalidDicomError

from gateway.domain.uids import is_valid_uid
from gateway.errors import NotDicom

_PREAMBLE_BYTES = 128
_GROUP_LENGTH = struct.Struct("<HH2sHL")  # (0002,0000) UL, always the first element
_META_START = _PREAMBLE_BYTES + 4 + _GROUP_LENGTH.size
_LARGEST_META_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file says that it holds; whether the data set agrees is for the receiver to check."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class FileMetaReader:
    """Takes a Part 10 file piece by piece until its file meta information is whole."""

    def __init__(self) -> None:
        self._head = bytearray()

    def feed(self, piece: bytes) -> tuple[FileMeta, bytes] | None:
        """The file meta and what of the data set came with it; None while more is needed.

        The preamble is thrown away: whoever writes the file writes his own (CVE-2019-11687).
        Raises NotDicom for anything but a Part 10 file.
        """
        self._head += piece
        if len(self._head) < _META_START:
            return None
        end = _META_START + self._length()
        if len(self._head) < end:
            return None
        return _read(bytes(self._head[:end])), bytes(self._head[end:])

    def _length(self) -> int:
        prefix = bytes(self._head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4])
        if prefix != b"DICM":
            raise NotDicom("found no DICM prefix after 128 bytes; expected a DICOM Part 10 file (PS3.10 7.1)")
        group, element, vr, _, length = _GROUP_LENGTH.unpack_from(self._head, _PREAMBLE_BYTES + 4)
        if (group, element, vr) != (2, 0, b"UL"):
            raise NotDicom("found no File Meta Information Group Length; expected it first (PS3.10 7.1)")
        if length > _LARGEST_META_BYTES:
            raise NotDicom(f"found file meta information of {length} bytes; expected at most {_LARGEST_META_BYTES}")
        return int(length)


def _read(head: bytes) -> FileMeta:
    try:
        meta = pydicom.dcmread(io.BytesIO(head)).file_meta
        found = FileMeta(
            str(meta.get("MediaStorageSOPClassUID", "")),
            str(meta.get("MediaStorageSOPInstanceUID", "")),
            str(meta.get("TransferSyntaxUID", "")),
        )
    except (InvalidDicomError, ValueError, TypeError, EOFError, struct.error, NotImplementedError, AttributeError):
        raise NotDicom("file meta information: found elements that cannot be read; expected PS3.10 7.1") from None
    for name in ("sop_class_uid", "sop_instance_uid", "transfer_syntax_uid"):
        if not is_valid_uid(getattr(found, name)):
            raise NotDicom(f"file meta information: found no valid {name}; expected a UID (PS3.10 7.1)")
    return found
