"""A-ASSOCIATE PDUs: what is read from them, what is agreed, and that hostile ones do no harm."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import AsynchronousOperationsWindowSubItem

from gateway.network.contexts import STORAGE_COMMITMENT, VERIFICATION, supported_contexts
from gateway.network.negotiation import (
    AgreedContext,
    ProposedContext,
    accept_request,
    read_acceptance,
    read_request,
    request_pdu,
)
from gateway.network.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.network.upper_layer import ProtocolViolation

pytestmark = pytest.mark.filterwarnings("ignore:.*VR UI")

MR_EXPLICIT = ProposedContext(MRImageStorage, ExplicitVRLittleEndian)
PROPOSED = [
    MR_EXPLICIT,
    ProposedContext(MRImageStorage, JPEG2000Lossless),
    ProposedContext(EncapsulatedPDFStorage, ImplicitVRLittleEndian),
    ProposedContext(VERIFICATION, ImplicitVRLittleEndian),
]


def with_items(pdu: bytes, *items: bytes) -> bytes:
    """The A-ASSOCIATE-RQ with more items at its end."""
    body = pdu[6:] + b"".join(items)
    return pdu[:2] + struct.pack(">L", len(body)) + body


def with_user_items(pdu: bytes, *items: bytes) -> bytes:
    """The A-ASSOCIATE-RQ with more sub-items in its user information, which is the last item."""
    at = pdu.rindex(b"\x50\x00")
    (length,) = struct.unpack_from(">H", pdu, at + 2)
    extra = b"".join(items)
    grown = pdu[: at + 2] + struct.pack(">H", length + len(extra)) + pdu[at + 4 :] + extra
    return grown[:2] + struct.pack(">L", len(grown) - 6) + grown[6:]


def test_a_request_is_read_with_its_titles_limits_and_implementation() -> None:
    request = read_request(request_pdu("SCANNER 1", "ATHANOR", PROPOSED, 16384))
    assert (request.calling_ae_title, request.called_ae_title) == ("SCANNER 1", "ATHANOR")
    assert request.speaks_version_1
    assert request.max_pdu_bytes == 16384
    assert request.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert request.implementation_version_name == IMPLEMENTATION_VERSION_NAME


def test_both_sides_agree_on_the_same_contexts() -> None:
    request = read_request(request_pdu("A", "B", PROPOSED, 16384))
    answer, accepted = accept_request(request, supported_contexts(), 131072)
    max_pdu_bytes, agreed = read_acceptance(answer, PROPOSED)
    assert max_pdu_bytes == 131072
    assert agreed == accepted
    assert agreed == {
        1: AgreedContext(1, MRImageStorage, ExplicitVRLittleEndian),
        3: AgreedContext(3, MRImageStorage, JPEG2000Lossless),
        7: AgreedContext(7, VERIFICATION, ImplicitVRLittleEndian),
    }


def test_a_refused_context_is_answered_with_the_reason() -> None:
    request = read_request(request_pdu("A", "B", PROPOSED, 16384))
    answer, _ = accept_request(request, supported_contexts(), 131072)
    pdu = A_ASSOCIATE_AC()
    pdu.decode(answer)
    contexts = pdu.to_primitive().presentation_context_definition_results_list
    results = {context.context_id: context.result for context in contexts}
    assert results == {1: 0, 3: 0, 5: 3, 7: 0}  # 3: abstract syntax not supported


def test_of_several_transfer_syntaxes_in_one_context_explicit_little_endian_wins() -> None:
    rq = A_ASSOCIATE_RQ()
    rq.decode(request_pdu("A", "B", [MR_EXPLICIT], 16384))
    context = rq.presentation_context[0]
    syntaxes = context.transfer_syntax
    assert syntaxes == [ExplicitVRLittleEndian]
    primitive = rq.to_primitive()
    primitive.presentation_context_definition_list[0].transfer_syntax = [
        JPEG2000Lossless,
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
    ]
    _, accepted = accept_request(read_request(A_ASSOCIATE_RQ(primitive).encode()), supported_contexts(), 131072)
    assert accepted[1].transfer_syntax_uid == ExplicitVRLittleEndian


def test_asynchronous_operations_are_answered_with_one_at_a_time() -> None:
    window = bytes.fromhex("5300 0004 0000 0000")  # PS3.7 D.3.3.3: unlimited
    request = read_request(with_user_items(request_pdu("A", "B", [MR_EXPLICIT], 16384), window))
    answer, _ = accept_request(request, supported_contexts(), 131072)
    pdu = A_ASSOCIATE_AC()
    pdu.decode(answer)
    (item,) = [i for i in pdu.user_information.user_data if isinstance(i, AsynchronousOperationsWindowSubItem)]
    assert (item.max_operations_invoked, item.max_operations_performed) == (1, 1)


def test_without_the_question_there_is_no_answer_about_asynchronous_operations() -> None:
    answer, _ = accept_request(read_request(request_pdu("A", "B", [MR_EXPLICIT], 16384)), supported_contexts(), 131072)
    assert b"\x53\x00\x00\x04" not in answer


def test_items_of_unknown_type_are_skipped() -> None:
    unknown = bytes.fromhex("7700 0003 616263")
    pdu = with_user_items(request_pdu("A", "B", PROPOSED, 16384), unknown)
    request = read_request(with_items(pdu, unknown))
    _, accepted = accept_request(request, supported_contexts(), 131072)
    assert set(accepted) == {1, 3, 7}


@pytest.mark.parametrize("cut", [7, 40, 74, 90, 200])
def test_a_truncated_request_is_a_violation(cut: int) -> None:
    with pytest.raises(ProtocolViolation):
        read_request(request_pdu("A", "B", PROPOSED, 16384)[:cut])


@given(st.data())
@settings(max_examples=200)
def test_a_mangled_request_is_read_or_a_violation(data: st.DataObject) -> None:
    pdu = bytearray(request_pdu("A", "B", PROPOSED, 16384))
    for place in data.draw(st.lists(st.integers(6, len(pdu) - 1), min_size=1, max_size=8)):
        pdu[place] = data.draw(st.integers(0, 255))
    with suppress(ProtocolViolation):
        accept_request(read_request(bytes(pdu)), supported_contexts(), 131072)


@given(st.binary(max_size=400))
def test_noise_is_a_violation(noise: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        read_acceptance(b"\x02\x00" + struct.pack(">L", len(noise)) + noise, PROPOSED)


def test_every_context_of_a_full_association_has_its_own_odd_id() -> None:
    proposed = [ProposedContext(CTImageStorage, f"1.2.3.{n}") for n in range(128)]
    request = read_request(request_pdu("A", "B", proposed, 16384))
    ids = [context.context_id for context in request.primitive.presentation_context_definition_list]
    assert ids == list(range(1, 256, 2))


@pytest.mark.parametrize(
    ("as_scp", "supported", "roles"),
    [(False, True, (True, False)), (True, True, (False, True)), (False, False, None), (True, False, None)],
)
def test_both_sides_agree_on_who_is_the_scp(as_scp: bool, supported: bool, roles: tuple[bool, bool] | None) -> None:
    proposed = [ProposedContext(STORAGE_COMMITMENT, ImplicitVRLittleEndian, as_scp)]
    request = read_request(request_pdu("A", "B", proposed, 16384))
    answer, accepted = accept_request(request, supported_contexts(commitment=supported), 131072)
    _, agreed = read_acceptance(answer, proposed)
    assert agreed == accepted
    expected = {1: AgreedContext(1, STORAGE_COMMITMENT, ImplicitVRLittleEndian, *roles)} if roles else {}
    assert agreed == expected
