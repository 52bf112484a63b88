"""Syslog messages (RFC 5424) over UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425), as PS3.15 A.6 asks for."""

from __future__ import annotations

import os
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

_PRIORITY = 10 * 8 + 5  # security and authorization messages; normal but significant
_MESSAGE_ID = "DICOM+RFC3881"
_WITHIN_S = 5.0
_BYTE_ORDER_MARK = "\ufeff"


class SyslogServer:
    """One server. `send` raises OSError when the message did not leave; the next one opens a connection anew."""

    def __init__(
        self, url: str, *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        parts = urlsplit(url)
        self._kind = parts.scheme
        self._address = (parts.hostname or "", parts.port or 0)
        self._tls: ssl.SSLContext | None = None
        if self._kind == "tls":
            self._tls = ssl.create_default_context(cafile=ca)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate is not None:
                self._tls.load_cert_chain(certificate, key)
        self._socket: socket.socket | None = None

    def send(self, text: str, process: str) -> None:
        """Send one message; over TCP and TLS, raise ConnectionError when the server has closed the connection."""
        message = encode(text, process)
        if self._kind == "udp":
            self._send_datagram(message)
            return
        try:
            self._stream().sendall(b"%d %s" % (len(message), message))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close what is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send_datagram(self, message: bytes) -> None:
        family, *_, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as channel:
            channel.sendto(message, address)

    def _stream(self) -> socket.socket:
        if self._socket is not None and _was_closed(self._socket):
            self.close()
        if self._socket is None:
            plain = socket.create_connection(self._address, _WITHIN_S)
            try:
                self._socket = self._tls.wrap_socket(plain, server_hostname=self._address[0]) if self._tls else plain
            except OSError:
                plain.close()
                raise
        return self._socket


def encode(text: str, process: str) -> bytes:
    """One message of RFC 5424 6, without framing."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = f"<{_PRIORITY}>1 {at} {socket.gethostname()} athanor-{process} {os.getpid()} {_MESSAGE_ID} - "
    return head.encode("ascii", "replace") + (_BYTE_ORDER_MARK + text).encode()


def _was_closed(connection: socket.socket) -> bool:
    """Whether the server has closed it: a syslog server says nothing, so there is nothing to read but the end."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_WITHIN_S)
