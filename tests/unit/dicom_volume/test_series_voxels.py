"""Voxels come back as they were stored, whatever the encoding and the order of the files."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from source_files import NORMAL, Form, position, ramp, write_enhanced, write_series

from gateway.dicom.volume import read_series
from gateway.errors import NotDicom, UnsuitableSeries

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGLossless,
)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(("signed", "bits"), [(False, 12), (False, 16), (True, 13), (True, 16)])
def test_every_transfer_syntax_gives_the_stored_values(tmp_path, syntax, signed, bits):
    form = Form(bits_stored=bits, signed=signed, syntax=syntax)
    low, high = form.limits
    stored = np.random.default_rng(bits).integers(low, high, (2, 33, 47), endpoint=True)
    stored[0, 0, :2] = low, high
    source = read_series(write_series(tmp_path, stored, form))
    assert np.array_equal(source.volume.voxels, stored)
    assert (source.stored.bits_stored, source.stored.signed) == (bits, signed)
    assert (source.stored.lowest, source.stored.highest) == (low, high)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_enhanced_multi_frame_gives_the_stored_values(tmp_path, syntax):
    stored = ramp(5, 36, 40) % 4096
    source = read_series([write_enhanced(tmp_path, stored, Form(syntax=syntax, slope="2", intercept="-7"))])
    assert np.array_equal(source.volume.voxels, 2 * stored - 7)
    assert [frame.frame_number for frame in source.frames] == [5, 4, 3, 2, 1]
    assert [list(frame.ds.ImagePositionPatient) for frame in source.frames] == [position(index) for index in range(5)]
    assert source.frames[2].ds.PixelSpacing == [0.75, 0.8]
    assert "PerFrameFunctionalGroupsSequence" not in source.frames[0].ds
    assert "PixelData" not in source.frames[0].ds


@settings(max_examples=25, deadline=None)
@given(
    allocated=st.sampled_from([8, 16, 32]),
    unused=st.integers(0, 6),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    rescale=st.sampled_from([None, ("1", "-1024"), ("0.5", "3"), ("-2", "0"), ("0.0244140625", "-50.5")]),
    seed=st.integers(0, 2**32 - 1),
)
def test_known_voxels_read_back_exactly(allocated, unused, signed, photometric, rescale, seed):
    bits = min(allocated, 22) - unused  # float32 holds integers of 24 bits
    slope, intercept = rescale or (None, None)
    form = Form(allocated, bits, signed, photometric, slope, intercept)
    low, high = form.limits
    stored = np.random.default_rng(seed).integers(low, high, (3, 3, 4), endpoint=True)
    with tempfile.TemporaryDirectory() as folder:
        source = read_series(write_series(Path(folder), stored, form))
    bright = low + high - stored if photometric == "MONOCHROME1" else stored
    assert np.array_equal(source.volume.voxels, (bright * float(slope or 1) + float(intercept or 0)).astype(np.float32))
    back = (source.volume.voxels.astype(np.float64) - source.stored.intercept) / source.stored.slope
    back = np.rint(back).astype(np.int64)
    assert np.array_equal(source.stored.inverted(back) if photometric == "MONOCHROME1" else back, stored)
    assert source.stored.photometric == photometric


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), slices=st.integers(2, 9))
def test_the_order_of_the_files_changes_nothing(seed, slices):
    tilted = [0.02, 0.9998, 0.0, 0.013, -0.0002, -0.9999]
    with tempfile.TemporaryDirectory() as folder:
        paths = write_series(
            Path(folder), ramp(slices), edit=lambda index, ds: _tilt(index, ds, tilted, jitter=1e-4 * (index % 3))
        )
        expected = read_series(paths)
        random.Random(seed).shuffle(paths)
        shuffled = read_series(paths)
    assert np.array_equal(shuffled.volume.voxels, expected.volume.voxels)
    assert shuffled.volume.spacing_mm == expected.volume.spacing_mm
    assert shuffled.volume.origin_mm == expected.volume.origin_mm
    assert np.array_equal(shuffled.volume.direction, expected.volume.direction)
    uids = [[frame.sop_instance_uid for frame in source.frames] for source in (shuffled, expected)]
    assert uids[0] == uids[1]
    assert shuffled.facts == expected.facts


def _tilt(index: int, ds: Dataset, cosines: list[float], jitter: float) -> None:
    normal = np.cross(cosines[:3], cosines[3:])
    ds.ImageOrientationPatient = [cosines[0] + jitter, *cosines[1:]]
    ds.ImagePositionPatient = [round(float(value), 4) for value in np.array([1.0, 2.0, 3.0]) + index * 3.3 * normal]


def test_slices_follow_the_normal_and_not_the_instance_numbers(tmp_path):
    source = read_series(write_series(tmp_path, ramp()))
    assert np.array_equal(source.volume.voxels, ramp())
    assert [frame.instance_number for frame in source.frames] == [4, 3, 2, 1]
    assert source.volume.spacing_mm == pytest.approx((4.0, 0.75, 0.8))
    assert source.volume.origin_mm == pytest.approx(position(0))
    assert np.allclose(source.volume.direction, np.stack((NORMAL, (0, 0, -1), (0, 1, 0)), axis=1))
    assert source.volume.position_mm(2) == pytest.approx(source.frames[2].ds.ImagePositionPatient)


@pytest.mark.parametrize("signed", [False, True])
def test_what_lies_above_the_stored_bits_is_ignored(tmp_path, signed):
    form = Form(bits_stored=12, signed=signed)
    stored = ramp(2) + form.limits[0]
    garbage = (stored & 0xFFF) | 0xA000
    signed_garbage = garbage - 65536 if signed else garbage
    source = read_series(write_series(tmp_path, signed_garbage, form))
    assert np.array_equal(source.volume.voxels, stored)


def test_a_slice_may_have_its_own_rescale(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = str(index + 1), "0"

    source = read_series(write_series(tmp_path, ramp(3), edit=edit))
    assert np.array_equal(source.volume.voxels, ramp(3) * np.array([1, 2, 3])[:, None, None])
    assert not source.stored.uniform_rescale


def test_one_slice_takes_its_spacing_from_the_header(tmp_path):
    (path,) = write_series(tmp_path, ramp(1))
    assert read_series([path]).volume.spacing_mm[0] == pytest.approx(3.6)
    ds = pydicom.dcmread(path)
    ds.SpacingBetweenSlices = "4.4"
    ds.save_as(path)
    assert read_series([path]).volume.spacing_mm[0] == pytest.approx(4.4)


def test_what_was_lossy_once_is_remembered(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        if index == 2:
            ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", ["10", "2"]
            ds.LossyImageCompressionMethod = ["ISO_10918_1", "ISO_15444_1"]

    stored = read_series(write_series(tmp_path, ramp(), edit=edit)).stored
    assert stored.lossy
    assert stored.lossy_ratios == (10.0, 2.0)
    assert stored.lossy_methods == ("ISO_10918_1", "ISO_15444_1")


def test_a_codestream_whose_sign_differs_from_the_header(tmp_path):
    source = read_series([Path(str(get_testdata_file("J2K_pixelrep_mismatch.dcm")))])
    assert (source.volume.voxels.min(), source.volume.voxels.max()) == (-2000.0, 1896.0)


ENCODINGS = ("", "_RLE", "_jp2klossless", "_jpeg_ls_lossless", "_bigendian", "_implicit", "_padded")


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_published_image_in_other_encodings(name):
    source = read_series([Path(str(get_testdata_file(f"MR_small{name}.dcm")))])
    assert np.array_equal(source.volume.voxels[0], pydicom.dcmread(get_testdata_file("MR_small.dcm")).pixel_array)


def test_published_ct_slices_in_hu():
    folder = Path(str(get_testdata_file("dicomdirtests/98892001/CT5N/2062"))).parent
    source = read_series(sorted(folder.iterdir()))
    assert source.volume.shape == (5, 16, 16)
    assert source.volume.unit == "HU"
    assert source.volume.spacing_mm[0] == pytest.approx(2.5)
    assert (source.stored.slope, source.stored.intercept) == (1.0, -1024.0)


def test_an_unreadable_value_counts_as_absent(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        ds.add_new(0x00200013, "LO", "1A")  # Instance Number is no text

    frames = read_series(write_series(tmp_path, ramp(3), edit=edit)).frames
    assert [frame.instance_number for frame in frames] == [1, 2, 3]


def test_a_file_that_is_no_dicom(tmp_path):
    path = tmp_path / "x.dcm"
    path.write_bytes(b"not DICOM at all" * 50)
    with pytest.raises(NotDicom, match=r"x\.dcm"):
        read_series([path])


def test_no_files_at_all():
    with pytest.raises(UnsuitableSeries) as refusal:
        read_series([])
    assert refusal.value.check == "no-pixel-data"
