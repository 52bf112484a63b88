"""A STOW-RS server that a test can make fail: Python's HTTP server, which answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, Self

import pydicom
from fault_pacs import Stored

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its code, which instances failed why, or a body of its own; `forgets` leaves instances out."""

    code: int = 200
    failed: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    forgets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """What came: its number, counted from 0, headers and SOP Instance UIDs."""

    number: int
    headers: Mapping[str, str]
    uids: tuple[str, ...]


@dataclass
class FaultStow:
    """Listens on a free port between `start` and `stop`. `answer` is asked for the reply to each request."""

    answer: Callable[[Request], Reply] = lambda _: Reply()
    requests: list[Request] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    _server: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The base of its services."""
        return f"http://127.0.0.1:{self._server.server_port}/dicom-web"

    def start(self) -> Self:
        """Listen."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code, headers, content = peer._take(dict(self.headers.items()), self.path, body)
                self._send(code, headers, content)

            def do_OPTIONS(self) -> None:
                reply = peer.answer(Request(0, dict(self.headers.items()), ()))
                self._send(reply.code, reply.headers, b"")

            def _send(self, code: int, headers: Mapping[str, str], content: bytes) -> None:
                self.send_response(code)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing: the test knows what it asked for."""

        return Handler

    def _take(self, headers: dict[str, str], path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        assert path == "/dicom-web/studies"
        kind, _, boundary = headers["Content-Type"].partition("; boundary=")
        assert kind == 'multipart/related; type="application/dicom"'
        files = [_file(part) for part in body.split(f"--{boundary}".encode())[1:-1]]
        instances = {str(ds.SOPInstanceUID): (ds, content) for ds, content in files}
        with self._lock:
            request = Request(len(self.requests), headers, tuple(instances))
            self.requests.append(request)
        reply = self.answer(request)
        named = reply.code in {200, 202} and reply.body is None
        taken = [uid for uid in instances if named and uid not in reply.failed and uid not in reply.forgets]
        for uid in taken:
            ds, content = instances[uid]
            start = 144 + int.from_bytes(content[140:144], "little")
            syntax = str(ds.file_meta.TransferSyntaxUID)
            self.stored.append(Stored(uid, syntax, content[start:], reply.warned.get(uid, 0)))
        if reply.body is not None:
            return reply.code, reply.headers, reply.body
        response = {
            "00081199": _sequence([_item(uid, "00081196", reply.warned.get(uid)) for uid in taken]),
            "00081198": _sequence(
                [_item(uid, "00081197", reply.failed[uid]) for uid in instances if uid in reply.failed]
            ),
        }
        return reply.code, reply.headers, json.dumps(response).encode() if taken or reply.failed else b""


def _file(part: bytes) -> tuple[pydicom.Dataset, bytes]:
    head, _, content = part.partition(b"\r\n\r\n")
    assert head == b"\r\nContent-Type: application/dicom"
    assert content.endswith(b"\r\n")
    return pydicom.dcmread(BytesIO(content[:-2]), stop_before_pixels=True), content[:-2]


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}


def _item(uid: str, tag: str, reason: int | None) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [SECONDARY_CAPTURE]},
        "00081155": {"vr": "UI", "Value": [uid]},
        **({tag: {"vr": "US", "Value": [reason]}} if reason is not None else {}),
    }
