"""Association negotiation (PS3.8 9.3.2, 9.3.3; PS3.7 Annex D): what was asked for, what is agreed.

pynetdicom encodes and decodes the A-ASSOCIATE PDUs and settles the presentation contexts; this is the one
place that knows its classes for that.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import PDU_ITEM_TYPES
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import (
    PresentationContext,
    build_context,
    negotiate_as_acceptor,
    negotiate_as_requestor,
)

from gateway.domain.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.network.upper_layer import ProtocolViolation

logging.getLogger("pynetdicom").propagate = False  # it quotes what peers sent; what matters is raised anyway

APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
MAX_CONTEXTS = 128
"""An association has no more presentation contexts than odd numbers fit a byte (PS3.8 9.3.2.2)."""

_PROTOCOL_VERSION = 1
_TITLE_OFFSETS = (10, 26)  # called, calling
_ITEMS_OFFSET = 74
_USER_INFORMATION = 0x50


@dataclass(frozen=True, slots=True)
class AgreedContext:
    """An accepted presentation context, and the roles that the requestor of the association has in it."""

    context_id: int
    sop_class_uid: str
    transfer_syntax_uid: str
    requestor_is_scu: bool = True
    requestor_is_scp: bool = False


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """An A-ASSOCIATE-RQ as far as it matters here; `primitive` is pynetdicom's."""

    calling_ae_title: str
    called_ae_title: str
    application_context_name: str
    speaks_version_1: bool
    max_pdu_bytes: int
    implementation_class_uid: str
    implementation_version_name: str
    primitive: A_ASSOCIATE


def read_request(pdu: bytes) -> AssociationRequest:
    """The association request in an A-ASSOCIATE-RQ PDU; raises ProtocolViolation when it is none."""
    rq = A_ASSOCIATE_RQ()
    primitive = _decoded(rq, pdu)
    facts = _user_information(primitive)
    return AssociationRequest(
        calling_ae_title=rq.calling_ae_title.strip(),
        called_ae_title=rq.called_ae_title.strip(),
        application_context_name=str(rq.application_context_name or ""),
        speaks_version_1=bool(rq.protocol_version & _PROTOCOL_VERSION),
        max_pdu_bytes=facts["maximum_length_received"],
        implementation_class_uid=facts["implementation_class_uid"],
        implementation_version_name=facts["implementation_version_name"],
        primitive=primitive,
    )


