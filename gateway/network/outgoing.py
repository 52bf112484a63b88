"""Stored Part 10 files on their way out: the bytes of the data set, unchanged wherever the peer lets them be.

A peer that takes the stored transfer syntax gets the stored bytes. One that does not gets the same object
with the same UIDs in an uncompressed transfer syntax: pixel values exactly as the decoder gives them (no
colour conversion), elements in the same order, so that a second attempt sends the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID
from pynetdicom.dsutils import split_dataset

from gateway.errors import NotDicom
from gateway.network.dimse import is_plain_uid


@dataclass(frozen=True, slots=True)
class OutgoingInstance:
    """A stored file to be sent, and what its file meta information says."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The instance in a Part 10 file; raises NotDicom."""
        meta, _ = _split(path)
        return cls(path, *meta)


_UNDECODABLE = (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, InvalidDicomError)
"""What pydicom and its codecs raise about a data set that they cannot read, decode or write."""


def data_set_pieces(instance: OutgoingInstance, transfer_syntax_uid: str, piece_bytes: int) -> Iterator[bytes]:
    """The encoded data set in pieces of at most `piece_bytes`.

    Raises NotDicom: the file is gone, is something else than it was said to be, or cannot be decoded.
    """
    offset = _require_expected(instance)
    if transfer_syntax_uid == instance.transfer_syntax_uid:
        return _read_pieces(instance.path, offset, piece_bytes)
    encoded = _transcoded(instance.path, UID(transfer_syntax_uid))
    return (encoded[start : start + piece_bytes] for start in range(0, len(encoded), piece_bytes))


def file_pieces(instance: OutgoingInstance, piece_bytes: int) -> Iterator[bytes]:
    """The whole Part 10 file in pieces of at most `piece_bytes`.

    Raises NotDicom: the file is gone, or is something else than it was said to be.
    """
    _require_expected(instance)
    return _read_pieces(instance.path, 0, piece_bytes)


def _require_expected(instance: OutgoingInstance) -> int:
    """Where the data set of the file begins; raises NotDicom when it is not the instance that it was said to be."""
    meta, offset = _split(instance.path)
    expected = (instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid)
    if meta != expected:
        raise NotDicom(f"{instance.path}: file meta information says {meta}; {expected} is expected")
    return offset


def _read_pieces(path: Path, offset: int, piece_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(piece_bytes):
            yield piece


def _split(path: Path) -> tuple[tuple[str, str, str], int]:
    """SOP Class, SOP Instance and transfer syntax of a file, and where its data set begins."""
    try:
        meta, offset = split_dataset(path)
        size = path.stat().st_size
        uids = (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID)
    except OSError as error:
        raise NotDicom(f"{path}: cannot be read: {error.strerror}") from None
    except (InvalidDicomError, AttributeError, ValueError, EOFError):
        raise NotDicom(f"{path}: no Part 10 file with complete file meta information") from None
    if size <= offset:
        raise NotDicom(f"{path}: no data set after the file meta information")
    if not all(is_plain_uid(str(uid)) for uid in uids):
        raise NotDicom(f"{path}: the file meta information holds what is no UID")
    return (str(uids[0]), str(uids[1]), str(uids[2])), offset


def _transcoded(path: Path, transfer_syntax: UID) -> bytes:
    try:
        ds = dcmread(path)
        if ds.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in ds:
            ds.decompress(as_rgb=False, generate_instance_uid=False)
        buffer = DicomBytesIO()
        buffer.is_implicit_VR = transfer_syntax.is_implicit_VR
        buffer.is_little_endian = True
        write_dataset(buffer, ds)
    except _UNDECODABLE as error:
        raise NotDicom(
            f"{path}: cannot be rewritten as {transfer_syntax.name} ({type(error).__name__}); "
            "let the destination accept the stored transfer syntax"
        ) from error
    return bytes(buffer.getvalue())
