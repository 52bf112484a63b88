"""An SMTP server and a web server on loopback that keep what they are sent, and misbehave when told."""

from __future__ import annotations

import base64
import email
import queue
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class SmtpServer:
    """What there is to say to clients; `letters` came whole, `answers` replaces the answer to a command."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    answers: dict[str, str] = field(default_factory=dict)
    letters: list[Message] = field(default_factory=list)
    over_tls: list[bool] = field(default_factory=list)


class _Smtp(socketserver.StreamRequestHandler):
    server: _SmtpSockets

    def handle(self) -> None:
        said, is_tls, is_known = self.server.said, False, self.server.said.login is None
        self._say("220 here")
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            verb = verb.upper()
            if verb in said.answers:
                self._say(said.answers[verb])
            elif verb == "EHLO":
                words = ["here"] + (["STARTTLS"] if said.tls and not is_tls else []) + ["AUTH PLAIN"]
                for word in words[:-1]:
                    self._say(f"250-{word}")
                self._say(f"250 {words[-1]}")
            elif verb == "STARTTLS" and said.tls:
                self._say("220 go on")
                try:
                    self.connection = said.tls.wrap_socket(self.connection, server_side=True)
                except (ssl.SSLError, OSError):
                    return
                self.rfile, self.wfile, is_tls = self.connection.makefile("rb"), self.connection.makefile("wb", 0), True
            elif verb == "AUTH":
                _, user, password = base64.b64decode(rest.split()[1]).decode().split("\0")
                is_known = (user, password) == said.login
                self._say("235 welcome" if is_known else "535 5.7.8 wrong name or password")
            elif verb in {"MAIL", "RCPT"}:
                self._say("250 fine" if is_known else "530 log in first")
            elif verb == "DATA":
                self._say("354 go on")
                text = b"".join(line.removeprefix(b".") for line in iter(self.rfile.readline, b".\r\n"))
                said.letters.append(email.message_from_bytes(text))
                said.over_tls.append(is_tls)
                self._say("250 kept")
            elif verb == "QUIT":
                return
            else:
                self._say("250 fine")

    def _say(self, words: str) -> None:
        self.wfile.write(words.encode() + b"\r\n")


class _SmtpSockets(socketserver.ThreadingTCPServer):
    daemon_threads = True
    said: SmtpServer


@contextmanager
def smtp_server(said: SmtpServer) -> Iterator[SmtpServer]:
    """Serve on a free port of 127.0.0.1."""
    with _SmtpSockets(("127.0.0.1", 0), _Smtp) as server:
        server.said, said.port = said, server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield said
        server.shutdown()


@contextmanager
def black_hole() -> Iterator[tuple[int, threading.Event]]:
    """A port that takes connections and never says a word; an event that is set by the first one."""
    taken = threading.Event()
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    connections.append(listener.accept()[0])
                    taken.set()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], taken
        listener.shutdown(socket.SHUT_RDWR)
    for one in connections:
        one.close()


@dataclass
class WebServer:
    """Answers to POST in turn, the last one again and again; None = no answer at all."""

    answers: list[int | None]
    url: str = ""
    location: str = ""
    posts: queue.SimpleQueue[tuple[Mapping[str, str], bytes]] = field(default_factory=queue.SimpleQueue)
    ended: threading.Event = field(default_factory=threading.Event)


class _Post(BaseHTTPRequestHandler):
    server: _WebSockets

    def do_POST(self) -> None:
        said = self.server.said
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said.posts.put(({name.lower(): value for name, value in self.headers.items()}, body))
        code = said.answers.pop(0) if len(said.answers) > 1 else said.answers[0]
        if code is None:
            said.ended.wait(60)
            return
        self.send_response(code)
        if said.location:
            self.send_header("Location", said.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not on the terminal of the tests."""


class _WebSockets(ThreadingHTTPServer):
    daemon_threads = True
    said: WebServer


@contextmanager
def web_server(said: WebServer, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> Iterator[WebServer]:
    """Serve on a free port of a loopback address."""

    class Sockets(_WebSockets):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with Sockets((address, 0), _Post) as server:
        server.said = said
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        host = f"[{address}]" if ":" in address else address
        said.url = f"{'https' if tls else 'http'}://{host}:{server.server_address[1]}/hook?room=1"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield said
        said.ended.set()
        server.shutdown()