def accept_request(
    request: AssociationRequest, supported: Sequence[PresentationContext], max_pdu_bytes: int
) -> tuple[bytes, Mapping[int, AgreedContext]]:
    """The A-ASSOCIATE-AC that answers `request`, and the accepted contexts by their id.

    Asynchronous operations, if asked for, are answered with (1, 1): without the answer some requestors take
    the window for unlimited (PS3.7 D.3.3.3). Raises ProtocolViolation: a context without transfer syntax, or the like.
    """
    asked = {type(item): item for item in request.primitive.user_information}
    with _codec("A-ASSOCIATE-RQ"):
        results, role_answers = negotiate_as_acceptor(
            request.primitive.presentation_context_definition_list, list(supported), _roles(request.primitive)
        )
    answer = A_ASSOCIATE()
    answer.application_context_name = request.application_context_name
    answer.calling_ae_title = request.primitive.calling_ae_title
    answer.called_ae_title = request.primitive.called_ae_title
    answer.result = 0
    answer.result_source = 1
    answer.presentation_context_definition_results_list = results
    answer.user_information = [*_own_user_information(max_pdu_bytes), *role_answers]
    if AsynchronousOperationsWindowNegotiation in asked:
        window = AsynchronousOperationsWindowNegotiation()
        window.maximum_number_operations_invoked = 1
        window.maximum_number_operations_performed = 1
        answer.user_information.append(window)
    # what the acceptor is not, the requestor is
    return A_ASSOCIATE_AC(answer).encode(), _agreed(results, lambda ours: (ours.as_scp, ours.as_scu))


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One SOP Class in one transfer syntax: the acceptor cannot choose for us.

    `as_scp` asks for the role of the SCP instead of that of the SCU (PS3.7 D.3.3.4).
    """

    sop_class_uid: str
    transfer_syntax_uid: str
    as_scp: bool = False


def request_pdu(
    calling_ae_title: str, called_ae_title: str, proposed: Sequence[ProposedContext], max_pdu_bytes: int
) -> bytes:
    """An A-ASSOCIATE-RQ that proposes `proposed`, whose context ids are 1, 3, 5, ... in that order."""
    request = A_ASSOCIATE()
    request.application_context_name = UID(APPLICATION_CONTEXT_NAME)
    request.calling_ae_title = calling_ae_title
    request.called_ae_title = called_ae_title
    request.presentation_context_definition_list = _contexts(proposed)
    request.user_information = [*_own_user_information(max_pdu_bytes), *_role_requests(proposed)]
    return A_ASSOCIATE_RQ(request).encode()


def read_acceptance(pdu: bytes, proposed: Sequence[ProposedContext]) -> tuple[int, Mapping[int, AgreedContext]]:
    """The peer's maximum PDU length (0: no limit) and the contexts that it accepted.

    Raises ProtocolViolation: not an A-ASSOCIATE-AC.
    """
    primitive = _decoded(A_ASSOCIATE_AC(), pdu)
    results = negotiate_as_requestor(
        _contexts(proposed), primitive.presentation_context_definition_results_list, _roles(primitive)
    )
    agreed = _agreed(results, lambda ours: (ours.as_scu, ours.as_scp))
    return _user_information(primitive)["maximum_length_received"], agreed


def _contexts(proposed: Sequence[ProposedContext]) -> list[PresentationContext]:
    contexts = []
    for place, proposal in enumerate(proposed):
        context = build_context(proposal.sop_class_uid, proposal.transfer_syntax_uid)
        context.context_id = 2 * place + 1
        if proposal.as_scp:
            context.scu_role, context.scp_role = False, True
        contexts.append(context)
    return contexts


def _role_requests(proposed: Sequence[ProposedContext]) -> list[SCP_SCU_RoleSelectionNegotiation]:
    items = []
    for sop_class_uid in dict.fromkeys(proposal.sop_class_uid for proposal in proposed if proposal.as_scp):
        item = SCP_SCU_RoleSelectionNegotiation()
        item.sop_class_uid = UID(sop_class_uid)
        item.scu_role, item.scp_role = False, True
        items.append(item)
    return items


def _roles(primitive: A_ASSOCIATE) -> dict[UID, tuple[bool | None, bool | None]]:
    """SCU and SCP role of the requestor by SOP Class, as far as role selection was spoken of."""
    return {
        item.sop_class_uid: (bool(item.scu_role), bool(item.scp_role))
        for item in primitive.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.sop_class_uid is not None
    }


def _agreed(
    results: Sequence[PresentationContext],
    requestor_roles: Callable[[PresentationContext], tuple[bool | None, bool | None]],
) -> dict[int, AgreedContext]:
    return {
        context.context_id: AgreedContext(
            context.context_id,
            str(context.abstract_syntax),
            str(context.transfer_syntax[0]),
            *map(bool, requestor_roles(context)),
        )
        for context in results
        if context.result == 0 and context.context_id is not None and context.transfer_syntax
    }


def _without_unknown_items(items: bytes) -> bytes:
    """Items of types that the codec knows; the others shall be skipped (PS3.8 9.3.1), and it would trip over them."""
    kept = bytearray()
    offset = 0
    while offset < len(items):
        kind, length = struct.unpack_from(">BxH", items, offset)
        value = items[offset + 4 : offset + 4 + length]
        if len(value) != length:
            raise ValueError("an item that is longer than its PDU")
        offset += 4 + length
        if kind == _USER_INFORMATION:
            value = _without_unknown_items(value)
        if kind in PDU_ITEM_TYPES:
            kept += struct.pack(">BxH", kind, len(value)) + value
    return bytes(kept)


def _with_blanks(fixed: bytes) -> bytes:
    """The fixed fields with AE titles padded as they should be: some devices pad them with NUL (PS3.8 Table 9-11)."""
    titles = (fixed[start : start + 16].rstrip(b"\0").ljust(16) for start in _TITLE_OFFSETS)
    return fixed[: _TITLE_OFFSETS[0]] + b"".join(titles) + fixed[_TITLE_OFFSETS[1] + 16 :]


@contextmanager
def _codec(pdu: str) -> Iterator[None]:
    """Turn what pynetdicom raises for hostile bytes, which is whatever they trip over, into ProtocolViolation."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the edge of a foreign codec
        raise ProtocolViolation(f"a malformed {pdu} ({type(error).__name__})") from None


def _decoded(pdu: A_ASSOCIATE_RQ | A_ASSOCIATE_AC, encoded: bytes) -> A_ASSOCIATE:
    with _codec(type(pdu).__name__.replace("_", "-")):
        pdu.decode(_with_blanks(encoded[:_ITEMS_OFFSET]) + _without_unknown_items(encoded[_ITEMS_OFFSET:]))
        primitive = pdu.to_primitive()
    if not pdu.presentation_context or not primitive.user_information:
        raise ProtocolViolation("an A-ASSOCIATE PDU without presentation contexts or user information")
    return primitive


def _user_information(primitive: A_ASSOCIATE) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "maximum_length_received": 0,
        "implementation_class_uid": "",
        "implementation_version_name": "",
    }
    for item in primitive.user_information:
        for name in facts:
            if hasattr(item, name):
                value = getattr(item, name)
                facts[name] = value if isinstance(value, int) else str(value or "")
    return facts


def _own_user_information(max_pdu_bytes: int) -> list[Any]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]
