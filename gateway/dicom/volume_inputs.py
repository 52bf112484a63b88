"""The series of one job brought together: judged by role, then laid on the grid of the first."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.dicom.volume_source import SourceSeries
from gateway.dicom.volume_values import text_of
from gateway.errors import UnsuitableSeries
from pipelines.resampling import on_grid
from pipelines.volume import Volume


def on_one_grid(sources: Mapping[str, SourceSeries]) -> dict[str, Volume]:
    """The volume of each role on the grid of the first of them.

    Raises UnsuitableSeries unless all are of one study and in one frame of reference, the only statement of a header
    that their coordinates mean the same places; Unsuitable when planes are not parallel, or overlap too little.
    """
    (first_role, first), *others = sources.items()
    for role, source in others:
        _require_common(first_role, first, role, source)
    return {role: on_grid(role, source.volume, first.volume) for role, source in sources.items()}


def _require_common(first_role: str, first: SourceSeries, role: str, source: SourceSeries) -> None:
    for check, keyword in (("study", "StudyInstanceUID"), ("frame-of-reference", "FrameOfReferenceUID")):
        one, other = (text_of(each.frames[0].ds, keyword) for each in (first, source))
        if not one or one != other:
            found = f"{role} with {'another' if one and other else 'no common'} {keyword}"
            advice = "positions of the two cannot be compared; acquire both in one examination"
            raise UnsuitableSeries(check, found, f"that of {first_role}", advice)
