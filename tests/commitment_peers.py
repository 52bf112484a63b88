"""Peers of storage commitment made of pynetdicom, whose N-ACTION and N-EVENT-REPORT are not ours."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

References = list[tuple[str, str]]


def information(transaction_uid: str, held: References, failed: list[tuple[str, str, int]] | None = None) -> Dataset:
    """The data set of a request, or with `failed` of a report."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    if held or failed is None:
        ds.ReferencedSOPSequence = [_item(*one) for one in held]
    if failed:
        ds.FailedSOPSequence = [_item(sop_class, uid) for sop_class, uid, _ in failed]
        for item, (_, _, reason) in zip(ds.FailedSOPSequence, failed, strict=True):
            item.FailureReason = reason
    return ds


def _item(sop_class: str, uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


@dataclass
class Reports:
    """The N-EVENT-REPORTs that came, as event type, transaction, what is held and what failed."""

    answer: int = 0x0000
    _came: queue.SimpleQueue[tuple[int, str, References, list[tuple[str, str, int]]]] = field(
        default_factory=queue.SimpleQueue
    )

    def next(self, timeout_s: float = 10.0) -> tuple[int, str, References, list[tuple[str, str, int]]]:
        """The next one."""
        return self._came.get(timeout=timeout_s)

    @property
    def is_empty(self) -> bool:
        return self._came.empty()

    def take(self, event: Any) -> tuple[int, None]:
        ds = event.event_information
        self._came.put(
            (
                event.event_type,
                str(ds.TransactionUID),
                [
                    (str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID))
                    for i in ds.get("ReferencedSOPSequence", [])
                ],
                [
                    (str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID), i.FailureReason)
                    for i in ds.get("FailedSOPSequence", [])
                ],
            )
        )  # fmt: skip
        return self.answer, None


@contextmanager
def asking(port: int, reports: Reports, ae_title: str = "SCANNER", *storage: str) -> Iterator[Association]:
    """An association as the SCU of storage commitment, and of storage of the classes `storage`."""
    entity = AE(ae_title)
    entity.add_requested_context(StorageCommitmentPushModel)
    for sop_class in storage:
        entity.add_requested_context(sop_class)
    handlers = [(evt.EVT_N_EVENT_REPORT, reports.take)]
    association = entity.associate("127.0.0.1", port, ae_title="ATHANOR", evt_handlers=handlers)
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def request(association: Association, ds: Dataset | None, action_type: int = 1, **others: str) -> int:
    """Send an N-ACTION; its status."""
    instance = others.get("instance", StorageCommitmentPushModelInstance)
    status, _ = association.send_n_action(ds, action_type, StorageCommitmentPushModel, instance)
    return int(status.Status)


def tell(port: int, ds: Dataset, event_type: int = 1, ae_title: str = "PACS", *, roles: bool = True) -> int:
    """Report over an association of its own, as an SCP does; the status of the answer."""
    entity = AE(ae_title)
    entity.add_requested_context(StorageCommitmentPushModel)
    role = [build_role(StorageCommitmentPushModel, scp_role=True)] if roles else []
    association = entity.associate("127.0.0.1", port, ae_title="ATHANOR", ext_neg=role)
    assert association.is_established
    (context,) = association.accepted_contexts
    assert (context.as_scu, context.as_scp) == ((False, True) if roles else (True, False))
    status, _ = association.send_n_event_report(
        ds, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return int(status.Status)


class CommittingPacs:
    """An SCP of storage commitment, and the SCU that takes our reports, on one port.

    `report` makes the report on a request, given the request's data set; None: none is sent over its association.
    Instances of the classes `storage` are taken, and `stored` has their UIDs.
    """

    def __init__(self, port: int = 0, *storage: str) -> None:
        self._storage = storage
        self.stored: list[str] = []
        self.requests: queue.SimpleQueue[Dataset] = queue.SimpleQueue()
        self.reports = Reports()
        self.status = 0x0000
        self.report: Any = lambda _: None
        self.answers: list[int] = []
        self._port = port
        self._server: Any = None

    def __enter__(self) -> CommittingPacs:
        entity = AE("PACS")
        entity.add_supported_context(StorageCommitmentPushModel, [ImplicitVRLittleEndian], scu_role=True, scp_role=True)
        for sop_class in self._storage:
            entity.add_supported_context(sop_class)
        handlers = [
            (evt.EVT_N_ACTION, self._take),
            (evt.EVT_N_EVENT_REPORT, self.reports.take),
            (evt.EVT_C_STORE, self._store),
        ]
        self._server = entity.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def _store(self, event: Any) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _take(self, event: Any) -> tuple[int, None]:
        ds = event.action_information
        self.requests.put(ds)
        made = self.report(ds) if self.status == 0x0000 else None
        if made is not None:
            threading.Timer(0.1, self._tell, (event.assoc, *made)).start()
        return self.status, None

    def _tell(self, association: Association, event_type: int, ds: Dataset) -> None:
        with suppress(RuntimeError):  # whoever asked was killed meanwhile
            status, _ = association.send_n_event_report(
                ds, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            self.answers.append(int(status.get("Status", -1)))
