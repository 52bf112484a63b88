"""A job's source and result side by side: which slice lies beside which, and how each side asks to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gateway.dicom.frames import FrameReader, Look, look_of, position_of, source_of
from gateway.dicom.volume_frames import FrameHeader
from gateway.domain.slice_pairs import Made, Slice, difference_in_words, pair_slices
from gateway.errors import UnsuitableSeries
from gateway.store import comparison
from gateway.store.database import Database
from gateway.store.spool import Spool

Row = dict[str, Any]

_MOST_SLICES = 20_000  # a header may claim any number of frames


class FilesGone(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """The rows are there, the files are not: retention gave them up."""


class Comparison:
    """Reads comparisons; paths come from the database alone."""

    def __init__(self, database: Database, spool: Spool, frames: FrameReader) -> None:
        self._database = database
        self._spool = spool
        self._frames = frames

    def of(self, job_id: str) -> Row | None:
        """The two sides of a job, None without a result. Raises FilesGone, DicomError for damaged files."""
        with self._database.read() as connection:
            job = comparison.of_job(connection, job_id)
            if job is None:
                return None
            received = comparison.received(connection, job["series_id"])
            derived = comparison.made(connection, job_id)
        if not derived:
            return None
        if not received:
            raise FilesGone
        if (frames := sum(row.number_of_frames for row in received)) > _MOST_SLICES:
            raise UnsuitableSeries("too-large", f"{frames} slices", f"at most {_MOST_SLICES} to compare")
        pairs = pair_slices(_slices(received), self._made(received, derived))
        source = look_of(self._header(received[len(received) // 2].path))
        synthetic = look_of(self._header(derived[len(derived) // 2].path))
        number = "" if job["series_number"] is None else f"{job['series_number']} "
        return {
            "job": job_id,
            "pipeline": job["pipeline_id"],
            "version": job["pipeline_version"],
            "caution": synthetic.caution,
            "note": difference_in_words(pairs),
            "unit": source.unit if source.unit == synthetic.unit else "",
            "source": _side(f"{job['modality']} {number}{job['series_description']}", source),
            "synthetic": _side(f"{job['modality']} {derived[0].series_number}", synthetic),
            "slices": [asdict(pair) for pair in pairs],
        }

    def _made(self, received: Sequence[Any], derived: Sequence[Any]) -> list[Made]:
        """The derived slices with their sources; files are opened only where the rows do not say what lies where."""
        frames = {row.sop_instance_uid: row.number_of_frames for row in received}
        several = len({row.source_sop_instance_uid for row in derived}) < len(derived)
        found = []
        for row in derived:
            source, position = (row.source_sop_instance_uid, 1), None
            if several or frames.get(row.source_sop_instance_uid, 0) != 1:
                header = self._header(row.path)
                source, position = source_of(header) or source, position_of(header)
            found.append(Made(Slice(row.sop_instance_uid, 1, row.instance_number, position), source))
        return found

    def _header(self, path: str) -> FrameHeader:
        try:
            return self._frames.header(self._spool.path(path))
        except FileNotFoundError:
            raise FilesGone from None


def _slices(received: Sequence[Any]) -> list[Slice]:
    return [
        Slice(
            row.sop_instance_uid,
            frame,
            row.instance_number if row.number_of_frames == 1 else None,
            row.slice_position_mm,
        )
        for row in received
        for frame in range(1, row.number_of_frames + 1)
    ]


def _side(title: str, look: Look) -> Row:
    return {
        "title": title.strip(),
        "unit": look.unit,
        "windows": [asdict(window) for window in look.windows],
        "pixel_aspect": look.pixel_aspect,
    }
