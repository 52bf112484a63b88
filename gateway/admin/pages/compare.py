"""Compare: source and synthetic series side by side, for a reader to check a result."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import HTTPException, Path, Query, Request, Response

from gateway.admin.comparison import Comparison, FilesGone
from gateway.admin.routes import Routes
from gateway.admin.site import Site
from gateway.dicom.frames import FrameReader
from gateway.domain.verdicts import Verdict
from gateway.store import comparison, feedback

JobId = Annotated[str, Path(max_length=36, pattern=r"^[0-9A-Za-z_-]+$")]
Uid = Annotated[str, Path(max_length=64, pattern=r"^[0-9.]+$")]
FrameNumber = Annotated[int, Query(ge=1, le=2**31 - 1)]

_GONE = "the images were given up by retention; send the series again to compare it"
_FEEDBACK_SHOWN = 50


class FrameResponse(Response):
    """Stored values, row by row, little endian; the headers say what they are."""

    media_type = "application/octet-stream"


def router(site: Site) -> Routes:
    """The page, the two sides as JSON, and single frames."""
    routes = Routes()
    frames = FrameReader(site.settings.process.max_series_bytes)
    sides = Comparison(site.database, site.spool, frames)

    @routes.page("/compare/{job_id}")
    def page(request: Request, job_id: JobId) -> Response:
        with site.database.read() as connection:
            job = comparison.of_job(connection, job_id)
            if job is None:
                raise HTTPException(404, "there is no such job; open Compare from the page of a study")
            opinions = feedback.of_job(connection, job_id, _FEEDBACK_SHOWN)
            totals = feedback.totals(connection)
        total = next((one for one in totals if _is_same_model(one, job)), None)
        return site.page(request, "compare.html", job=job, opinions=opinions, total=total, verdicts=list(Verdict))

    @routes.api("GET", "/jobs/{job_id}/comparison", tags=["compare"], summary="Which slice lies beside which")
    def api_comparison(job_id: JobId) -> dict[str, Any]:
        try:
            found = sides.of(job_id)
        except FilesGone:
            raise HTTPException(404, _GONE) from None
        if found is None:
            raise HTTPException(404, "there is no result of such a job")
        return found

    @routes.api(
        "GET", "/instances/{sop_instance_uid}/frame", tags=["compare"],
        summary="The stored values of one frame; its Frame- headers say what they are", response_class=FrameResponse,
    )  # fmt: skip
    def api_frame(sop_instance_uid: Uid, number: FrameNumber = 1) -> Response:
        with site.database.read() as connection:
            path = comparison.path_of(connection, sop_instance_uid)
        if path is None:
            raise HTTPException(404, "there is no such instance here")
        try:
            frame = frames.read(site.spool.path(path), number)
        except FileNotFoundError:
            raise HTTPException(404, _GONE) from None
        rows, columns = frame.stored.shape
        headers = {
            "Frame-Rows": str(rows),
            "Frame-Columns": str(columns),
            "Frame-Type": frame.stored.dtype.name,
            "Frame-Rescale-Slope": repr(frame.slope),
            "Frame-Rescale-Intercept": repr(frame.intercept),
            "Frame-Photometric-Interpretation": frame.photometric,
        }
        return FrameResponse(frame.stored.tobytes(), headers=headers)

    return routes


def _is_same_model(total: dict[str, Any], job: dict[str, Any]) -> bool:
    return (total["pipeline_id"], total["pipeline_version"]) == (job["pipeline_id"], job["pipeline_version"])
