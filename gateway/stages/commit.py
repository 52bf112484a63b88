"""Commit: ask a destination whether it keeps what it was sent, and hear what it says (PS3.4 Annex J, as SCU).

    delivery COMMITTING --N-ACTION--> destination --N-EVENT-REPORT--> DELIVERED, or QUEUED to be sent again

The report comes over the same association, or later over one that the destination opens to our SCP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway import logs
from gateway.domain.commitment import CommitmentReport
from gateway.domain.schedule import RetrySchedule
from gateway.errors import Unavailable
from gateway.killpoints import reached
from gateway.network.commitment import Unusable
from gateway.network.commitment_out import ask
from gateway.network.destination import DestinationAddress, StepFailed
from gateway.network.receiver import AssociationInfo
from gateway.network.statuses import INVALID_ARGUMENT_VALUE
from gateway.store import confirmations
from gateway.store.confirmations import Question
from gateway.store.database import Database

_SAME_ASSOCIATION_S = 2.0
_ENDS_BEFORE_LEASE_S = 5.0

log = logs.get("commit")


@dataclass(frozen=True, slots=True)
class Committer:
    """Asks destinations for commitment in one process; `owner` is its name in leases.

    `asked` gives the address of a destination that is asked, and the seconds after which it is asked again.
    """

    database: Database
    asked: Callable[[str], tuple[DestinationAddress, float] | None]
    schedule: RetrySchedule
    lease_s: float
    uid_root: str
    owner: str

    def __call__(self, delivery_id: str) -> None:
        """Ask about a delivery; does nothing when it is not time to."""
        with self.database.write() as connection:
            question = confirmations.claim(connection, delivery_id, self.owner, self.lease_s, self.uid_root)
        if question is None:
            return
        reached("commit.claimed")
        with logs.bind(delivery=delivery_id, job=question.job_id, series=question.series_id):
            found = self.asked(question.destination)
            if found is None:
                self._not_asked(
                    question,
                    f"destination {question.destination}: found none of that name with commitment in the settings; "
                    "expected it since the delivery began; set commitment = true, then resend",
                    None,
                )
            elif question.number > 1 and question.time_left_s < 0:
                self._not_asked(
                    question,
                    f"asked {question.number - 1} times for storage commitment without a report; does "
                    f"{question.destination} know where to reach us?",
                    None,
                )
            else:
                self._ask(question, *found)

    def _ask(self, question: Question, address: DestinationAddress, report_within_s: float) -> None:
        bounded = replace(address, total_timeout_s=max(1.0, self.lease_s - _SAME_ASSOCIATION_S - _ENDS_BEFORE_LEASE_S))

        def taken() -> None:
            reached("commit.taken")
            with self.database.write() as connection:
                confirmations.asked(connection, question, report_within_s)
            instances = len(question.request.instances)
            log.info("asked for commitment", destination=question.destination, instances=instances)

        def heard(report: CommitmentReport) -> None:
            hear(self.database, self.schedule, report)

        try:
            ask(bounded, question.request, report_within_s=_SAME_ASSOCIATION_S, taken=taken, heard=heard)
        except StepFailed as failed:
            self._try_later(question, str(failed), worth_retrying=failed.worth_retrying)
        except Unavailable:
            raise  # the database does not answer: the lease ends by itself
        except Exception as error:  # noqa: BLE001 - the edge of a question: whatever it was is kept and shown
            log.error("question failed", **logs.failure(error))
            self._try_later(question, type(error).__name__, worth_retrying=True)

    def _try_later(self, question: Question, reason: str, *, worth_retrying: bool) -> None:
        may_retry = worth_retrying and question.time_left_s > 0
        wait_s = self.schedule.wait_s(question.delivery_id, question.number) if may_retry else None
        self._not_asked(question, f"storage commitment: {reason}", wait_s)

    def _not_asked(self, question: Question, reason: str, retry_in_s: float | None) -> None:
        with self.database.write() as connection:
            confirmations.not_asked(connection, question, reason, retry_in_s)
        log.warning("not asked", destination=question.destination, reason=reason, retry_in_s=retry_in_s)


@dataclass(frozen=True, slots=True)
class Listener:
    """Takes reports that destinations bring to our SCP."""

    database: Database
    schedule: RetrySchedule

    def __call__(self, association: AssociationInfo, report: CommitmentReport) -> None:
        """Take a report to its delivery. Raises Unusable: nobody asked for it."""
        if not hear(self.database, self.schedule, report):
            raise Unusable(INVALID_ARGUMENT_VALUE, "nobody asked under this Transaction UID")


def hear(database: Database, schedule: RetrySchedule, report: CommitmentReport) -> bool:
    """Take a report to its delivery; False when nobody asked for it."""
    with database.write() as connection:
        verdict = confirmations.heard(connection, report, schedule)
    if verdict is None:
        return False
    reached("commit.heard")
    log.info(
        "report on commitment", delivery=verdict.delivery_id, committed=len(report.committed),
        failed=len(report.failed), state=verdict.state, reason=verdict.reason,
    )  # fmt: skip
    return True
