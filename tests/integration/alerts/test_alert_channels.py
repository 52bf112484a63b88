"""Letters by SMTP and by HTTP, with real servers that take them, refuse them, redirect or say nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from message_servers import SmtpServer, WebServer, black_hole, smtp_server, web_server

from gateway.domain.alerts import Letter
from gateway.network import mail, webhook
from gateway.network.destination import Step, StepFailed
from gateway.network.mail import MailAddress
from gateway.network.requestor import Place
from gateway.network.tls import TlsFiles
from gateway.network.webhook import WebhookAddress

LETTER = Letter("alert-7-opened", "[GW] Größe", "Line one\n.\nline three\n", {"type": "alert.opened", "data": {"n": 1}})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


def listening(files: TlsFiles) -> ssl.SSLContext:
    """A server that asks its clients for no certificate."""
    return replace(files, ca=None).listening_context()


def here(host: str, port: int, deadline: float) -> list[Place]:
    """A name service by which every name is this machine."""
    return [(socket.AF_INET, ("127.0.0.1", port))]


def address_of(server: SmtpServer, **values: object) -> MailAddress:
    plain = {
        "host": "smtp.example", "port": server.port, "security": "none", "sender": "gw@example.org",
        "recipients": ("a@example.org", "b@example.org"), "allow_private": True, "resolver": here, "timeout_s": 10.0,
    }  # fmt: skip
    return MailAddress(**{**plain, **values})  # type: ignore[arg-type]


def failure_of(address: MailAddress | WebhookAddress) -> StepFailed:
    send = partial(mail.send, address) if isinstance(address, MailAddress) else partial(webhook.send, address)
    with pytest.raises(StepFailed) as caught:
        send(LETTER)
    return caught.value


def test_a_letter_arrives_over_checked_tls_with_a_login(authority: CertificateAuthority, tmp_path: Path) -> None:
    files = authority.issue("smtp.example", alternatives="DNS:smtp.example")
    password = tmp_path / "password"
    password.write_text("secret\n")
    said = SmtpServer(tls=listening(files), login=("gw", "secret"))
    with smtp_server(said) as server:
        by_tls = {"security": "starttls", "ca": authority.certificate, "user": "gw", "password_file": password}
        mail.send(address_of(server, **by_tls), LETTER)
        (letter,) = server.letters
        assert server.over_tls == [True]
        assert letter["Subject"] == "[GW] =?utf-8?q?Gr=C3=B6=C3=9Fe?="
        assert (letter["To"], letter["Message-ID"]) == (
            "a@example.org, b@example.org", "<alert-7-opened@example.org>",
        )  # fmt: skip
        assert letter.get_payload(decode=True) == b"Line one\r\n.\r\nline three\r\n"

        # each step is told apart
        password.write_text("wrong")
        assert failure_of(address_of(server, **by_tls)).step is Step.LOGIN
        assert failure_of(address_of(server, **by_tls | {"ca": None})).step is Step.TLS
        found = failure_of(address_of(server, **by_tls, host="other.example"))
        assert (found.step, "not made out to other.example" in found.explanation) == (Step.TLS, True)
        assert failure_of(address_of(server, **by_tls | {"password_file": tmp_path / "none"})).step is Step.LOGIN
    assert failure_of(address_of(server)).step is Step.CONNECT
    assert len(server.letters) == 1


@pytest.mark.parametrize(
    ("answers", "step", "again", "words"),
    [
        ({"RCPT": "550 5.1.1 no such mailbox"}, Step.REQUEST, False, "550 5.1.1 no such mailbox"),
        ({"RCPT": "451 greylisted"}, Step.REQUEST, True, "451 greylisted"),
        ({"MAIL": "553 not you"}, Step.REQUEST, False, "553 not you"),
        ({"DATA": "452 full"}, Step.REQUEST, True, "452 full"),
    ],
)
def test_what_a_server_refuses_is_said(answers: dict[str, str], step: Step, again: bool, words: str) -> None:
    with smtp_server(SmtpServer(answers=answers)) as server:
        found = failure_of(address_of(server))
    assert (found.step, found.worth_retrying) == (step, again)
    assert words in found.explanation


def test_a_server_without_starttls_gets_no_letter_in_the_clear(authority: CertificateAuthority) -> None:
    with smtp_server(SmtpServer(answers={"STARTTLS": "502 what"})) as server:
        assert failure_of(address_of(server, security="starttls")).step is Step.TLS
    assert server.letters == []


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_a_server_that_says_nothing_ends_by_the_deadline(security: str) -> None:
    with black_hole() as (port, _):
        began = time.monotonic()
        found = failure_of(address_of(SmtpServer(port=port), security=security, timeout_s=0.5))
    assert "no answer" in found.explanation
    assert time.monotonic() - began < 5


def test_no_letter_goes_to_what_is_not_to_be_reached() -> None:
    def link_local(host: str, port: int, deadline: float) -> list[Place]:
        return [(socket.AF_INET, ("169.254.169.254", port))]

    with smtp_server(SmtpServer()) as server:
        assert failure_of(address_of(server, allow_private=False)).step is Step.RESOLVE
        assert failure_of(address_of(server, resolver=link_local)).step is Step.RESOLVE
    url = "http://metadata.example/latest"
    assert failure_of(WebhookAddress(url, allow_private=True, resolver=link_local)).step is Step.RESOLVE
    for url in ("http://2852039166/", "http://[::ffff:a9fe:a9fe]/", "http://169.254.169.254/"):
        assert failure_of(WebhookAddress(url, allow_private=True)).step is Step.RESOLVE


@pytest.mark.parametrize("written", ["plain secret", "whsec_" + base64.b64encode(b"encoded secret").decode()])
def test_a_post_is_signed(tmp_path: Path, written: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(written + "\n")
    with web_server(WebServer([204])) as server:
        webhook.send(WebhookAddress(server.url, secret, allow_private=True), LETTER)
        headers, body = server.posts.get(timeout=5)
    assert json.loads(body) == LETTER.document
    key = base64.b64decode(written[6:]) if written.startswith("whsec_") else written.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == LETTER.id
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


def test_the_certificate_is_that_of_the_name_though_the_connection_goes_to_an_address(
    authority: CertificateAuthority,
) -> None:
    files = authority.issue("hook.example", alternatives="DNS:hook.example")
    with web_server(WebServer([200]), listening(files)) as server:
        url = server.url.replace("127.0.0.1", "hook.example")
        webhook.send(WebhookAddress(url, ca=authority.certificate, allow_private=True, resolver=here), LETTER)
        headers, _ = server.posts.get(timeout=5)
        assert headers["host"].startswith("hook.example:")
        other = url.replace("hook.example", "other.example")
        assert failure_of(WebhookAddress(other, ca=authority.certificate, allow_private=True, resolver=here)).step \
            is Step.TLS  # fmt: skip
        assert server.posts.empty()


def test_ipv6_and_a_server_that_is_only_on_the_second_address() -> None:
    with web_server(WebServer([200]), address="::1") as server:
        webhook.send(WebhookAddress(server.url, allow_private=True), LETTER)

        def both(host: str, port: int, deadline: float) -> list[Place]:
            return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]

        webhook.send(WebhookAddress(server.url, allow_private=True, resolver=both), LETTER)


def test_a_redirect_is_not_followed() -> None:
    with web_server(WebServer([200])) as elsewhere:
        with web_server(WebServer([302], location=elsewhere.url)) as server:
            found = failure_of(WebhookAddress(server.url, allow_private=True))
        assert (found.step, found.worth_retrying) == (Step.REQUEST, False)
        assert "302" in found.explanation
        assert elsewhere.posts.empty()


@pytest.mark.parametrize(("code", "again"), [(500, True), (503, True), (429, True), (404, False), (401, False)])
def test_what_is_worth_trying_again(code: int, again: bool) -> None:
    with web_server(WebServer([code])) as server:
        assert failure_of(WebhookAddress(server.url, allow_private=True)).worth_retrying is again


def test_a_web_server_that_says_nothing_ends_by_the_deadline() -> None:
    with web_server(WebServer([None])) as server:
        began = time.monotonic()
        found = failure_of(WebhookAddress(server.url, allow_private=True, timeout_s=0.5))
    assert (found.step, found.explanation.endswith("no answer in time")) == (Step.REQUEST, True)
    assert time.monotonic() - began < 5
