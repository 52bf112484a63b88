"""TLS under associations (PS3.15 B.12, BCP 195: RFC 8996 and 9325): contexts, certificates, failures in words.

Files are PEM. Of a key no message says more than where it lies.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from gateway.errors import ConfigurationError

EXPIRES_SOON = timedelta(days=30)

_SUITES = "ECDHE+AESGCM"  # RFC 9325 4.2, for TLS 1.2; all of TLS 1.3 are as good
_SHA256 = "sha256:"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of one side: the certificate chain it shows, the key to it, and the certificates it trusts.

    They are read whenever a context is made, so a replaced certificate counts from then on.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def listening_context(self) -> ssl.SSLContext:
        """For an acceptor; with `ca`, requestors must show a certificate. Raises ConfigurationError."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def calling_context(self) -> ssl.SSLContext:
        """For a requestor, which checks the acceptor's certificate and name. Raises ConfigurationError."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def warnings(self, now: datetime) -> Iterator[str]:
        """What needs a person soon: certificates about to expire, a key that every user of the machine may read.

        Raises ConfigurationError when the files are of no use at all.
        """
        self._context(ssl.PROTOCOL_TLS_CLIENT)
        if self.key is not None and self.key.stat().st_mode & 0o007:
            yield f"{self.key} is open to every user of this machine: run chmod o= on it"
        for path in filter(None, (self.certificate, self.ca)):
            end = min(map(_not_after, _CERTIFICATE.findall(path.read_text("ascii", "replace"))), default=None)
            if end is not None and end - now < EXPIRES_SOON:
                yield f"{path} {'expires' if end > now else 'expired'} on {end:%Y-%m-%d}: replace it"

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_SUITES)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what stands in `ca` is trusted, root or not
        for path in filter(None, (self.certificate, self.key, self.ca)):
            _require_readable(path)
        try:
            if self.certificate is not None:
                # an encrypted key would be asked for on the terminal of a service that has none
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"TLS: certificate {self.certificate} with key {self.key}: {error.reason or 'not readable as PEM'}; "
                "a certificate and its own key are expected, the key without passphrase"
            ) from None
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"TLS: ca {self.ca}: {error.reason or 'not readable as PEM'}; certificates in PEM are expected"
            ) from None
        return context


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A certificate that a peer showed and `ca` vouches for.

    `fingerprint` is ``sha256:`` and 64 hexadecimal digits; `names` are Common Name and Subject Alternative Names
    (DNS names and addresses). All are lower case.
    """

    fingerprint: str
    names: frozenset[str]

    @classmethod
    def shown_on(cls, sock: socket.socket) -> Self | None:
        """The peer's certificate; None without TLS, and where the peer was asked for none."""
        if not isinstance(sock, ssl.SSLSocket):
            return None
        der = sock.getpeercert(binary_form=True)
        fields: Any = sock.getpeercert()
        if not der or not fields:
            return None
        names = {value for part in fields["subject"] for kind, value in part if kind == "commonName"}
        names |= {value for kind, value in fields.get("subjectAltName", ()) if kind in {"DNS", "IP Address"}}
        return cls(_SHA256 + hashlib.sha256(der).hexdigest(), frozenset(name.lower() for name in names))

    def is_of(self, identity: str) -> bool:
        """Whether this is the certificate meant by a fingerprint, or by a name; both in lower case."""
        return identity == self.fingerprint if identity.startswith(_SHA256) else identity in self.names

    def __str__(self) -> str:
        return f"{', '.join(sorted(self.names)) or 'no name'} ({self.fingerprint})"


_NO_TLS = "the peer does not speak TLS here"
_NO_VERSION = "no TLS version in common; 1.2 or 1.3 is needed"
_NO_SUITE = "no cipher suite in common; ECDHE with AES-GCM is needed"
_NOT_OURS = "the peer does not accept our certificate"
_REASONS = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "NO_SHARED_CIPHER": _NO_SUITE,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer asks for a certificate and we have none for it",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refused; it asks for a certificate, or finds no cipher suite in common",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust who signed our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": _NOT_OURS,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _NOT_OURS,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _NOT_OURS,
    "TLSV1_ALERT_ACCESS_DENIED": _NOT_OURS,
}

# X509_V_ERR_... of OpenSSL
_NOT_YET_VALID, _HAS_EXPIRED = 9, 10
_UNTRUSTED = frozenset({18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})


def describe_failure(error: ssl.SSLError, name: str = "") -> str:
    """Why a handshake failed, for a person; `name` is what the peer's certificate had to be made out to."""
    if isinstance(error, ssl.SSLEOFError):
        return "the peer closed the transport in the middle"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return _REASONS.get(error.reason or "", error.reason or "failed")
    if error.verify_code in _OTHER_NAME:
        return f"the peer's certificate is not made out to {name}; set server_name if that is right"
    if error.verify_code in _UNTRUSTED:
        return f"the peer's certificate is not trusted: {error.verify_message}; is the right one in ca?"
    if error.verify_code == _HAS_EXPIRED:
        return "the peer's certificate, or one that it rests on, has expired"
    if error.verify_code == _NOT_YET_VALID:
        return "the peer's certificate is not valid yet; are the clocks right?"
    return f"the peer's certificate is not accepted: {error.verify_message}"


def is_worth_retrying(error: ssl.SSLError) -> bool:
    """Whether the same handshake may succeed later.

    A certificate is replaced while deliveries wait. A peer that is another one or speaks another protocol is not:
    the settings name the wrong place.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_code not in _OTHER_NAME
    return _REASONS.get(error.reason or "") not in {_NO_TLS, _NO_VERSION, _NO_SUITE}


def _require_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigurationError(
            f"TLS: cannot read {path}: {error.strerror}; a PEM file that this user may read is expected"
        ) from None


def _not_after(pem: str) -> datetime:
    """Until when a certificate is valid; OpenSSL has read it already (RFC 5280 4.1)."""
    (_, certificate), *_ = _elements(ssl.PEM_cert_to_DER_cert(pem))
    (_, to_be_signed), *_ = _elements(certificate)
    fields = [value for tag, value in _elements(to_be_signed) if tag != 0xA0]  # all but the version
    _serial_number, _signature, _issuer, validity, *_ = fields
    _, (tag, end) = _elements(validity)
    four_digit_year = tag == 0x18
    return datetime.strptime(end.decode(), "%Y%m%d%H%M%SZ" if four_digit_year else "%y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each element in DER (X.690 8.1)."""
    while der:
        tag, length, start = der[0], der[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[2:start], "big")
        yield tag, der[start : start + length]
        der = der[start + length :]
