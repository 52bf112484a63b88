"""The forms that the values of settings have: each says what it found and what it expected."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

THIS_MACHINE = ("127.0.0.0/8", "::1/128")


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def require_both_or_neither(section: Section, one: str, other: str) -> None:
    """Raise ValueError when only one of two settings of `section` is given."""
    if bool(getattr(section, one)) is not bool(getattr(section, other)):
        raise ValueError(f"found one of {one} and {other}; expected both or neither")


def _ae_title(text: str) -> str:
    if not 1 <= len(text.strip()) <= 16 or not text.isascii() or not text.isprintable() or "\\" in text:
        raise ValueError(f"found {text!r}; expected 1 to 16 printable ASCII characters without a backslash")
    return text.strip()


def _network(text: str) -> str:
    if text == "*":
        return text
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"found {text!r}; expected an address, a network such as 10.1.0.0/16, or *") from None


def _networks(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _with_this_machine(value: Any) -> Any:
    return {"*": THIS_MACHINE, **value} if isinstance(value, dict) else value


def _uid(text: str) -> str:
    if len(text) > 64 or not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text, re.ASCII):
        raise ValueError(f"found {text!r}; expected a UID: numbers between dots, at most 64 characters")
    return text


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError(f"found {text!r}; expected auto, cpu, cuda or cuda:N")
    return text


def _identity(text: str) -> str:
    plain = text.strip().lower()
    digits = plain.removeprefix("sha256:").replace(":", "")
    if re.fullmatch("[0-9a-f]{64}", digits):
        return f"sha256:{digits}"
    if not plain or plain.startswith("sha256:"):
        raise ValueError(f"found {text!r}; expected sha256: and 64 hexadecimal digits, or a name in the certificate")
    return plain


def _token_digest(text: str) -> str:
    if not re.fullmatch("sha256:[0-9a-f]{64}", text):
        raise ValueError("found no digest; expected sha256: and 64 hexadecimal digits, as `athanor token NAME` prints")
    return text


def _stow_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("found another form; expected https://HOST[:PORT]/PATH without user, query and fragment")
    return text.rstrip("/").removesuffix("/studies")


def _syslog_url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in {"udp", "tcp", "tls"} or not parts.hostname or not parts.port or parts.path):
        raise ValueError("found another form; expected udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT")
    return text


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.username
                 or parts.path.strip("/") or parts.query or parts.fragment):  # fmt: skip
        raise ValueError("found another form; expected https://HOST[:PORT], as people open it")
    return text.rstrip("/")


def _issuer(text: str) -> str:
    parts = urlsplit(text)
    is_here = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here)) or parts.username \
            or parts.query or parts.fragment:  # fmt: skip
        raise ValueError("found another form; expected https://HOST[:PORT][/PATH], exactly as the provider writes it")
    return text


def _hook_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("found another form; expected https://HOST[:PORT]/PATH without user and fragment")
    return text


def _mail_address(text: str) -> str:
    if not re.fullmatch(r"[^@\s<>,;:\"]+@[^@\s<>,;:\"]+", text, re.ASCII) or not text.isprintable():
        raise ValueError(f"found {text!r}; expected an address such as pacs-team@example.org")
    return text


def _quiet_hours(text: str) -> str:
    begin, dash, end = text.partition("-")
    of_the_clock = re.compile("([01][0-9]|2[0-3]):[0-5][0-9]")
    if not (dash and of_the_clock.fullmatch(begin) and of_the_clock.fullmatch(end)) or begin == end:
        raise ValueError(f"found {text!r}; expected two times of the day, such as 22:00-06:00")
    return text


def _zone_name(text: str) -> str:
    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"found {text!r}; expected the name of a time zone, such as Europe/Berlin") from None
    return text


AETitle = Annotated[str, AfterValidator(_ae_title)]
StowUrl = Annotated[str, AfterValidator(_stow_url)]
HookUrl = Annotated[str, AfterValidator(_hook_url)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
QuietHours = Annotated[str, AfterValidator(_quiet_hours)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]
Origin = Annotated[str, AfterValidator(_origin)]
Issuer = Annotated[str, AfterValidator(_issuer)]
Network = Annotated[str, AfterValidator(_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
Uid = Annotated[str, AfterValidator(_uid)]
Device = Annotated[str, AfterValidator(_device)]
SyslogUrl = Annotated[str, AfterValidator(_syslog_url)]
Identity = Annotated[str, AfterValidator(_identity)]
TokenDigest = Annotated[str, AfterValidator(_token_digest)]
# an empty text in the file means that there is none
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
WithThisMachine = BeforeValidator(_with_this_machine)
