"""What people do about a series: run it again, send it again, cancel, ask the rules again, run it by hand.

The same for every way in which they ask. What is done stands in the timeline of the series with who did it, and in the
audit trail, by UIDs and never by patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.states import (
    DELIVERY_ENDED,
    DeliveryState,
    JobState,
    SeriesState,
    delivery_sources,
    job_sources,
    series_sources,
)
from gateway.errors import NotDicom
from gateway.settings import Settings
from gateway.store import by_hand, deliveries, people, reports, reruns, routing, rulebook
from gateway.store.database import Database
from gateway.store.people import Somebody
from gateway.store.spool import Spool

Row = dict[str, Any]

_WITHOUT_RESULT = job_sources(JobState.QUEUED) - {JobState.RUNNING, JobState.SUCCEEDED}
_BEGUN = {DeliveryState.SENDING, DeliveryState.COMMITTING}
_MAY_BE_ROUTED = series_sources(SeriesState.COMPLETE) - {SeriesState.RECEIVING}
_MAY_BE_RUN = {SeriesState.ROUTED, SeriesState.UNMATCHED, SeriesState.WAITING}


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a wish: the jobs (ids) and destinations that it moved, and a sentence, also when it moved none."""

    is_done: bool
    words: str
    jobs: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Interventions:
    """The wishes of one person; `address` is where they come from, for the audit trail.

    Each takes the id of a series that is known. With `job_id` it is about that job, with `destination` about the
    deliveries there alone.
    """

    database: Database
    spool: Spool
    settings: Settings
    who: Somebody
    address: str = ""

    def retry(self, series_id: int, *, job_id: str = "") -> Done:
        """Run jobs again that ended without a result, or whose result was lost before anybody got it."""
        detail = self._detail(series_id)
        chosen = _jobs(detail, job_id)
        # read before the transaction: the files of a series may be gigabytes
        lost = {job["id"] for job in chosen if job["state"] == JobState.SUCCEEDED and self._is_lost(job["id"])}
        by = self.who.name
        with self.database.write() as connection:
            again = tuple(
                job["id"]
                for job in chosen
                if reruns.run_again(connection, job["id"], by=by)
                or (job["id"] in lost and reruns.make_again(connection, job["id"], by=by))
            )
            if again:
                self._note(connection, "ran jobs again", detail, jobs=again)
        if not again:
            return Done(False, "no job ended without a result, or lost one that nobody has got")
        return Done(True, f"queued again: {', '.join(job_id[:8] for job_id in again)}", again)

    def cancel(self, series_id: int, *, destination: str = "", job_id: str = "") -> Done:
        """End jobs and deliveries that have not ended; what a destination has accepted stays there."""
        detail = self._detail(series_id)
        chosen = _jobs(detail, job_id)
        by = self.who.name
        with self.database.write() as connection:
            ended = () if destination else tuple(
                job["id"] for job in chosen if reruns.cancel(connection, job["id"], by=by)
            )  # fmt: skip
            sent = tuple(
                one["destination"]
                for one in _deliveries(chosen, destination)
                if deliveries.cancel(connection, one["id"], by=by)
            )
            if ended or sent:
                self._note(connection, "cancelled", detail, jobs=ended, destinations=sent)
        said = [f"job {job_id[:8]}" for job_id in ended] + [f"the delivery to {name}" for name in sent]
        if not said:
            return Done(False, "nothing to cancel: all has ended")
        return Done(True, f"cancelled: {', '.join(said)}", ended, sent)

    def resend(self, series_id: int, *, destination: str = "", job_id: str = "", whole: bool = False) -> Done:
        """Send results again whose delivery has ended, and at once what waits for another attempt.

        The same bytes under the same UIDs; `whole` also what was accepted. Superseded results are left out.
        """
        detail = self._detail(series_id)
        chosen = list(_deliveries([job for job in _jobs(detail, job_id) if not job["superseded"]], destination))
        give_up_s, by = self.settings.deliver.give_up_s, self.who.name
        with self.database.write() as connection:
            again = tuple(
                one["destination"]
                for one in chosen
                if deliveries.send_again(connection, one["id"], whole=whole, give_up_s=give_up_s, by=by)
                or deliveries.send_now(connection, one["id"], by=by)
            )
            if again:
                self._note(connection, "sent results again", detail, destinations=again, whole=whole)
        if not again:
            waits = [f"{one['destination']}: {one['waits_for']}" for one in chosen if one["waits_for"]]
            return Done(False, "; ".join(["no delivery that has ended", *waits]))
        return Done(True, f"will be sent again to: {', '.join(again)}", destinations=again)

    def route(self, series_id: int) -> Done:
        """Ask the rules of now; the jobs that there are stay as they are."""
        detail = self._detail(series_id)
        with self.database.write() as connection:
            asked = routing.route_again(connection, series_id, by=self.who.name)
            if asked:
                self._note(connection, "asked the rules again", detail)
        if not asked:
            return Done(False, "not routed yet, blocked, or its files were given up")
        return Done(True, "the rules will be asked again")

    def run(self, series_id: int, pipeline: str, destinations: Sequence[str]) -> Done:
        """Make a job by hand. Raises ConfigurationError with the reason why there can be none."""
        detail = self._detail(series_id)
        rule = by_hand.rule_for(detail["uid"], pipeline, list(destinations))
        rulebook.require_usable([rule], self.settings)
        with self.database.write() as connection:
            job_id = by_hand.make_job(
                connection, series_id, rule, by=self.who.name, max_attempts=self.settings.process.max_attempts
            )
            self._note(
                connection, "made a job by hand", detail,
                jobs=(job_id,), pipeline=pipeline, destinations=rule.destinations,
            )  # fmt: skip
        words = f"queued: job {job_id[:8]} of {pipeline} for {', '.join(rule.destinations)}"
        return Done(True, words, (job_id,), rule.destinations)

    def _detail(self, series_id: int) -> Row:
        with self.database.read() as connection:
            return reports.series_detail(connection, series_id)

    def _is_lost(self, job_id: str) -> bool:
        """Whether a derived file of the job is gone or damaged."""
        with self.database.read() as connection:
            files = reruns.files_of(connection, job_id)
        for path, sha256 in files:
            try:
                self.spool.require_intact(path, sha256)
            except (OSError, NotDicom):
                return True
        return False

    def _note(self, connection: Any, what: str, detail: Row, **values: Any) -> None:
        people.note(connection, self.who, self.address, what, detail["uid"], **values)


