"""The audit messages of PS3.15 A.5 as XML, each one line of text, by the schema of PS3.15 A.5.1."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

_SUCCESS, _MINOR_FAILURE, _SERIOUS_FAILURE = "0", "4", "8"
_WITHHELD = "withheld"


class _Code(StrEnum):
    """Codes of the DICOM Controlled Terminology (DCM), by their meaning (PS3.16 Annex D)."""

    APPLICATION_ACTIVITY = "110100"
    BEGIN_TRANSFERRING_DICOM_INSTANCES = "110102"
    DICOM_INSTANCES_TRANSFERRED = "110104"
    SECURITY_ALERT = "110113"
    APPLICATION_START = "110120"
    APPLICATION_STOP = "110121"
    NODE_AUTHENTICATION = "110126"
    APPLICATION = "110150"
    DESTINATION_ROLE_ID = "110152"
    SOURCE_ROLE_ID = "110153"
    STUDY_INSTANCE_UID = "110180"
    NODE_ID = "110182"

    @property
    def meaning(self) -> str:
        words = self.name.replace("_", " ").title()
        return words.replace("Dicom", "DICOM").replace("Uid", "UID").replace(" Id", " ID")


@dataclass(frozen=True, slots=True)
class Source:
    """Who reports: our AE title, and the institution, which may be empty."""

    ae_title: str
    institution: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """An application entity that took part. `address` is a host name or address, empty when unknown."""

    ae_title: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class StudyContent:
    """Instances of one study: how many of each SOP Class UID. `patient_id` is None when it is withheld."""

    study_instance_uid: str
    instances: Mapping[str, int]
    patient_id: str | None = None


def application(source: Source, process: str, *, started: bool) -> str:
    """A process of ours started or stopped (PS3.15 A.5.3.1)."""
    message = _message(_Code.APPLICATION_ACTIVITY, "E", _Code.APPLICATION_START if started else _Code.APPLICATION_STOP)
    ours = _participant(message, Node(source.ae_title, socket.gethostname()), role=_Code.APPLICATION, requestor=False)
    ours.set("UserName", process)
    _source(message, source)
    return ElementTree.tostring(message, encoding="unicode")


def begin_transferring(source: Source, destination: Node, study: StudyContent) -> str:
    """We begin to send instances (PS3.15 A.5.3.3)."""
    message = _message(_Code.BEGIN_TRANSFERRING_DICOM_INSTANCES, "E")
    _participant(message, Node(source.ae_title, socket.gethostname()), role=_Code.SOURCE_ROLE_ID, requestor=True)
    _participant(message, destination, role=_Code.DESTINATION_ROLE_ID, requestor=False)
    return _about(study, message, source)


def instances_sent(source: Source, destination: Node, study: StudyContent, failure: str = "") -> str:
    """We have sent instances, all of them without `failure` (PS3.15 A.5.3.7)."""
    message = _message(_Code.DICOM_INSTANCES_TRANSFERRED, "R", failure=failure)
    _participant(message, Node(source.ae_title, socket.gethostname()), role=_Code.SOURCE_ROLE_ID, requestor=True)
    _participant(message, destination, role=_Code.DESTINATION_ROLE_ID, requestor=False)
    return _about(study, message, source)


def instances_received(source: Source, sender: Node, study: StudyContent, failure: str = "") -> str:
    """Somebody has stored instances here, over one association (PS3.15 A.5.3.7)."""
    message = _message(_Code.DICOM_INSTANCES_TRANSFERRED, "C", failure=failure)
    _participant(message, sender, role=_Code.SOURCE_ROLE_ID, requestor=True)
    _participant(message, Node(source.ae_title, socket.gethostname()), role=_Code.DESTINATION_ROLE_ID, requestor=False)
    return _about(study, message, source)


def association_refused(source: Source, peer: Node, reason: str) -> str:
    """Somebody was given no association (PS3.15 A.5.3.12)."""
    message = _message(_Code.SECURITY_ALERT, "E", _Code.NODE_AUTHENTICATION, reason, _SERIOUS_FAILURE)
    ours = Node(source.ae_title, socket.gethostname())
    _participant(message, ours, role=_Code.APPLICATION, requestor=False)
    _participant(message, peer, role=_Code.SOURCE_ROLE_ID, requestor=True)
    _source(message, source)
    attacked = _object(message, ours.address, "2", "13")
    _coded(attacked, "ParticipantObjectIDTypeCode", _Code.NODE_ID)
    SubElement(attacked, "ParticipantObjectName").text = source.ae_title
    return ElementTree.tostring(message, encoding="unicode")


def _message(
    event: _Code, action: str, kind: _Code | None = None, failure: str = "", when_failed: str = _MINOR_FAILURE
) -> Element:
    message = Element("AuditMessage")
    identification = SubElement(
        message,
        "EventIdentification",
        EventActionCode=action,
        EventDateTime=datetime.now(UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=when_failed if failure else _SUCCESS,
    )
    _coded(identification, "EventID", event)
    if kind is not None:
        _coded(identification, "EventTypeCode", kind)
    if failure:
        SubElement(identification, "EventOutcomeDescription").text = _printable(failure)
    return message


def _participant(message: Element, node: Node, *, role: _Code, requestor: bool) -> Element:
    participant = SubElement(
        message,
        "ActiveParticipant",
        UserID=_printable(node.ae_title) or "unknown",
        UserIsRequestor="true" if requestor else "false",
    )
    if role is _Code.APPLICATION:
        participant.set("AlternativeUserID", str(os.getpid()))
    if node.address:
        participant.set("NetworkAccessPointID", node.address)
        participant.set("NetworkAccessPointTypeCode", "2" if _is_address(node.address) else "1")
    _coded(participant, "RoleIDCode", role)
    return participant


def _about(study: StudyContent, message: Element, source: Source) -> str:
    _source(message, source)
    found = _object(message, study.study_instance_uid, "2", "3")
    _coded(found, "ParticipantObjectIDTypeCode", _Code.STUDY_INSTANCE_UID)
    SubElement(found, "ParticipantObjectName").text = "study"
    description = SubElement(found, "ParticipantObjectDescription")
    for sop_class_uid, number in sorted(study.instances.items()):
        SubElement(description, "SOPClass", UID=sop_class_uid, NumberOfInstances=str(number))
    patient = _object(message, _printable(study.patient_id or _WITHHELD), "1", "1")
    SubElement(
        patient,
        "ParticipantObjectIDTypeCode",
        {"csd-code": "2", "codeSystemName": "RFC-3881", "originalText": "Patient Number"},
    )
    SubElement(patient, "ParticipantObjectName").text = _WITHHELD
    return ElementTree.tostring(message, encoding="unicode")


def _object(message: Element, identifier: str, kind: str, role: str) -> Element:
    return SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier,
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )


def _coded(parent: Element, name: str, code: _Code) -> None:
    SubElement(parent, name, {"csd-code": code.value, "codeSystemName": "DCM", "originalText": code.meaning})


def _source(message: Element, source: Source) -> None:
    identification = SubElement(message, "AuditSourceIdentification", AuditSourceID=source.ae_title)
    if source.institution:
        identification.set("AuditEnterpriseSiteID", _printable(source.institution))
    SubElement(identification, "AuditSourceTypeCode", {"csd-code": "4"})


def _printable(text: str) -> str:
    """What XML may hold, on one line: what a peer sent could be anything."""
    return "".join(mark if mark.isprintable() else "?" for mark in text).strip()


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
