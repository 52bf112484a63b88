"""The headers of a series, one for each frame; multi-frame instances become views of their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from gateway.dicom.pixels import require_grey
from gateway.dicom.volume_values import DAMAGED, items_of, positive_of, text_of
from gateway.errors import NotDicom, UnsuitableSeries

_FUNCTIONAL_GROUPS = frozenset({0x52009229, 0x52009230})  # Shared and Per-Frame Functional Groups Sequence


@dataclass(frozen=True, slots=True, eq=False)
class FrameHeader:
    """One frame before its pixels: `frame_number` is 1-based in multi-frame instances, None in others."""

    path: Path
    frame_number: int | None
    number_of_frames: int
    ds: Dataset


def read_frame_headers(paths: Sequence[Path], limit_bytes: int) -> list[FrameHeader]:
    """The frames of the Part 10 files at `paths`, in the order of the files.

    Raises NotDicom for a file that is none, UnsuitableSeries ``too-large`` before anything is decoded when
    the volume would need more than `limit_bytes`, and for headers that describe no grey image.
    """
    if not paths:
        raise UnsuitableSeries("no-pixel-data", "no instance at all", "at least one")
    instances = [(path, _read_header(path)) for path in paths]
    needed = sum(_bytes_needed(ds) for _, ds in instances)
    if needed > limit_bytes:
        raise UnsuitableSeries(
            "too-large",
            f"{needed / 2**20:.0f} MiB of voxels",
            f"at most {limit_bytes / 2**20:.0f} MiB",
            "split the series",
        )
    frames: list[FrameHeader] = []
    for path, ds in instances:
        with _readable(path):
            frames += _frames(path, ds)
    return frames


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pydicom raises for damaged data sets into NotDicom."""
    try:
        yield
    except DAMAGED as error:
        reason = type(error).__name__  # its words may quote a patient attribute
        raise NotDicom(f"{path.name}: cannot be read as a DICOM file ({reason}); it is damaged") from error


def _read_header(path: Path) -> Dataset:
    with path.open("rb") as file, _readable(path):
        # a deflated data set is inflated whole before anybody can say how large it is
        if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise UnsuitableSeries(
                "undecodable", "a deflated data set", "another transfer syntax", "send it uncompressed"
            )
        ds = pydicom.dcmread(file, stop_before_pixels=True)
        for header, keyword in ((ds.file_meta, "TransferSyntaxUID"), (ds, "SOPClassUID"), (ds, "SOPInstanceUID")):
            if not text_of(header, keyword):
                raise NotDicom(f"{path.name}: no {keyword}; it is damaged")
        require_grey(ds)
    return ds


def _number_of_frames(ds: Dataset) -> int:
    return int(positive_of(ds, "NumberOfFrames") or 1)


def _bytes_needed(ds: Dataset) -> int:
    """Bytes of the float32 voxels or of the stored values, whichever are more."""
    voxels = int(ds.Rows) * int(ds.Columns) * _number_of_frames(ds)
    return voxels * max(4, int(ds.BitsAllocated) // 8)


def _frames(path: Path, ds: Dataset) -> Iterator[FrameHeader]:
    number_of_frames = _number_of_frames(ds)
    if "PerFrameFunctionalGroupsSequence" not in ds:
        if number_of_frames > 1:
            found = f"{number_of_frames} frames without functional groups"
            raise UnsuitableSeries("no-geometry", found, "a plane for each frame")
        yield FrameHeader(path, None, 1, ds)
        return
    shared = items_of(ds, "SharedFunctionalGroupsSequence")
    per_frame = items_of(ds, "PerFrameFunctionalGroupsSequence")
    if len(per_frame) != number_of_frames:
        expected = f"one for each of {number_of_frames} frames"
        raise UnsuitableSeries("no-geometry", f"{len(per_frame)} functional groups", expected)
    for number, own in enumerate(per_frame, start=1):
        view = Dataset({tag: ds.get_item(tag) for tag in ds.keys() - _FUNCTIONAL_GROUPS})
        for groups in (*shared, own):
            view.update(_lifted(groups))
        yield FrameHeader(path, number, number_of_frames, view)


def _lifted(groups: Dataset) -> Dataset:
    """The attributes of every functional group (PS3.3 C.7.6.16) side by side, as in single-frame objects."""
    lifted = Dataset()
    for group in groups:
        if group.VR == "SQ" and group.value:
            lifted.update(group.value[0])
    return lifted