def offer(detail: Row) -> Row:
    """`detail` of a series where it, each job and each delivery have `can`: what may be asked for in their states.

    ``route``, ``run``; ``retry``, ``cancel``; ``resend`` (what is missing), ``whole`` (all of it), ``now``, ``cancel``.
    """
    has_files = detail["purged_at"] is None
    detail["can"] = [
        *(["route"] if has_files and detail["state"] in _MAY_BE_ROUTED else []),
        *(["run"] if has_files and detail["state"] in _MAY_BE_RUN else []),
    ]
    for job in detail["jobs"]:
        is_wanted = has_files and not job["superseded"]
        job["can"] = list(_of_job(job, is_wanted))
        for one in job["deliveries"]:
            one["can"] = list(_of_delivery(one, is_wanted))
    return detail


def offer_in_queue(row: Row) -> Row:
    """The same for a job, or a delivery, that has the columns `purged_at` and `superseded` itself."""
    is_wanted = row["purged_at"] is None and not row["superseded"]
    is_job = "job_id" not in row
    row["can"] = list(_of_job({**row, "deliveries": ()}, is_wanted) if is_job else _of_delivery(row, is_wanted))
    return row


def _of_job(job: Row, is_wanted: bool) -> Iterator[str]:
    sent = job["deliveries"]
    is_nowhere = not any(one["accepted"] or one["state"] in _BEGUN for one in sent)
    has_failed = any(one["state"] == DeliveryState.FAILED for one in sent)
    may_be_lost = job["state"] == JobState.SUCCEEDED and is_nowhere and has_failed
    if is_wanted and (job["state"] in _WITHOUT_RESULT or may_be_lost):
        yield "retry"
    if job["state"] in job_sources(JobState.CANCELLED):
        yield "cancel"


def _of_delivery(one: Row, is_wanted: bool) -> Iterator[str]:
    if is_wanted and one["state"] in DELIVERY_ENDED:
        if one["accepted"] < one["instances"]:
            yield "resend"
        if one["accepted"]:
            yield "whole"
    if one["state"] == DeliveryState.QUEUED and (one["attempt"] or one["waits_for"]):
        yield "now"
    if one["state"] in delivery_sources(DeliveryState.CANCELLED):
        yield "cancel"


def _jobs(detail: Row, job_id: str) -> list[Row]:
    return [job for job in detail["jobs"] if job_id in {"", job["id"]}]


def _deliveries(jobs: Sequence[Row], destination: str) -> Iterator[Row]:
    return (one for job in jobs for one in job["deliveries"] if destination in {"", one["destination"]})
