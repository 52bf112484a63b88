"""What the Storage SCP accepts, and that it can decode it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    MRImageStorage,
)

from gateway.network.contexts import (
    IMAGE_STORAGE,
    VERIFICATION,
    decodable_transfer_syntaxes,
    supported_contexts,
)


def test_explicit_little_endian_is_wanted_most_and_implicit_next() -> None:
    assert decodable_transfer_syntaxes()[:2] == (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def test_deflated_big_endian_and_twelve_bit_jpeg_are_left_out() -> None:
    left_out = {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGExtended12Bit}
    assert not left_out & set(decodable_transfer_syntaxes())


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "JPEG2000.dcm",
        "JPEGLSNearLossless_16.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
    ],
)
def test_an_object_in_an_accepted_transfer_syntax_is_decoded(name: str) -> None:
    ds = pydicom.dcmread(Path(str(get_testdata_file(name))))
    assert ds.file_meta.TransferSyntaxUID in decodable_transfer_syntaxes()
    pixels = ds.pixel_array
    assert pixels.shape[:2] == (ds.Rows, ds.Columns)
    assert np.ptp(pixels) > 0


def test_lossless_is_wanted_before_lossy() -> None:
    may_lose = ("4.50", "4.51", "4.81", "4.91", "4.203")
    lossy = {f"1.2.840.10008.1.2.{end}" for end in may_lose}
    kinds = [syntax in lossy for syntax in decodable_transfer_syntaxes()]
    assert kinds == sorted(kinds)


def test_every_class_is_a_distinct_storage_class_of_images() -> None:
    assert len(set(IMAGE_STORAGE)) == len(IMAGE_STORAGE)
    assert all("Image Storage" in sop_class.name or "US Volume" in sop_class.name for sop_class in IMAGE_STORAGE)
    assert MRImageStorage in IMAGE_STORAGE
    assert EncapsulatedPDFStorage not in IMAGE_STORAGE


def test_verification_is_always_supported() -> None:
    contexts = {context.abstract_syntax: context.transfer_syntax for context in supported_contexts()}
    assert contexts[VERIFICATION] == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    assert contexts[MRImageStorage] == list(decodable_transfer_syntaxes())
    assert len(contexts) == len(IMAGE_STORAGE) + 1
