"""Every way in which a series is refused, provoked, with the word that people and metrics see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import MPEG4HP41, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless, generate_uid
from source_files import NORMAL, Form, position, ramp, write_enhanced, write_series

from gateway.dicom.decoder_process import DecoderProcess
from gateway.dicom.volume import read_series
from gateway.errors import NotDicom, UnsuitableSeries


def refused(paths: list[Path], **limits: int) -> UnsuitableSeries:
    with pytest.raises(UnsuitableSeries) as refusal:
        read_series(paths, **limits)
    return refusal.value


def setting(keyword: str, value: Any, where: int | None = None) -> Callable[[int, Dataset], None]:
    """An edit that sets `keyword` in slice `where`, or in all."""

    def edit(index: int, ds: Dataset) -> None:
        if where is None or index == where:
            setattr(ds, keyword, value)

    return edit


def removing(keyword: str, where: int | None = None) -> Callable[[int, Dataset], None]:
    def edit(index: int, ds: Dataset) -> None:
        if where is None or index == where:
            delattr(ds, keyword)

    return edit


REFUSED = {
    "another frame of reference": ("mixed-geometry", setting("FrameOfReferenceUID", "1.2.3", 1)),
    "another plane": ("mixed-orientation", setting("ImageOrientationPatient", [1, 0, 0, 0, 1, 0], 2)),
    "half a degree": ("mixed-orientation", setting("ImageOrientationPatient", [0.0087, 0.99996, 0, 0, 0, -1], 2)),
    "another pixel spacing": ("mixed-spacing", setting("PixelSpacing", [0.75, 0.81], 3)),
    "an irregular step": ("mixed-spacing", setting("ImagePositionPatient", position(2, 4.4), 2)),
    "two in one place": ("duplicate-positions", setting("ImagePositionPatient", position(1), 2)),
    "a shifted slice": ("gantry-tilt", setting("ImagePositionPatient", [-16.0, -59.0, 90.0], 2)),
    "no position": ("no-geometry", removing("ImagePositionPatient", 1)),
    "no orientation": ("no-geometry", removing("ImageOrientationPatient")),
    "no pixel spacing": ("no-geometry", removing("PixelSpacing", 0)),
    "a position of two numbers": ("no-geometry", setting("ImagePositionPatient", [1, 2], 1)),
    "no spacing": ("no-geometry", setting("PixelSpacing", [0, 0])),
    "skewed axes": ("no-geometry", setting("ImageOrientationPatient", [0, 1, 0, 0, 0.2, -0.98])),
    "axes that are no unit vectors": ("no-geometry", setting("ImageOrientationPatient", [0, 2, 0, 0, 0, -1])),
    "colour": ("colour", setting("PhotometricInterpretation", "RGB")),
    "palette": ("colour", setting("PhotometricInterpretation", "PALETTE COLOR")),
    "three samples": ("colour", setting("SamplesPerPixel", 3)),
    "high bit": ("pixel-format", setting("HighBit", 15)),
    "bits stored": ("pixel-format", setting("BitsStored", 17)),
    "slope of nothing": ("pixel-format", setting("RescaleSlope", "0")),
    "no pixel data": ("no-pixel-data", removing("PixelData", 1)),
    "no rows": ("no-pixel-data", removing("Rows", 1)),
    "another series": ("mixed-series", setting("SeriesInstanceUID", "1.2.3", 1)),
    "another study": ("mixed-series", setting("StudyInstanceUID", "1.2.3", 1)),
    "another signedness": ("mixed-pixels", setting("PixelRepresentation", 1, 1)),
    "another photometric": ("mixed-pixels", setting("PhotometricInterpretation", "MONOCHROME1", 1)),
    "another echo": ("mixed-contrast", setting("EchoTime", "20", 2)),
    "an echo missing": ("mixed-contrast", removing("EchoTime", 2)),
    "another repetition time": ("mixed-contrast", setting("RepetitionTime", "900", 0)),
    "localizer": ("localizer", setting("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    "mosaic": ("mosaic", setting("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
    "too little pixel data": ("undecodable", setting("PixelData", bytes(20), 3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    check, edit = REFUSED[name]
    refusal = refused(write_series(tmp_path, ramp(), edit=edit))
    assert refusal.check == check
    assert refusal.found
    assert refusal.expected


def test_other_rows(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    paths = write_series(first, ramp(2, 8, 10))
    write_series(second, ramp(2, 10, 8))
    ds = pydicom.dcmread(paths[0])
    other = pydicom.dcmread(next(second.iterdir()))
    other.SeriesInstanceUID, other.StudyInstanceUID = ds.SeriesInstanceUID, ds.StudyInstanceUID
    other.FrameOfReferenceUID = ds.FrameOfReferenceUID
    other.save_as(second / "x.dcm")
    refusal = refused([paths[0], second / "x.dcm"])
    assert (refusal.check, refusal.found) == ("mixed-geometry", "Rows 10, 8")


@pytest.mark.parametrize("missing", [1, 2])
def test_a_hole_between_slices(tmp_path, missing):
    paths = write_series(tmp_path, ramp(5))
    refusal = refused(paths[:missing] + paths[missing + 1 :])
    assert refusal.check == "missing-slices"
    assert refusal.found == "a step of 8.00 mm"


def test_every_other_slice_missing(tmp_path):
    paths = write_series(tmp_path, ramp(6), edit=setting("SpacingBetweenSlices", "4"))
    assert refused(paths[::2]).check == "missing-slices"


def test_a_gap_written_in_place_of_the_spacing_is_no_hole(tmp_path):
    paths = write_series(tmp_path, ramp(3), edit=setting("SpacingBetweenSlices", "0.4"))
    assert read_series(paths).volume.spacing_mm[0] == pytest.approx(4.0)


def test_rounded_positions_are_no_irregular_step(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [round(value, 1) for value in position(index, 3.333)]

    spacing_mm = read_series(write_series(tmp_path, ramp(9), edit=edit)).volume.spacing_mm
    assert spacing_mm[0] == pytest.approx(3.333, abs=0.02)


def test_one_slice_without_thickness(tmp_path):
    assert refused(write_series(tmp_path, ramp(1), edit=removing("SliceThickness"))).check == "no-geometry"


def test_two_echoes_are_named(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        ds.ImagePositionPatient, ds.EchoTime = position(index // 2), str(20 + 60 * (index % 2))

    refusal = refused(write_series(tmp_path, ramp(6), edit=edit))
    assert refusal.check == "duplicate-positions"
    assert refusal.found == "3 frames in the place of another (they differ in EchoTime)"


def test_a_tilted_gantry(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = list(index * (4.0 * NORMAL + np.array([0.0, 0.0, 1.0])))

    assert refused(write_series(tmp_path, ramp(), edit=edit)).check == "gantry-tilt"


def test_too_large_is_told_before_anything_is_decoded(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        ds.Rows, ds.Columns = 65535, 65535  # the pixel data would not bear it: nothing looks at it

    refusal = refused(write_series(tmp_path, ramp(), edit=edit))
    assert refusal.check == "too-large"
    assert refused(write_series(tmp_path, ramp(4, 8, 10)), limit_bytes=4 * 8 * 10 * 4 - 1).check == "too-large"
    assert read_series(write_series(tmp_path, ramp(4, 8, 10)), limit_bytes=4 * 8 * 10 * 4).volume.shape == (4, 8, 10)


def test_a_header_that_claims_too_many_frames(tmp_path):
    path = write_enhanced(tmp_path, ramp(), edit=setting("NumberOfFrames", 2**31 - 1, -1))
    assert refused([path]).check == "too-large"


def test_functional_groups_that_do_not_fit_the_frames(tmp_path):
    path = write_enhanced(tmp_path, ramp(), edit=setting("NumberOfFrames", 3, -1))
    assert refused([path]).check == "no-geometry"


def test_frames_without_functional_groups(tmp_path):
    path = write_enhanced(tmp_path, ramp(), edit=_drop_groups)
    assert refused([path]).check == "no-geometry"


def _drop_groups(index: int, ds: Dataset) -> None:
    if index == -1:
        del ds.PerFrameFunctionalGroupsSequence


def test_two_echoes_in_one_multi_frame_instance(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        if index >= 0:
            ds.PlanePositionSequence[0].ImagePositionPatient = position(index // 2)
            ds.MREchoSequence[0].EffectiveEchoTime = 20.0 + 60 * (index % 2)

    refusal = refused([write_enhanced(tmp_path, ramp(6), edit=edit)])
    assert refusal.check == "duplicate-positions"
    assert "EffectiveEchoTime" in refusal.found


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_a_damaged_codestream(tmp_path, syntax):
    paths = write_series(tmp_path, ramp(2, 40, 48), Form(syntax=syntax))
    ds = pydicom.dcmread(paths[0])
    (codestream,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = encapsulate([codestream[:90]])
    ds.save_as(paths[0])
    assert refused(paths).check == "undecodable"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_a_codestream_larger_than_its_header(tmp_path, syntax):
    paths = write_series(tmp_path, ramp(1, 40, 48), Form(syntax=syntax))
    ds = pydicom.dcmread(paths[0])
    ds.Rows, ds.Columns = 10, 12
    ds.save_as(paths[0])
    refusal = refused(paths)
    assert (refusal.check, refusal.found) == ("undecodable", "a codestream of 40 x 48 x 1")
    assert refusal.expected == "10 x 12 x 1 as the header says"


def test_a_codestream_of_many_components(tmp_path):
    """Each would be decoded before anybody notices that a grey image has one."""
    (path,) = write_series(tmp_path, ramp(1, 40, 48), Form(syntax=JPEG2000Lossless))
    ds = pydicom.dcmread(path)
    (codestream,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = encapsulate([codestream[:40] + (16384).to_bytes(2, "big") + codestream[42:]])
    ds.save_as(path)
    assert refused([path]).found == "a codestream of 40 x 48 x 16384"


def test_a_codestream_that_ends_its_decoder(tmp_path):
    """17 bits of precision: gdcm throws what nobody can catch, and its process is gone."""
    paths = write_series(tmp_path, ramp(2, 40, 48), Form(syntax=JPEGLosslessSV1))
    ds = pydicom.dcmread(paths[0])
    (codestream,) = generate_frames(ds.PixelData, number_of_frames=1)
    precision = codestream.index(b"\xff\xc3\x00\x0b") + 4
    ds.PixelData = encapsulate([codestream[:precision] + b"\x11" + codestream[precision + 1 :]])
    ds.save_as(paths[0])
    refusal = refused(paths)
    assert (refusal.check, refusal.found) == ("undecodable", "the decoder's process ended on this codestream")


def test_a_decoder_in_its_own_process_starts_again_after_it_ended(tmp_path):
    (path,) = write_series(tmp_path, ramp(1, 40, 48), Form(syntax=JPEGLosslessSV1))
    with DecoderProcess() as apart:
        assert np.array_equal(apart.frame(path, 0), ramp(1, 40, 48)[0])
        with pytest.raises(RuntimeError):
            apart.frame(tmp_path / "absent", 0)
        assert apart.frame(path, 0).shape == (40, 48)
        apart.close()
        assert apart.frame(path, 0).shape == (40, 48)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_a_frame_that_takes_more_memory_than_decoders_may_have(tmp_path, syntax):
    """Header and codestream agree on 30,000 x 30,000 pixels: an honest bomb."""
    (path,) = write_series(tmp_path, ramp(1, 40, 48), Form(syntax=syntax))
    ds = pydicom.dcmread(path)
    (codestream,) = generate_frames(ds.PixelData, number_of_frames=1)
    size = (30_000).to_bytes(4, "big") * 2
    if syntax == JPEG2000Lossless:
        codestream = codestream[:8] + size + codestream[16:24] + size + codestream[32:]
    ds.Rows = ds.Columns = 30_000
    ds.PixelData = encapsulate([codestream])
    ds.save_as(path)
    with DecoderProcess(limit_bytes=500_000_000) as decoder:
        with pytest.raises(UnsuitableSeries) as refusal:
            read_series([path], limit_bytes=2**40, decoder=decoder)
        assert refusal.value.check == "undecodable"
        (tmp_path / "good").mkdir()
        (good,) = write_series(tmp_path / "good", ramp(1, 40, 48), Form(syntax=syntax))
        assert read_series([good], decoder=decoder).volume.voxels.shape == (1, 40, 48)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_an_instance_without_its_uid(tmp_path, keyword):
    with pytest.raises(NotDicom, match=keyword):
        read_series(write_series(tmp_path, ramp(), edit=removing(keyword, 1)))


def test_a_video_is_no_stack(tmp_path):
    paths = write_series(tmp_path, ramp(1))
    ds = pydicom.dcmread(paths[0])
    ds.file_meta.TransferSyntaxUID = MPEG4HP41
    ds.PixelData = encapsulate([bytes(100)])
    ds.save_as(paths[0])
    assert refused(paths).check == "undecodable"


def test_a_deflated_data_set_is_not_inflated():
    assert refused([Path(str(get_testdata_file("image_dfl.dcm")))]).check == "undecodable"


def test_an_unknown_transfer_syntax(tmp_path):
    (path,) = write_series(tmp_path, ramp(1))
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = generate_uid()
    ds.save_as(path, implicit_vr=False, little_endian=True)
    assert refused([path]).check == "undecodable"


def test_a_report_holds_no_image():
    assert refused([Path(str(get_testdata_file("reportsi.dcm")))]).check == "no-pixel-data"


def test_a_file_cut_off_in_its_header(tmp_path):
    (path,) = write_series(tmp_path, ramp(1))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises((NotDicom, UnsuitableSeries)):
        read_series([path])


def test_a_file_without_a_transfer_syntax():
    with pytest.raises(NotDicom):
        read_series([Path(str(get_testdata_file("meta_missing_tsyntax.dcm")))])
