"""Storage commitment on the wire, in both roles and both directions, against pynetdicom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from commitment_peers import CommittingPacs, Reports, asking, information, request, tell
from network_peers import AE_TITLE, Recorder
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import StorageCommitmentPushModel

from gateway.commands.sandbox import free_port
from gateway.domain.commitment import CommitmentReport, CommitmentRequest, SopReference
from gateway.errors import Unavailable
from gateway.network import commitment_out
from gateway.network.commitment import Unusable
from gateway.network.commitment_in import Commitments
from gateway.network.destination import DestinationAddress, Step, StepFailed
from gateway.network.receiver import AssociationInfo
from gateway.network.scp import ScpConfig, StorageScp
from gateway.network.statuses import INVALID_ARGUMENT_VALUE

MR, CT = str(MRImageStorage), str(CTImageStorage)
ONE, TWO = SopReference(MR, "1.2.3.1"), SopReference(CT, "1.2.3.2")


class Keeper:
    """Both sides of storage commitment in memory, which a test waits for."""

    def __init__(self) -> None:
        self.happened: list[tuple[Any, ...]] = []
        self.report: Callable[[str], CommitmentReport | None] = lambda uid: CommitmentReport(uid, (ONE,))
        self.refusal: Exception | None = None
        self._changed = threading.Condition()

    def requested(self, association: AssociationInfo, asked: CommitmentRequest, hold_s: float) -> None:
        self._note("requested", association.calling_ae_title, asked)
        if self.refusal is not None:
            raise self.refusal

    def report_on(self, association: AssociationInfo, transaction_uid: str) -> CommitmentReport | None:
        return self.report(transaction_uid)

    def told(self, association: AssociationInfo, report: CommitmentReport, status: int) -> None:
        self._note("told", report.transaction_uid, status)

    def leave(self, association: AssociationInfo, transaction_uids: Sequence[str]) -> None:
        self._note("left", *transaction_uids)

    def hear(self, association: AssociationInfo, report: CommitmentReport) -> None:
        self._note("heard", association.calling_ae_title, report)
        if self.refusal is not None:
            raise self.refusal

    def wait_for(self, *what: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what in self.happened, 10), f"{what} not in {self.happened}"

    def _note(self, *what: Any) -> None:
        with self._changed:
            self.happened.append(what)
            self._changed.notify_all()


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def scp(keeper: Keeper) -> Iterator[StorageScp]:
    with StorageScp(ScpConfig(AE_TITLE, port=0), Recorder(), commitments=Commitments(keeper, keeper.hear)) as listening:
        yield listening


@pytest.fixture
def pacs() -> Iterator[CommittingPacs]:
    with CommittingPacs() as running:
        yield running


def address(port: int) -> DestinationAddress:
    return DestinationAddress("PACS", "127.0.0.1", port, "ATHANOR", response_timeout_s=5.0)


def test_a_peer_that_waits_is_told_over_the_association_of_its_request(scp: StorageScp, keeper: Keeper) -> None:
    keeper.report = lambda uid: CommitmentReport(uid, (ONE,), ((TWO, 0x0112),))
    reports = Reports()
    with asking(scp.port, reports) as association:
        assert request(association, information("1.2.9", [(MR, "1.2.3.1"), (CT, "1.2.3.2")])) == 0x0000
        assert reports.next() == (2, "1.2.9", [(MR, "1.2.3.1")], [(CT, "1.2.3.2", 0x0112)])
        keeper.wait_for("told", "1.2.9", 0x0000)
        # the association serves on, also for a second request
        assert request(association, information("1.2.10", [(MR, "1.2.3.1")])) == 0x0000
    assert keeper.happened[0] == ("requested", "SCANNER", CommitmentRequest("1.2.9", (ONE, TWO)))
    keeper.wait_for("left", "1.2.10")


def test_nothing_is_said_before_it_is_known_what_is_held(scp: StorageScp, keeper: Keeper) -> None:
    looked = threading.Event()
    known = threading.Event()

    def look(uid: str) -> CommitmentReport | None:
        looked.set()
        return CommitmentReport(uid, (ONE,)) if known.is_set() else None

    keeper.report = look
    reports = Reports()
    with asking(scp.port, reports) as association:
        assert request(association, information("1.2.9", [(MR, "1.2.3.1")])) == 0x0000
        assert looked.wait(10)
        assert reports.is_empty
        known.set()
        assert reports.next()[:2] == (1, "1.2.9")
        keeper.wait_for("told", "1.2.9", 0x0000)


def test_a_peer_that_refuses_the_report_or_goes_without_an_answer_is_left_to_another_association(
    scp: StorageScp, keeper: Keeper
) -> None:
    with asking(scp.port, Reports(answer=0x0110)) as association:
        assert request(association, information("1.2.9", [(MR, "1.2.3.1")])) == 0x0000
        keeper.wait_for("told", "1.2.9", 0x0110)
    with asking(scp.port, Reports()) as association:
        assert request(association, information("1.2.10", [(MR, "1.2.3.1")])) == 0x0000
        association.abort()
    keeper.wait_for("left", "1.2.10")


@pytest.mark.parametrize(
    ("ds", "action_type", "instance", "status"),
    [
        (information("1.2.9", [(MR, "1.2.3.1")]), 2, "", 0x0123),
        (information("1.2.9", [(MR, "1.2.3.1")]), 1, "1.2.3.4", 0x0112),
        (information("1.2.9", []), 1, "", 0x0114),
        (None, 1, "", 0x0114),
        (information("", [(MR, "1.2.3.1")]), 1, "", 0x0115),
        (information("1.2.9", [("", "1.2.3.1")]), 1, "", 0x0115),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_request_that_cannot_be_taken_is_answered_with_the_reason(
    scp: StorageScp, keeper: Keeper, ds: Dataset | None, action_type: int, instance: str, status: int
) -> None:
    with asking(scp.port, Reports()) as association:
        others = {"instance": instance} if instance else {}
        assert request(association, ds, action_type, **others) == status
        assert request(association, information("1.2.77", [(MR, "1.2.3.1")])) == 0x0000
    assert len([what for what, *_ in keeper.happened if what == "requested"]) == 1


def test_sequences_without_end_are_measured_not_decoded(scp: StorageScp) -> None:
    ds = information("1.2.9", [(MR, "1.2.3.1")])
    innermost = ds
    for _ in range(200):
        innermost.RequestedProcedureCodeSequence = [Dataset()]
        innermost = innermost.RequestedProcedureCodeSequence[0]
    with asking(scp.port, Reports()) as association:
        assert request(association, ds) == 0x0212


@pytest.mark.parametrize(
    ("refusal", "status"), [(Unusable(INVALID_ARGUMENT_VALUE, "in use"), 0x0115), (Unavailable("away"), 0x0110)]
)
def test_a_request_that_was_not_kept_has_no_success(
    scp: StorageScp, keeper: Keeper, refusal: Exception, status: int
) -> None:
    keeper.refusal = refusal
    with asking(scp.port, Reports()) as association:
        assert request(association, information("1.2.9", [(MR, "1.2.3.1")])) == status


@pytest.mark.parametrize("roles", [True, False])
def test_a_report_over_an_association_of_the_other_side_is_heard(scp: StorageScp, keeper: Keeper, roles: bool) -> None:
    ds = information("1.2.9", [(MR, "1.2.3.1")], [(CT, "1.2.3.2", 0x0119)])
    assert tell(scp.port, ds, 2, roles=roles) == 0x0000
    assert keeper.happened == [("heard", "PACS", CommitmentReport("1.2.9", (ONE,), ((TWO, 0x0119),)))]


def test_a_report_that_nobody_asked_for_is_refused(scp: StorageScp, keeper: Keeper) -> None:
    keeper.refusal = Unusable(INVALID_ARGUMENT_VALUE, "nobody asked")
    assert tell(scp.port, information("1.2.9", [(MR, "1.2.3.1")])) == 0x0115
    assert tell(scp.port, information("1.2.9", [(MR, "1.2.3.1")]), 3) == 0x0113


def test_who_wants_no_role_gets_no_context_and_an_scp_without_commitment_none_at_all(scp: StorageScp) -> None:
    entity = AE()
    entity.add_requested_context(StorageCommitmentPushModel)
    entity.add_requested_context(MRImageStorage)
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = StorageCommitmentPushModel, True, False
    association = entity.associate("127.0.0.1", scp.port, ae_title="ATHANOR", ext_neg=[role])
    assert {context.abstract_syntax for context in association.accepted_contexts} == {StorageCommitmentPushModel, MR}
    association.release()
    with StorageScp(ScpConfig(AE_TITLE, port=0), Recorder()) as bare:
        association = entity.associate("127.0.0.1", bare.port, ae_title="ATHANOR")
        assert {context.abstract_syntax for context in association.accepted_contexts} == {MR}
        association.release()


def test_a_destination_is_asked_and_reports_over_the_same_association(pacs: CommittingPacs) -> None:
    pacs.report = lambda ds: (2, information(ds.TransactionUID, [(MR, "1.2.3.1")], [(CT, "1.2.3.2", 0x0112)]))
    report = commitment_out.ask(address(pacs.port), CommitmentRequest("1.2.9", (ONE, TWO)), report_within_s=5.0)
    assert report == CommitmentReport("1.2.9", (ONE,), ((TWO, 0x0112),))
    asked = pacs.requests.get(timeout=5)
    assert asked == information("1.2.9", [(MR, "1.2.3.1"), (CT, "1.2.3.2")])
    assert pacs.answers == [0x0000]


def test_a_destination_may_report_later(pacs: CommittingPacs) -> None:
    request = CommitmentRequest("1.2.9", (ONE,))
    assert commitment_out.ask(address(pacs.port), request, report_within_s=0.2) is None


def test_the_report_of_another_transaction_is_not_taken_for_ours(pacs: CommittingPacs) -> None:
    pacs.report = lambda _: (1, information("1.2.8", [(MR, "1.2.3.1")]))
    request = CommitmentRequest("1.2.9", (ONE,))
    assert commitment_out.ask(address(pacs.port), request, report_within_s=1.0) is None
    assert pacs.answers == [0x0115]


def test_a_destination_that_refuses_says_why(pacs: CommittingPacs) -> None:
    request = CommitmentRequest("1.2.9", (ONE,))
    pacs.status = 0x0213
    with pytest.raises(StepFailed, match="resource limitation") as failed:
        commitment_out.ask(address(pacs.port), request, report_within_s=0.1)
    assert failed.value.step is Step.REQUEST
    assert failed.value.worth_retrying
    with StorageScp(ScpConfig("PACS", port=0), Recorder()) as bare, pytest.raises(StepFailed) as failed:
        commitment_out.ask(address(bare.port), request, report_within_s=0.1)
    assert failed.value.step is Step.CONTEXT
    assert not failed.value.worth_retrying
    with pytest.raises(StepFailed, match="connection refused") as failed:
        commitment_out.ask(address(free_port()), request, report_within_s=0.1)
    assert failed.value.worth_retrying


def test_a_peer_is_told_over_an_association_of_ours(pacs: CommittingPacs) -> None:
    commitment_out.tell(address(pacs.port), CommitmentReport("1.2.9", (ONE,)))
    assert pacs.reports.next() == (1, "1.2.9", [(MR, "1.2.3.1")], [])
    commitment_out.tell(address(pacs.port), CommitmentReport("1.2.10", (), ((TWO, 0x0110),)))
    assert pacs.reports.next() == (2, "1.2.10", [], [(CT, "1.2.3.2", 0x0110)])
    pacs.reports.answer = 0x0112
    with pytest.raises(StepFailed, match="no such SOP Instance"):
        commitment_out.tell(address(pacs.port), CommitmentReport("1.2.11", (ONE,)))


def test_a_peer_that_lets_nobody_else_be_the_scp_is_not_told() -> None:
    entity = AE("PACS")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=False)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(StepFailed) as failed:
            commitment_out.tell(address(server.server_address[1]), CommitmentReport("1.2.9", (ONE,)))
    finally:
        server.shutdown()
    assert failed.value.step is Step.CONTEXT


def test_our_two_sides_speak_to_each_other_in_every_size(scp: StorageScp, keeper: Keeper) -> None:
    many = tuple(SopReference(MR, f"1.2.3.{number}") for number in range(5000))
    request = CommitmentRequest("1.2.9", many)
    keeper.report = lambda uid: CommitmentReport(uid, many)
    destination = DestinationAddress("ATHANOR", "127.0.0.1", scp.port, "NODE")
    assert commitment_out.ask(destination, request, report_within_s=10.0) == CommitmentReport("1.2.9", many)
    commitment_out.tell(destination, CommitmentReport("1.2.10", (), tuple((one, 0x0112) for one in many)))
    assert keeper.happened[0] == ("requested", "NODE", request)
    assert len(keeper.happened[-1][2].failed) == len(many)
