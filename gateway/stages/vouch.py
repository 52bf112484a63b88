"""Vouch: tell peers which of their instances we hold (PS3.4 Annex J, as SCP).

    peer --N-ACTION--> request durable > 0x0000 ... looked up --N-EVENT-REPORT--> peer

We hold what has a row and a file of the right size. Rows are written shortly behind the answer to C-STORE, so an
instance without a row counts as missing only some time after the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway import logs
from gateway.domain.commitment import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    CommitmentReport,
    CommitmentRequest,
    SopReference,
)
from gateway.domain.schedule import RetrySchedule
from gateway.errors import Unavailable
from gateway.killpoints import reached
from gateway.network.commitment import Unusable
from gateway.network.commitment_out import tell
from gateway.network.destination import DestinationAddress, Step, StepFailed
from gateway.network.receiver import AssociationInfo
from gateway.network.statuses import INVALID_ARGUMENT_VALUE, SUCCESS, describe_status
from gateway.store import commitments
from gateway.store.commitments import Asked, Held
from gateway.store.database import Database
from gateway.store.spool import Spool

ROWS_WITHIN_S = 10.0
"""By then the row of an instance that was answered with Success is there, even if the database was slow."""

_LOOK_AGAIN_S = 1.0
_ON_THE_WAY = frozenset({Step.RESOLVE, Step.CONNECT, Step.TLS, Step.ASSOCIATE})
_ENDS_BEFORE_LEASE_S = 5.0

log = logs.get("vouch")


@dataclass(frozen=True, slots=True)
class Voucher:
    """Keeps the requests of peers, and says what is held of them.

    An instance that has no row `rows_within_s` after the request is not held; a report is tried for `give_up_s`.
    """

    database: Database
    spool: Spool
    give_up_s: float
    rows_within_s: float = ROWS_WITHIN_S

    def requested(self, association: AssociationInfo, request: CommitmentRequest, hold_s: float) -> None:
        """Keep the request durably; for `hold_s` nobody else reports. Raises Unusable, Unavailable."""
        with self.database.write() as connection:
            kept = commitments.keep(
                connection,
                request,
                calling_ae_title=association.calling_ae_title,
                called_ae_title=association.called_ae_title,
                address=association.address,
                hold_s=hold_s,
                give_up_s=self.give_up_s,
            )
            if not kept:
                raise Unusable(INVALID_ARGUMENT_VALUE, "the Transaction UID is in use for other instances")
        reached("vouch.kept")
        log.info("commitment requested", transaction=request.transaction_uid, instances=len(request.instances))

    def report_on(self, association: AssociationInfo, transaction_uid: str) -> CommitmentReport | None:
        """What is held of it; None while that cannot be said yet. Raises Unavailable."""
        with self.database.read() as connection:
            asked = commitments.find(connection, association.calling_ae_title, transaction_uid)
        return None if asked is None else self.examine(asked)

    def told(self, association: AssociationInfo, report: CommitmentReport, status: int) -> None:
        """The peer answered the report over the association of its request. Raises Unavailable."""
        with self.database.write() as connection:
            asked = commitments.find(connection, association.calling_ae_title, report.transaction_uid)
            if asked is None:
                return
            if status == SUCCESS:
                commitments.reported(connection, asked, len(report.failed))
            else:
                commitments.later(connection, asked, 0.0, describe_status(status))
        _log_told(association.calling_ae_title, report, status)

    def leave(self, association: AssociationInfo, transaction_uids: Sequence[str]) -> None:
        """The association is over: these are to be reported over another. Raises Unavailable."""
        with self.database.write() as connection:
            commitments.leave(connection, association.calling_ae_title, transaction_uids)

    def examine(self, asked: Asked) -> CommitmentReport | None:
        """The report on a request; None while rows may still come."""
        instances = asked.request.instances
        with self.database.read() as connection:
            held = commitments.held(connection, {instance.sop_instance_uid for instance in instances})
        if asked.age_s < self.rows_within_s and any(one.sop_instance_uid not in held for one in instances):
            return None
        reasons = {one: self._why_not(one, held.get(one.sop_instance_uid)) for one in dict.fromkeys(instances)}
        return CommitmentReport(
            asked.request.transaction_uid,
            tuple(one for one, reason in reasons.items() if reason is None),
            tuple((one, reason) for one, reason in reasons.items() if reason is not None),
        )

    def _why_not(self, wanted: SopReference, held: Held | None) -> int | None:
        """The Failure Reason of an instance; None when we hold it."""
        if held is None:
            return NO_SUCH_INSTANCE
        if held.sop_class_uid != wanted.sop_class_uid:
            return CLASS_INSTANCE_CONFLICT
        try:
            found_bytes = self.spool.path(held.path).stat().st_size
        except FileNotFoundError:
            log.error("no file of an instance that has a row", path=held.path)
            return NO_SUCH_INSTANCE
        except OSError as error:
            log.error("file cannot be looked at", path=held.path, reason=error.strerror)
            return PROCESSING_FAILURE
        if found_bytes != held.size_bytes:
            log.error("file of another size", path=held.path, found=found_bytes, expected=held.size_bytes)
            return PROCESSING_FAILURE
        return None


@dataclass(frozen=True, slots=True)
class Reporter:
    """Brings reports to peers over associations of their own; `address_of` gives the address of an AE title."""

    voucher: Voucher
    address_of: Callable[[str], DestinationAddress | None]
    schedule: RetrySchedule
    lease_s: float

    def __call__(self, commitment_id: str) -> None:
        """Report on a request; does nothing when somebody else does, or nothing is to be told."""
        database = self.voucher.database
        with database.write() as connection:
            asked = commitments.claim(connection, commitment_id, self.lease_s)
        if asked is None:
            return
        try:
            self._report(asked)
        except StepFailed as failed:
            is_away = failed.step in _ON_THE_WAY
            self._try_later(asked, str(failed), worth_retrying=failed.worth_retrying, is_away=is_away)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a report: whatever it was is kept and shown
            log.error("report failed", **logs.failure(error))
            self._try_later(asked, type(error).__name__, worth_retrying=True)

    def _report(self, asked: Asked) -> None:
        report = self.voucher.examine(asked)
        if report is None:
            with self.voucher.database.write() as connection:
                commitments.later(connection, asked, _LOOK_AGAIN_S)
            return
        peer = self.address_of(asked.calling_ae_title)
        if peer is None:
            reason = (
                f"{asked.calling_ae_title}: found no peer or destination of that AE title in the settings; "
                "expected one, to report on storage commitment; add [peers.NAME]"
            )
            self._try_later(asked, reason, worth_retrying=True)
            return
        tell(replace(peer, total_timeout_s=max(1.0, self.lease_s - _ENDS_BEFORE_LEASE_S)), report)
        reached("vouch.told")
        with self.voucher.database.write() as connection:
            commitments.reported(connection, asked, len(report.failed))
        _log_told(asked.calling_ae_title, report, SUCCESS)

    def _try_later(self, asked: Asked, reason: str, *, worth_retrying: bool, is_away: bool = False) -> None:
        wait_s = self.schedule.wait_s(asked.commitment_id, asked.attempt)
        is_over = asked.time_left_s < 0 or not worth_retrying
        with self.voucher.database.write() as connection:
            if is_over:
                commitments.failed(connection, asked, reason)
            elif is_away:
                commitments.peer_is_away(connection, asked, wait_s, reason)
            else:
                commitments.later(connection, asked, wait_s, reason)
        log.warning(
            "commitment not reported", peer=asked.calling_ae_title, transaction=asked.request.transaction_uid,
            reason=reason, retry_in_s=None if is_over else wait_s,
        )  # fmt: skip


def _log_told(peer: str, report: CommitmentReport, status: int) -> None:
    log.info(
        "commitment reported", peer=peer, transaction=report.transaction_uid, held=len(report.committed),
        not_held=len(report.failed), status=f"0x{status:04X}",
    )  # fmt: skip
