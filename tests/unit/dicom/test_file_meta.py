"""The beginning of a Part 10 file that arrives in pieces."""

import io
import struct

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from gateway.dicom.file_meta import FileMetaReader
from gateway.errors import NotDicom


@pytest.fixture
def part10() -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3.4"
    ds.file_meta.SourceApplicationEntityTitle = "SCANNER"
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def data_set_of(part10: bytes) -> bytes:
    length = struct.unpack_from("<L", part10, 140)[0]
    return part10[144 + length :]


@pytest.mark.parametrize("piece_bytes", [1, 7, 144, 100_000])
def test_whatever_the_pieces_meta_and_data_set_are_the_same(part10: bytes, piece_bytes: int) -> None:
    reader = FileMetaReader()
    rest = io.BytesIO(part10)
    while (found := reader.feed(rest.read(piece_bytes))) is None:
        pass
    meta, begun = found
    assert (meta.sop_class_uid, meta.sop_instance_uid) == (CTImageStorage, "1.2.3.4")
    assert meta.transfer_syntax_uid == ExplicitVRLittleEndian
    assert begun + rest.read() == data_set_of(part10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: b"\0" * 132 + file[132:], "DICM"),
        (lambda file: file[:132] + b"\x08\x00" + file[134:], "Group Length"),
        (lambda file: file[:140] + b"\xff\xff\xff\x7f" + file[144:], "at most 65536"),
        (lambda file: file[:144] + b"\xff" * 40 + file[184:], "cannot be read|no valid"),
        (lambda file: file.replace(b"1.2.3.4\0", b"../../x\0", 1), "no valid sop_instance_uid"),
    ],
)
def test_anything_else_is_refused_in_words(part10: bytes, change, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotDicom, match=words):
        FileMetaReader().feed(change(part10))
