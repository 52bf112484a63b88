"""What readers say of results: given on the Compare page or over the API, taken out as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field

from gateway.admin.access import needs
from gateway.admin.pages.compare import JobId
from gateway.admin.routes import Routes
from gateway.admin.site import Site, address_of
from gateway.domain.roles import Role
from gateway.domain.verdicts import Verdict
from gateway.store import feedback, people
from gateway.store.database import Database
from gateway.store.feedback import Opinion
from gateway.store.people import Somebody

Me = Annotated[Somebody, Depends(needs(Role.OPERATOR))]

_LONGEST_WORDS = 2000
_MOST_SLICES = 100_000
_LISTED = 200
_NO_NUL = r"^[^\x00]*$"  # PostgreSQL takes none
_COLUMNS = ("at", "who", "job_id", "pipeline_id", "pipeline_version", "weights_sha256", "verdict", "slice", "words")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # a spreadsheet would compute these


class Said(BaseModel):
    """What a reader says of a result."""

    verdict: Verdict
    words: str = Field("", max_length=_LONGEST_WORDS, pattern=_NO_NUL)
    slice: int | None = Field(None, ge=1, le=_MOST_SLICES)


def router(site: Site) -> Routes:
    """The form, the REST operations, and the export."""
    routes = Routes()

    def say(request: Request, me: Somebody, job_id: str, opinion: Opinion) -> int:
        with site.database.write() as connection:
            kept = feedback.add(connection, job_id, opinion, me.name)
            if kept is None:
                raise HTTPException(404, "there is no result of such a job to speak of")
            # not the words: they may speak of the patient
            people.note(
                connection, me, address_of(request), "gave feedback", job_id,
                verdict=opinion.verdict, slice=opinion.slice,
            )  # fmt: skip
        return kept

    @routes.act("/compare/{job_id}/feedback", Role.OPERATOR)
    def form(
        request: Request,
        me: Me,
        job_id: JobId,
        verdict: Annotated[Verdict, Form()],
        words: Annotated[str, Form(max_length=_LONGEST_WORDS, pattern=_NO_NUL)] = "",
        slice_number: Annotated[int | None, Form(alias="slice", ge=1, le=_MOST_SLICES)] = None,
    ) -> Response:
        say(request, me, job_id, Opinion(verdict, words.strip(), slice_number))
        return RedirectResponse(f"/compare/{job_id}#feedback", 303)

    @routes.api(
        "POST", "/jobs/{job_id}/feedback", Role.OPERATOR, tags=["compare"], summary="Say what you think of a result"
    )
    def api_say(request: Request, me: Me, job_id: JobId, said: Said) -> dict[str, int]:
        return {"id": say(request, me, job_id, Opinion(said.verdict, said.words.strip(), said.slice))}

    @routes.api("GET", "/jobs/{job_id}/feedback", tags=["compare"], summary="What was said of a result, latest first")
    def api_said(job_id: JobId) -> list[dict[str, Any]]:
        with site.database.read() as connection:
            return feedback.of_job(connection, job_id, _LISTED)

    @routes.api("GET", "/feedback", tags=["compare"], summary="How often each verdict was given, for each model")
    def api_totals() -> list[dict[str, Any]]:
        with site.database.read() as connection:
            return feedback.totals(connection)

    @routes.api("GET", "/feedback.csv", Role.AUDITOR, tags=["compare"], summary="All that readers said, as CSV")
    def api_csv() -> Response:
        headers = {"Content-Disposition": 'attachment; filename="feedback.csv"'}
        return StreamingResponse(_lines(site.database), headers=headers, media_type="text/csv; charset=utf-8")

    return routes


def _lines(database: Database) -> Iterator[str]:
    yield _line(_COLUMNS)
    for row in feedback.all_of_it(database):
        at = datetime.fromtimestamp(row["at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield _line([_as_text(value) for value in (at, *(row[name] for name in _COLUMNS[1:]))])


def _as_text(value: Any) -> str:
    """The value as a spreadsheet shows it: never a formula, whoever wrote it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _line(values: Any) -> str:
    line = StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow(values)
    return line.getvalue()
