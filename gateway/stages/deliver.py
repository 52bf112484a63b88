"""Deliver: send one job's result to one destination, keep the answer to each instance, try again for days.

A destination is sent the stored bytes under the stored UIDs, however often: an ambiguous outcome is simply sent again.
What keeps a delivery waiting (a hold, quiet hours, an outage, other transfers) is its destination's: see
`gateway.store.destinations`.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field, replace

from gateway import audit, logs, metrics
from gateway.dicom.secondary_capture import require_marks
from gateway.domain.schedule import QuietHours, RetrySchedule
from gateway.domain.states import DeliveryState
from gateway.errors import DicomError, Unavailable
from gateway.killpoints import reached
from gateway.network.destination import DestinationAddress, TransferStopped
from gateway.network.outcomes import SendReport
from gateway.network.outgoing import OutgoingInstance
from gateway.network.pace import Bandwidth, Bandwidths
from gateway.network.statuses import is_taken
from gateway.network.stow import StowAddress
from gateway.network.tls import TlsFiles
from gateway.network.transfer import Address, transfer
from gateway.settings import Destination, Settings
from gateway.settings.line import Deliver, Peer
from gateway.store import deliveries
from gateway.store.database import Database
from gateway.store.deliveries import Claim, ToSend
from gateway.store.directory import Directory
from gateway.store.spool import Spool

# answers are written in groups: each write renews the lease
_WRITE_EVERY_S = 0.5
_RENEWALS_IN_A_LEASE = 4
_ROUTING_THREADS = 4
_SPARE_THREADS = 12  # for destinations that are added while it runs

log = logs.get("deliver")


@dataclass(frozen=True, slots=True)
class Deliverer:
    """Sends deliveries for one process; `owner` is its name in leases.

    Without a directory the destinations are those of the settings. The bandwidth of a destination is shared by all
    transfers of the process.
    """

    database: Database
    spool: Spool
    settings: Settings
    owner: str
    directory: Directory | None = None
    _bandwidths: Bandwidths = field(init=False, default_factory=Bandwidths)

    def __call__(self, delivery_id: str) -> None:
        """Claim a delivery and carry it to its next state; does nothing when it may not go now."""
        claimed = self._claim(delivery_id)
        if claimed is None:
            return
        bound = logs.bind(delivery=delivery_id, job=claimed.job_id, series=claimed.series_id)
        with bound, metrics.timed("deliver"):
            destination = self._destination(claimed.destination)
            if destination is None:
                self._end(
                    claimed, DeliveryState.FAILED,
                    f"destination {claimed.destination}: found none of that name in the settings; add it, then resend",
                )  # fmt: skip
                return
            reached("deliver.claimed")
            try:
                self._send(claimed, destination)
            except TransferStopped:
                log.warning("transfer stopped: cancelled, or taken over by another worker")
            except Unavailable:
                raise  # the database does not answer: the lease ends by itself
            except Exception as error:  # noqa: BLE001 - the edge of a delivery: whatever it was is kept and shown
                log.error("attempt failed", **logs.failure(error))
                self._try_later(claimed, logs.words_of(error))

    def _destination(self, name: str) -> Destination | None:
        return self.directory.destination(name) if self.directory else self.settings.destinations.get(name)

    def _claim(self, delivery_id: str) -> Claim | None:
        with self.database.read() as connection:
            name = deliveries.destination_of(connection, delivery_id)
        if name is None:
            return None
        destination = self._destination(name)
        with self.database.write() as connection:
            return deliveries.claim(
                connection, delivery_id, self.owner, self.settings.deliver.lease_s,
                places_at(destination, self.settings.deliver),
                quiet_until=quiet_until(destination, time.time()),
            )  # fmt: skip

    def _send(self, claimed: Claim, destination: Destination) -> None:
        bandwidth = self._bandwidths.of(claimed.destination, destination.bandwidth_bytes_per_s)
        progress = _Progress(self.database, claimed, bandwidth)
        try:
            instances = [_marked(self.spool, item, progress) for item in claimed.to_send]
        except (DicomError, OSError) as error:
            self._end(claimed, DeliveryState.FAILED, f"not sent: {error}")
            return
        address = address_of(destination, self.settings.deliver, self.settings.node.ae_title)
        audited = self._begin_audit(claimed, destination)
        report = transfer(address, instances, progress.answered, progress.pace)
        if audited is not None:
            audited.ended(outcome.sop_instance_uid for outcome in report.outcomes if outcome.is_delivered)
        reached("deliver.sent")
        progress.write()
        reached("deliver.recorded")
        self._conclude(claimed, destination, report)

    def _begin_audit(self, claimed: Claim, destination: Destination) -> audit.Sending | None:
        if not audit.is_kept():
            return None
        with self.database.read() as connection:
            study_uid, patient_id = deliveries.subject_of(connection, claimed.series_id)
        node = audit.Node(destination.ae_title or claimed.destination, destination.host)
        sop_classes = {item.sop_instance_uid: item.sop_class_uid for item in claimed.to_send}
        return audit.Sending(node, study_uid, patient_id, sop_classes)

    def _conclude(self, claimed: Claim, destination: Destination, report: SendReport) -> None:
        left = [outcome for outcome in report.outcomes if not outcome.is_delivered]
        if not left:
            ended = DeliveryState.COMMITTING if destination.commitment else DeliveryState.DELIVERED
            self._end(claimed, ended, None)
            return
        words = "; ".join(dict.fromkeys(outcome.explanation for outcome in left))
        reason = f"{len(left)} of {len(report.outcomes)} instances not accepted: {words}"
        if any(outcome.worth_retrying for outcome in left):
            self._try_later(claimed, reason, report)
        else:
            self._end(claimed, DeliveryState.FAILED, reason)

    def _try_later(self, claimed: Claim, reason: str, report: SendReport | None = None) -> None:
        """Back to the queue, each time for longer, or FAILED when its time is over."""
        settings = self.settings.deliver
        is_outage = report is not None and report.is_outage
        asked_s = report.failure.retry_after_s if report is not None and report.failure is not None else 0.0
        at_least_s = min(asked_s, settings.longest_retry_s)
        schedule = RetrySchedule(settings.first_retry_s, settings.growth, settings.longest_retry_s, at_least_s)
        # progress begins the waits anew
        attempt = claimed.attempt if report is None or is_outage else 1
        retry_in_s = schedule.wait_s(claimed.delivery_id, attempt)
        state = DeliveryState.FAILED if claimed.time_left_s < 0 else DeliveryState.QUEUED
        self._end(claimed, state, reason, retry_in_s, schedule if is_outage else None)

    def _end(
        self,
        claimed: Claim,
        state: DeliveryState,
        reason: str | None,
        retry_in_s: float | None = None,
        outage: RetrySchedule | None = None,
    ) -> None:
        if state is not DeliveryState.QUEUED:
            retry_in_s = None
        with self.database.write() as connection:
            mine = deliveries.end(connection, claimed, state, error=reason, retry_in_s=retry_in_s, outage=outage)
        reached("deliver.ended")
        if mine:
            metrics.ATTEMPTS.labels("deliver", state.value.lower()).inc()
        log.log(
            logging.WARNING if reason else logging.INFO,
            "delivery" if mine else "delivery taken over by another worker, or cancelled",
            state=state.value, destination=claimed.destination, reason=reason, retry_in_s=retry_in_s,
        )  # fmt: skip


class _Progress:
    """Writes the answers of one transfer in groups, keeps its lease alive, and keeps to the bandwidth."""

    def __init__(self, database: Database, claimed: Claim, bandwidth: Bandwidth | None) -> None:
        self._database = database
        self._claimed = claimed
        self._bandwidth = bandwidth
        self._ids = {item.sop_instance_uid: item.derived_id for item in claimed.to_send}
        self._unwritten: dict[int, tuple[int, str, bool]] = {}
        self._written_at = time.monotonic()

    def answered(self, sop_instance_uid: str, status: int, words: str) -> None:
        """An instance has its answer."""
        metrics.SENT_INSTANCES.labels(self._claimed.destination, metrics.status_label(status)).inc()
        self._unwritten[self._ids[sop_instance_uid]] = (status, words, is_taken(status))
        if time.monotonic() - self._written_at > _WRITE_EVERY_S:
            self.write()

    def pace(self, count: int) -> None:
        """`count` bytes are about to go. Raises TransferStopped when the delivery is no longer ours."""
        self._renew()
        if self._bandwidth is not None and count:
            self._bandwidth.take(count, self._renew)

    def _renew(self) -> None:
        if time.monotonic() - self._written_at > self._claimed.lease_s / _RENEWALS_IN_A_LEASE:
            self.write()

    def write(self) -> None:
        """Write the answers that there are, and renew the lease."""
        with self._database.write() as connection:
            mine = deliveries.record_answers(connection, self._claimed, self._unwritten)
        self._unwritten = {}
        self._written_at = time.monotonic()
        if not mine:
            raise TransferStopped("the lease was lost")


def _marked(spool: Spool, item: ToSend, progress: _Progress) -> OutgoingInstance:
    """The file, after a last look: nothing that is damaged or could pass for acquired leaves this node."""
    progress.pace(0)
    path = spool.require_intact(item.path, item.sha256)
    require_marks(path)
    return OutgoingInstance(path, item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid)


def places_at(destination: Destination | None, settings: Deliver) -> int:
    """How many transfers a destination may have at a time."""
    return (destination.concurrency if destination else None) or settings.per_destination


def threads_for(settings: Settings) -> int:
    """How many threads a transfer worker needs for no destination, and no peer, ever to wait for another."""
    places = sum(places_at(destination, settings.deliver) for destination in settings.destinations.values())
    # each is also asked or told of storage commitment, one thing at a time
    places += len(settings.destinations) + len(settings.peers)
    return settings.deliver.threads or places + _ROUTING_THREADS + _SPARE_THREADS


def quiet_until(destination: Destination | None, now_s: float) -> float | None:
    """The end of the quiet hours in which a destination is, in seconds since 1970; None outside of them."""
    if destination is None or destination.quiet_hours is None:
        return None
    return QuietHours.parse(destination.quiet_hours, destination.time_zone).until(now_s)


def quiet_now(settings: Settings) -> dict[str, float | None]:
    """The end of the quiet hours in which each destination is now; None outside of them."""
    return {name: quiet_until(destination, time.time()) for name, destination in settings.destinations.items()}


def address_of(destination: Destination, settings: Deliver, calling_ae_title: str) -> Address:
    """A destination of the settings as it is sent to."""
    if destination.stow_url is not None:
        files, server_name = _tls_of(destination)
        return StowAddress(
            url=destination.stow_url,
            token_file=destination.token_file,
            tls=files,
            tls_server_name=server_name,
            connect_timeout_s=settings.connect_timeout_s,
            response_timeout_s=settings.response_timeout_s,
            batch_bytes=destination.batch_bytes,
        )
    # each piece and each answer has its deadline; how many there are is not the destination's fault
    return replace(entity_address(destination, settings, calling_ae_title), total_timeout_s=math.inf)


def entity_address(entity: Destination | Peer, settings: Deliver, calling_ae_title: str) -> DestinationAddress:
    """An application entity of the settings as it is called."""
    files, server_name = _tls_of(entity)
    return DestinationAddress(
        ae_title=entity.ae_title,
        host=entity.host,
        port=entity.port,
        calling_ae_title=calling_ae_title,
        tls=files,
        tls_server_name=server_name,
        connect_timeout_s=settings.connect_timeout_s,
        response_timeout_s=settings.response_timeout_s,
    )


def _tls_of(entity: Destination | Peer) -> tuple[TlsFiles | None, str | None]:
    tls = entity.tls
    return (TlsFiles(tls.certificate, tls.key, tls.ca), tls.server_name or None) if tls else (None, None)
