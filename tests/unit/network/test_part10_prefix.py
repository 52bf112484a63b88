"""The file meta information that precedes a received data set."""

from __future__ import annotations

from io import BytesIO

import pydicom
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from gateway.network.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, part10_prefix

uid = st.lists(st.integers(0, 10**8).map(str), min_size=2, max_size=6).map(".".join)
title = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=16)


@given(uid, uid, uid, title)
def test_it_is_byte_for_byte_what_pydicom_writes(
    sop_class: str, sop_instance: str, transfer_syntax: str, source: str
) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance)
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = source
    buffer = BytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    assert part10_prefix(sop_class, sop_instance, transfer_syntax, source) == bytes(128) + b"DICM" + buffer.getvalue()


def test_a_file_made_with_it_reads_as_dicom() -> None:
    prefix = part10_prefix("1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5", "1.2.840.10008.1.2.1", "SCANNER")
    data_set = bytes.fromhex("1000 2000 4C4F 0400 50303031")  # (0010,0020) LO "P001"
    ds = pydicom.dcmread(BytesIO(prefix + data_set))
    assert ds.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4.5"
    assert ds.file_meta.SourceApplicationEntityTitle == "SCANNER"
    assert ds.PatientID == "P001"


def test_our_implementation_class_uid_is_valid() -> None:
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16
