"""Frames as a viewer gets them: the stored values of the file, byte by byte, whatever their encoding."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless
from source_files import Form, Stored, ramp, write_enhanced, write_series

from gateway.dicom.frames import FrameReader, look_of, position_of, source_of
from gateway.dicom.secondary_capture import Encoding, Equipment, Marks, derive_series
from gateway.dicom.volume import read_series
from gateway.errors import UnsuitableSeries


@pytest.fixture(scope="module")
def frames() -> Iterator[FrameReader]:
    reader = FrameReader(2**28)
    yield reader
    reader.close()


def _pixels(form: Form) -> Stored:
    """Values over all that can be stored."""
    lowest, highest = form.limits
    return np.linspace(lowest, highest, 64 * 40).astype(np.int64).reshape(1, 64, 40)


@pytest.mark.parametrize(
    "form",
    [
        Form(),
        Form(bits_stored=16, signed=True, slope="1", intercept="-1024"),
        Form(bits_allocated=8, bits_stored=8, photometric="MONOCHROME1"),
        Form(bits_stored=16, signed=True, syntax=JPEG2000Lossless),
        Form(syntax=JPEGLosslessSV1),
        Form(syntax=RLELossless),
    ],
    ids=["unsigned", "signed", "8-bit", "signed-jpeg-2000", "jpeg-lossless", "rle"],
)
def test_a_frame_is_what_pydicom_reads(form: Form, tmp_path: Path, frames: FrameReader) -> None:
    (path,) = write_series(tmp_path, _pixels(form), form)
    expected = pydicom.dcmread(path).pixel_array
    found = frames.read(path, 1)
    assert found.stored.dtype.str == expected.dtype.newbyteorder("<").str
    assert found.stored.tobytes() == expected.tobytes()
    assert (found.slope, found.intercept) == (1.0, float(form.intercept or 0))
    assert found.photometric == form.photometric


def test_a_frame_of_several_is_that_one(tmp_path: Path, frames: FrameReader) -> None:
    path = write_enhanced(tmp_path, ramp(3))
    expected = pydicom.dcmread(path).pixel_array
    for number in (3, 1, 2):
        assert np.array_equal(frames.read(path, number).stored, expected[number - 1])
    assert position_of(frames.header(path, 1)) == pytest.approx(position_of(frames.header(path, 3)) + 8.0)
    with pytest.raises(UnsuitableSeries, match="1 to 3"):
        frames.read(path, 4)


def test_what_is_damaged_or_too_large_is_refused_and_the_next_one_is_read(tmp_path: Path, frames: FrameReader) -> None:
    for name in ("damaged", "large", "good"):
        (tmp_path / name).mkdir()
    (damaged,) = write_series(tmp_path / "damaged", ramp(1, 64, 40), Form(syntax=JPEG2000Lossless))
    damaged.write_bytes(damaged.read_bytes()[:-60])
    with pytest.raises(UnsuitableSeries, match="undecodable"):
        frames.read(damaged, 1)
    (large,) = write_series(tmp_path / "large", ramp(1))
    with pytest.raises(UnsuitableSeries, match="too-large"):
        FrameReader(64).read(large, 1)
    (good,) = write_series(tmp_path / "good", ramp(1))
    assert np.array_equal(frames.read(good, 1).stored, ramp(1)[0])
    with pytest.raises(FileNotFoundError):
        frames.read(tmp_path / "none.dcm", 1)


def test_the_header_says_how_a_series_asks_to_be_shown(tmp_path: Path, frames: FrameReader) -> None:
    def ask(_: int, ds: Dataset) -> None:
        ds.Modality, ds.RescaleType = "CT", "HU"
        ds.WindowCenter, ds.WindowWidth = [40, 300, 7], [400, 1500, 0]
        ds.WindowCenterWidthExplanation = ["SOFT", "BONE"]

    form = Form(slope="1", intercept="-1024")
    (path,) = write_series(tmp_path, ramp(1), form, ask)
    look = look_of(frames.header(path))
    assert look.unit == "HU"
    assert [(one.name, one.center, one.width) for one in look.windows] == [("SOFT", 40, 400), ("BONE", 300, 1500)]
    assert look.pixel_aspect == pytest.approx(0.75 / 0.8)
    assert look.caution == ""


def test_the_process_with_the_image_ends_when_nobody_asks_and_another_one_answers(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, ramp(1))
    before = set(psutil.Process().children())
    reader = FrameReader(2**28, idle_s=0.05)
    for _ in range(2):
        assert reader.read(path, 1).stored.shape == (8, 10)
        _, alive = psutil.wait_procs(set(psutil.Process().children()) - before, timeout=20)
        assert not alive


def test_a_derived_slice_names_the_frame_that_it_was_made_from(tmp_path: Path, frames: FrameReader) -> None:
    path = write_enhanced(tmp_path, ramp(3, 32, 32))
    source = read_series([path])
    marks = Marks("t2-to-stir", "1.0.0", "a GAN", "STIR", "STIR", "ab" * 32, "MR", (0.0, 4095.0), "Hides oedema.")
    made = derive_series(
        source, source.volume, marks, Encoding(), Equipment("Test", "Gateway", "1"), uid_root="", revision=1,
        options_digest="", series_number=401, created=datetime.now(UTC),
    )  # fmt: skip
    found = []
    for one in made:
        file = tmp_path / f"{one.instance_number}.made"
        file.write_bytes(one.part10)
        found.append(source_of(frames.header(file)))
        assert look_of(frames.header(file)).caution == "Hides oedema."
    assert found == [(frame.sop_instance_uid, frame.frame_number) for frame in source.frames]
    assert source_of(frames.header(path)) is None
