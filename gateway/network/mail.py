"""A letter by SMTP (RFC 5321), with TLS that is checked, within one deadline, to an address that was judged."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from pathlib import Path
from typing import Literal

from gateway.domain.alerts import Letter
from gateway.errors import ConfigurationError
from gateway.network.destination import Step, StepFailed
from gateway.network.reachable import Resolver, open_socket
from gateway.network.requestor import resolve
from gateway.network.socket_deadline import SocketDeadline
from gateway.network.tls import TlsFiles, describe_failure

_MOST_WORDS = 200


@dataclass(frozen=True, slots=True)
class MailAddress:
    """An SMTP server and who writes to whom over it; everything together takes `timeout_s` at most."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    recipients: tuple[str, ...]
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    allow_private: bool = False
    timeout_s: float = 30.0
    resolver: Resolver = resolve


def send(address: MailAddress, letter: Letter) -> None:
    """Send a letter. Raises StepFailed, which says at which step: name, connection, TLS, login, or what was refused."""
    deadline = time.monotonic() + address.timeout_s
    sock = open_socket(
        address.host, address.port, deadline, allow_private=address.allow_private, resolver=address.resolver
    )
    watch = SocketDeadline()
    watch.guard(sock)
    watch.start()
    watch.begin(max(0.0, deadline - time.monotonic()))
    conversation = _Conversation(address, sock, watch)
    try:
        with _in_words(address, conversation, watch):
            conversation.greet()
            conversation.log_in()
            conversation.hand_over(letter)
    finally:
        watch.stop()
        conversation.close()


class _Conversation:
    """What is said to one server, step by step."""

    def __init__(self, address: MailAddress, sock: socket.socket, watch: SocketDeadline) -> None:
        self.step = Step.REQUEST
        self._address = address
        self._watch = watch
        # the name is given, for the library would ask the name service for it without a deadline
        self._smtp = smtplib.SMTP(local_hostname=socket.gethostname())
        self._smtp.sock = sock

    def greet(self) -> None:
        """The greeting, over TLS where that is asked for."""
        if self._address.security == "tls":
            self._shake_hands()
        self._expect(220, *self._smtp.getreply())
        self._smtp.ehlo_or_helo_if_needed()
        if self._address.security == "starttls":
            self.step = Step.TLS
            self._expect(220, *self._smtp.docmd("STARTTLS"))
            self._shake_hands()
            self._smtp.ehlo()

    def log_in(self) -> None:
        """The login, where there is one."""
        if not self._address.user or self._address.password_file is None:
            return
        self.step = Step.LOGIN
        self._smtp.login(self._address.user, _line_of(self._address.password_file))
        self.step = Step.REQUEST

    def hand_over(self, letter: Letter) -> None:
        """The letter; when some recipients are refused, the others have it."""
        self._smtp.send_message(_message(self._address, letter), self._address.sender, self._address.recipients)

    def close(self) -> None:
        """Say goodbye, and wait for no answer: whether the letter was taken is known."""
        with contextlib.suppress(smtplib.SMTPException, OSError):
            self._smtp.putcmd("QUIT")
        self._smtp.close()

    def _shake_hands(self) -> None:
        self.step = Step.TLS
        context = TlsFiles(ca=self._address.ca).calling_context() if self._address.ca else ssl.create_default_context()
        assert self._smtp.sock is not None
        self._smtp.sock = context.wrap_socket(self._smtp.sock, server_hostname=self._address.host)
        self._watch.guard(self._smtp.sock)
        # what was said before TLS counts for nothing (RFC 3207 4.2)
        self._smtp.file, self._smtp.ehlo_resp, self._smtp.helo_resp = None, None, None
        self._smtp.esmtp_features, self._smtp.does_esmtp = {}, False
        self.step = Step.REQUEST

    @staticmethod
    def _expect(code: int, found: int, words: bytes) -> None:
        if found != code:
            raise smtplib.SMTPResponseException(found, words)


@contextmanager
def _in_words(address: MailAddress, conversation: _Conversation, watch: SocketDeadline) -> Iterator[None]:
    """Every failure as the step that it came at, and why."""
    where = f"{address.host} port {address.port}"
    again = True
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        explanation, again = f"{where} refuses the recipient: {_said(code, words)}", code < 500
    except smtplib.SMTPResponseException as error:
        explanation, again = f"{where}: {_said(error.smtp_code, error.smtp_error)}", error.smtp_code < 500
    except smtplib.SMTPNotSupportedError as error:
        explanation, again = f"{where}: {error}", False
    except ConfigurationError as error:
        explanation, again = str(error), False
    except ssl.SSLError as error:
        explanation = f"{where}: {describe_failure(error, address.host)}"
    except (smtplib.SMTPException, OSError) as error:
        # the library wraps a timeout of the socket, which may come a moment before that of the watch
        if watch.has_passed or isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
            explanation = f"{where}: no answer in {address.timeout_s:.0f} s"
        else:
            explanation = f"{where}: the server closed the connection; does it speak {_protocol(address)} there?"
    else:
        return
    raise StepFailed(conversation.step, explanation, worth_retrying=again)


def _protocol(address: MailAddress) -> str:
    return {"tls": "TLS", "starttls": "SMTP with STARTTLS", "none": "SMTP"}[address.security]


def _said(code: int, words: bytes | str) -> str:
    text = words.decode("ascii", "replace") if isinstance(words, bytes) else words
    return f"{code} " + "".join(mark if mark.isprintable() else " " for mark in text)[:_MOST_WORDS]


def _line_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            f"password_file {file} cannot be read; a text file with one line is expected"
        ) from None


def _message(address: MailAddress, letter: Letter) -> EmailMessage:
    message = EmailMessage(SMTP)
    message["From"] = address.sender
    message["To"] = ", ".join(address.recipients)
    message["Subject"] = letter.subject
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = f"<{letter.id}@{address.sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence note answers it
    message.set_content(letter.text)
    return message
