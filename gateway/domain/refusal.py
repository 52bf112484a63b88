"""Attempts to associate, or to store, that were refused: what an administrator wants to know of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why somebody was refused, in words; each has its line in the operations manual."""

    ADDRESS = "this address may not call"
    CALLING_AE_TITLE = "this AE title may not call from this address"
    CALLED_AE_TITLE = "another AE title than ours was called"
    PROTOCOL_VERSION = "the peer speaks another version of the protocol"
    APPLICATION_CONTEXT = "the application context is not that of DICOM"
    CERTIFICATE = "not the certificate of this AE title"
    TLS = "the TLS handshake failed"
    NO_REQUEST = "what came is no association request"
    TOO_SLOW = "no whole association request in time"
    TOO_MANY_WAIT = "too many connections without an association"
    TOO_MANY_ASSOCIATIONS = "too many associations"
    NOT_READY = "the receiver was not ready"
    NO_ROOM = "the spool has reached its reserve"
    DISK = "the spool cannot be written"
    INVALID_UID = "an instance was named by what is no UID"


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)  # TOML: any other key stands between quotation marks
_REMEDIES = {
    Reason.CERTIFICATE: "give the peer its own certificate, or correct listener.tls.peers",
    Reason.TLS: "see docs/operations.md, TLS",
    Reason.PROTOCOL_VERSION: "correct the peer: PS3.8 9.3.2 has version 1",
    Reason.APPLICATION_CONTEXT: "correct the peer: PS3.7 Annex A has 1.2.840.10008.3.1.1.1",
    Reason.NO_REQUEST: "nothing, unless a DICOM peer should be there: then it speaks TLS, or is broken",
    Reason.TOO_SLOW: "nothing, unless a DICOM peer should be there: then see its network",
    Reason.TOO_MANY_WAIT: "nothing, unless a DICOM peer should be there: then raise listener.max_waiting_per_address",
    Reason.TOO_MANY_ASSOCIATIONS: "the peer tries again; if that is too often, raise listener.max_associations ...",
    Reason.NOT_READY: "the peer tries again; the log of the SCP says why",
    Reason.NO_ROOM: "free some space; senders try again",
    Reason.DISK: "the log of the SCP has what the disk said; senders try again",
    Reason.INVALID_UID: "correct the sender: PS3.5 9.1",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused attempt. The AE titles are claims, and empty when it did not come to a request."""

    address: str
    calling_ae_title: str
    called_ae_title: str
    reason: Reason

    def remedy(self, ae_title: str) -> str:
        """What the administrator of the node called `ae_title` does to let this peer in."""
        if self.reason in (Reason.ADDRESS, Reason.CALLING_AE_TITLE):
            title = self.calling_ae_title or "ITS_AE_TITLE"
            key = title if _BARE_KEY.fullmatch(title) else json.dumps(title)
            return f'add to [listener.peers]: {key} = "{self.address}"'
        if self.reason is Reason.CALLED_AE_TITLE:
            return f"let it call {ae_title}, or set listener.require_called_ae_title = false"
        return _REMEDIES[self.reason]
