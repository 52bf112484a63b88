"""Deliver: send one job's result to one destination, keep the answer to each instance, try again for days.

A destination is sent the stored bytes under the stored UIDs, however often: an ambiguous outcome is simply sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from gateway import logs
from gateway.dicom.secondary_capture import require_marks
from gateway.domain.states import DeliveryState
from gateway.errors import DicomError, Unavailable
from gateway.network.scu import DestinationAddress, OutgoingInstance, SendReport, send
from gateway.network.statuses import StatusCategory, category_of
from gateway.network.tls import TlsFiles
from gateway.settings import Deliver, Destination
from gateway.store import deliveries
from gateway.store.database import Database
from gateway.store.deliveries import Claim, ToSend
from gateway.store.spool import Spool

# answers are written in groups: each write renews the lease
_WRITE_EVERY_S = 0.5

log = logs.get("deliver")


class _Answers:
    """Collects the answers of one association and writes them in groups."""

    def __init__(self, database: Database, claimed: Claim) -> None:
        self._database = database
        self._claimed = claimed
        self._ids = {item.sop_instance_uid: item.derived_id for item in claimed.to_send}
        self._unwritten: dict[int, tuple[int, str, bool]] = {}
        self._written_at = time.monotonic()

    def __call__(self, sop_instance_uid: str, status: int, words: str) -> None:
        accepted = category_of(status) is not StatusCategory.FAILURE
        self._unwritten[self._ids[sop_instance_uid]] = (status, words, accepted)
        if time.monotonic() - self._written_at > _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        with self._database.write() as connection:
            deliveries.record_answers(connection, self._claimed, self._unwritten)
        self._unwritten = {}
        self._written_at = time.monotonic()


def deliver(
    database: Database,
    spool: Spool,
    destinations: Mapping[str, Destination],
    settings: Deliver,
    calling_ae_title: str,
    delivery_id: str,
    owner: str,
) -> None:
    """Claim a delivery and carry it to its next state; does nothing when there is nothing to claim."""
    with database.write() as connection:
        claimed = deliveries.claim(connection, delivery_id, owner, settings.lease_s, settings.per_destination)
    if claimed is None:
        return
    with logs.bind(delivery=delivery_id, job=claimed.job_id, series=claimed.series_id):
        destination = destinations.get(claimed.destination)
        if destination is None:
            _end(
                database, claimed, DeliveryState.FAILED,
                f"destination {claimed.destination}: found none of that name in the settings; add it, then resend",
            )  # fmt: skip
            return
        try:
            _send(database, spool, destination, settings, calling_ae_title, claimed)
        except Unavailable:
            raise  # the database does not answer: the lease ends by itself
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: whatever it was is kept and shown
            log.error("attempt failed", **logs.failure(error))
            _try_later(database, claimed, settings, f"{type(error).__name__}: {error}")


def _send(
    database: Database,
    spool: Spool,
    destination: Destination,
    settings: Deliver,
    calling_ae_title: str,
    claimed: Claim,
) -> None:
    try:
        instances = [_marked(spool, item) for item in claimed.to_send]
    except (DicomError, OSError) as error:
        _end(database, claimed, DeliveryState.FAILED, f"not sent: {error}")
        return
    answers = _Answers(database, claimed)
    report = send(address_of(destination, settings, calling_ae_title), instances, answers)
    answers.write()
    _conclude(database, claimed, settings, report)


def _marked(spool: Spool, item: ToSend) -> OutgoingInstance:
    """The file, after a last look: nothing that is damaged or could pass for acquired leaves this node."""
    path = spool.require_intact(item.path, item.sha256)
    require_marks(path)
    return OutgoingInstance(path, item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid)


def address_of(destination: Destination, settings: Deliver, calling_ae_title: str) -> DestinationAddress:
    """A destination of the settings as the SCU takes it."""
    tls = destination.tls
    return DestinationAddress(
        ae_title=destination.ae_title,
        host=destination.host,
        port=destination.port,
        calling_ae_title=calling_ae_title,
        tls=TlsFiles(tls.certificate, tls.key, tls.ca) if tls else None,
        tls_server_name=tls.server_name or None if tls else None,
        connect_timeout_s=settings.connect_timeout_s,
        response_timeout_s=settings.response_timeout_s,
    )


def _conclude(database: Database, claimed: Claim, settings: Deliver, report: SendReport) -> None:
    left = [outcome for outcome in report.outcomes if not outcome.is_delivered]
    if not left:
        _end(database, claimed, DeliveryState.DELIVERED, None)
        return
    words = "; ".join(dict.fromkeys(outcome.explanation for outcome in left))
    reason = f"{len(left)} of {len(report.outcomes)} instances not accepted: {words}"
    if any(outcome.worth_retrying for outcome in left):
        _try_later(database, claimed, settings, reason)
    else:
        _end(database, claimed, DeliveryState.FAILED, reason)


def _try_later(database: Database, claimed: Claim, settings: Deliver, reason: str) -> None:
    """Back to the queue, each time for longer, or FAILED when its time is over."""
    if claimed.time_left_s < 0:
        _end(database, claimed, DeliveryState.FAILED, reason)
        return
    wait_s = settings.first_retry_s * settings.growth ** min(claimed.attempt - 1, 64)
    _end(database, claimed, DeliveryState.QUEUED, reason, min(wait_s, settings.longest_retry_s))


def _end(
    database: Database,
    claimed: Claim,
    state: DeliveryState,
    reason: str | None,
    retry_in_s: float | None = None,
) -> None:
    with database.write() as connection:
        mine = deliveries.end(connection, claimed, state, error=reason, retry_in_s=retry_in_s)
    log.log(
        logging.WARNING if reason else logging.INFO,
        "delivery" if mine else "delivery taken over by another worker",
        state=state.value, destination=claimed.destination, reason=reason, retry_in_s=retry_in_s,
    )  # fmt: skip
