"""Every setting, declared once: type, unit, default and help. Read from ``settings.toml``, then the environment.

An environment variable overrides the file: ``ATHANOR_LISTENER__PORT=104``. Secrets have no place in the file: a
database or broker URL with a password comes from the environment or from the file named by ``*_URL_FILE``.
Relative paths are relative to the folder of the settings file.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from gateway.errors import ConfigurationError
from gateway.settings_origin import Given, given_by
from gateway.settings_words import unknown_key, words_of

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFAULT_FILE = Path("settings.toml")
THIS_MACHINE = ("127.0.0.0/8", "::1/128")
_RESERVE_OF_DISK, _LARGEST_RESERVE_BYTES = 0.05, 5_000_000_000
_SLOWEST_BYTES_PER_S = 16_384
_BROKERS = ("redis://", "rediss://", "redis+socket://", "amqp://", "amqps://")


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


Table = TypeVar("Table", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(_Section):
    """Who this node is, in associations and in the objects it makes."""

    ae_title: AETitle = Field("ATHANOR", description="our AE title, called by modalities and calling to the PACS")
    state_dir: Path = Field(Path("var"), description="folder of the spool, the embedded database and the broker")
    watchdog_s: float = Field(
        60.0,
        description="`athanor up` kills and restarts a process that gives no sign of life for so long, seconds",
        ge=5,
    )
    uid_root: str = Field(
        "", description="a UID root registered to your organisation; empty = UIDs under 2.25 (PS3.5 B.2)"
    )
    manufacturer: str = Field("Athanor", description="Manufacturer in derived instances", max_length=64)
    model_name: str = Field("Athanor gateway", description="Manufacturer's Model Name", max_length=64)
    serial_number: str = Field("", description="Device Serial Number", max_length=64)
    station_name: str = Field("ATHANOR", description="Station Name", max_length=16)
    institution_name: str = Field("", description="Institution Name of the gateway", max_length=64)
    content_qualification: Literal["RESEARCH", "PRODUCT", "SERVICE"] = Field(
        "RESEARCH", description="Content Qualification; PRODUCT only for a cleared deployment"
    )
    series_prefix: str = Field(
        "SYNTH-AI", description="start of every derived Series Description", min_length=1, max_length=16
    )


class ListenerTls(_Section):
    """A second listener, for associations over TLS only (PS3.15 B.12)."""

    address: str = Field("", description="address to listen on; empty = that of the listener")
    port: int = Field(2762, description="TCP port", ge=0, le=65535)
    certificate: Path = Field(description="PEM file: our certificate, followed by those between it and the root")
    key: Path = Field(description="PEM file: the private key, without passphrase")
    ca: Path | None = Field(
        None, description="PEM file: who may sign the certificates of peers; without it peers need none"
    )
    peers: dict[AETitle, Identity] = Field(
        default_factory=dict,
        description="calling AE title = the name in its certificate, or sha256: and the fingerprint; other "
        "certificates, and none, are rejected for this AE title, on the listener without TLS too",
    )

    @model_validator(mode="after")
    def _peers_show_certificates(self) -> Self:
        if self.peers and self.ca is None:
            raise ValueError("found peers without ca; expected ca, since without it no peer is asked for a certificate")
        return self


class Listener(_Section):
    """The C-STORE and C-ECHO SCP."""

    address: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: int = Field(11112, description="TCP port", ge=0, le=65535)
    processes: int = Field(0, description="processes that receive; 0 = one for each core, at most 4", ge=0, le=16)
    on_conflict: Literal["keep-first", "newest", "refuse"] = Field(
        "keep-first",
        description="which file of a SOP Instance UID is used when others come: the first, the newest, or the first "
        "while others are refused; the others are always kept beside and listed",
    )
    max_associations: int = Field(64, description="associations at a time", ge=1)
    max_associations_per_address: int = Field(32, description="associations of one address", ge=1)
    max_associations_per_peer: int = Field(32, description="associations of one calling AE title", ge=1)
    max_waiting: int = Field(64, description="connections that have no association yet", ge=1)
    max_waiting_per_address: int = Field(
        16, description="connections of one address that have no association yet", ge=1
    )
    acse_timeout_s: float = Field(10.0, description="seconds from connection to a whole A-ASSOCIATE-RQ", gt=0)
    network_timeout_s: float = Field(60.0, description="seconds of silence that end an association", gt=0)
    dimse_timeout_s: float = Field(
        30.0, description="seconds that one message may take before a minimum rate is asked of it", gt=0
    )
    max_pdu_bytes: int = Field(131_072, description="longest PDU that peers are asked to send, bytes", ge=4096)
    max_instance_bytes: int = Field(8_589_934_592, description="largest data set accepted, bytes", gt=0)
    max_header_bytes: int = Field(33_554_432, description="largest data set without its pixel data, bytes", gt=0)
    max_header_elements: int = Field(1_000_000, description="most elements before the pixel data, in all items", gt=0)
    max_sequence_depth: int = Field(64, description="deepest sequences within sequences", gt=0, le=200)
    require_called_ae_title: bool = Field(True, description="reject associations that call another AE title")
    private_sop_classes: tuple[Uid, ...] = Field((), description="SOP Classes to store besides those of images")
    peers: Annotated[dict[AETitle, Networks], BeforeValidator(_with_this_machine)] = Field(
        default={"*": THIS_MACHINE},
        description="who may call: calling AE title = address, network or list of them; * = any AE title or address; "
        "without a line for * everybody on this machine",
    )
    tls: ListenerTls | None = Field(None, description="a second listener, over TLS; none without this table")


class Spool(_Section):
    """Where the bytes are."""

    reserve_bytes: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="free bytes under which C-STORE answers 0xA700; auto = 5 % of the disk, at most 5 GB"
    )


class Assemble(_Section):
    """When a series is complete."""

    quiet_s: float = Field(5.0, description="silence that closes a series on partial evidence, seconds", gt=0)
    quiet_full_s: float = Field(1.0, description="silence that closes it on full evidence, seconds", gt=0)
    fallback_s: float = Field(60.0, description="silence that closes it on no evidence, seconds", gt=0)


class Process(_Section):
    """The workers that run generators."""

    device: Device = Field("auto", description="auto, cpu, cuda or cuda:N; auto = one worker per GPU, else CPU")
    threads: int = Field(0, description="torch threads per CPU worker; 0 = all cores", ge=0)
    lease_s: float = Field(30.0, description="a job with no progress for this long is taken back", gt=0)
    max_attempts: int = Field(3, description="attempts before a job ends FAILED", ge=1)
    max_series_bytes: int = Field(
        4_000_000_000, description="largest decoded series, bytes, refused before decoding", gt=0
    )
    max_decoder_bytes: int = Field(
        2_147_483_648, description="memory that decoding compressed pixel data may take, bytes", ge=500_000_000
    )


class Deliver(_Section):
    """The way back to the PACS."""

    threads: int = Field(
        0, description="threads of a transfer worker; 0 = one for each place at a destination, and 16 more", ge=0
    )
    per_destination: int = Field(2, description="transfers to one destination at a time", ge=1)
    lease_s: float = Field(120.0, description="a delivery that makes no progress for this long is taken back", gt=0)
    connect_timeout_s: float = Field(10.0, description="name, connection and TLS handshake, seconds", gt=0)
    response_timeout_s: float = Field(60.0, description="one answer, and one piece of what is sent, seconds", gt=0)
    first_retry_s: float = Field(5.0, description="longest wait before the second attempt; at least half of it", gt=0)
    growth: float = Field(2.0, description="each wait is this many times the last", ge=1)
    longest_retry_s: float = Field(3600.0, description="no wait is longer", gt=0)
    give_up_s: float = Field(259_200.0, description="age at which a delivery ends FAILED (3 days)", gt=0)

    @model_validator(mode="after")
    def _lease_outlasts_silence(self) -> Self:
        silence_s = self.connect_timeout_s + self.response_timeout_s
        if self.lease_s < silence_s:
            raise ValueError(
                f"found lease_s {self.lease_s:g}; expected at least connect_timeout_s + response_timeout_s, "
                f"{silence_s:g}: a slow destination would be sent the same instances twice at once"
            )
        return self


class DestinationTls(_Section):
    """TLS to a destination (PS3.15 B.12)."""

    ca: Path = Field(description="PEM file: who may sign the destination's certificate")
    certificate: Path | None = Field(None, description="PEM file: our certificate, for a destination that asks for it")
    key: Path | None = Field(None, description="PEM file: the private key, without passphrase")
    server_name: str = Field("", description="name in the destination's certificate; empty = host")

    @model_validator(mode="after")
    def _key_belongs_to_certificate(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("found one of certificate and key; expected both or neither")
        return self


class Destination(_Section):
    """A storage SCP, or with `stow_url` a STOW-RS origin server, that takes results, and how it wants them."""

    ae_title: AETitle = Field("", description="called AE title")
    host: str = Field("", description="host name or address", min_length=1)
    port: int = Field(0, description="TCP port", ge=1, le=65535)
    stow_url: StowUrl | None = Field(
        None, description="instead of the three: base URL of a STOW-RS server; /studies is added"
    )
    token_file: OptionalPath = Field(None, description="file that holds the bearer token for stow_url")
    batch_bytes: int = Field(
        50_000_000, description="most bytes in one STOW-RS request; one instance may have more", gt=0
    )
    concurrency: int | None = Field(None, description="transfers at a time; without it deliver.per_destination", ge=1)
    bandwidth_bytes_per_s: int = Field(
        0, description="most bytes a second from one transfer worker, 16384 or more; 0 = any", ge=0
    )
    quiet_hours: QuietHours | None = Field(
        None, description="hours in which no transfer is begun, such as 07:30-18:00 or 22:00-06:00"
    )
    time_zone: ZoneName | None = Field(
        None, description="zone of quiet_hours, such as Europe/Berlin; without it the machine's"
    )
    iod: Literal["secondary-capture", "source"] = Field(
        "secondary-capture", description="SC Image, or the SOP class of the source marked DERIVED"
    )
    transfer_syntax: str = Field(
        EXPLICIT_VR_LITTLE_ENDIAN,
        description="transfer syntax UID in which results are made and offered first",
    )
    modality: Literal["source", "OT"] = Field("source", description="value of Modality in results")
    label: bool = Field(True, description="burn SYNTHETIC into a corner")
    commitment: bool = Field(
        False, description="ask it to commit to storage; a delivery ends DELIVERED only when it has"
    )
    commitment_timeout_s: float = Field(
        3600.0, description="without a report on the commitment for this long it is asked again", gt=0
    )
    tls: DestinationTls | None = Field(None, description="how to reach it over TLS; none without this table")

    @model_validator(mode="after")
    def _is_not_too_slow(self) -> Self:
        if 0 < self.bandwidth_bytes_per_s < _SLOWEST_BYTES_PER_S:
            raise ValueError(
                f"found bandwidth_bytes_per_s {self.bandwidth_bytes_per_s}; expected 0 or at least "
                f"{_SLOWEST_BYTES_PER_S}: storage SCPs give up on slower senders"
            )
        return self

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        missing = [name for name in ("ae_title", "host", "port") if not getattr(self, name)]
        if self.stow_url is None:
            if missing:
                raise ValueError(f"found no {', '.join(missing)}; expected ae_title, host and port, or stow_url")
            if self.token_file is not None:
                raise ValueError("found token_file without stow_url; expected it with stow_url only")
            return self
        if self.commitment:
            raise ValueError("found commitment beside stow_url; expected it with ae_title, host and port only")
        if len(missing) < 3:
            raise ValueError("found ae_title, host or port beside stow_url; expected one of the two kinds")
        if not self.stow_url.startswith("https:") and (self.tls is not None or self.token_file is not None):
            raise ValueError("found http in stow_url with tls or token_file; expected https, or the token can be read")
        return self

    @property
    def profile(self) -> str:
        """Names the encoding: destinations with the same profile are sent the same files."""
        iod = "sc" if self.iod == "secondary-capture" else "native"
        label = "label" if self.label else "plain"
        return f"{iod}-{self.modality.lower()}-{label}-{self.transfer_syntax}"


class Peer(_Section):
    """Where to reach an application entity that asks this node for storage commitment."""

    ae_title: AETitle = Field(description="its AE title, calling and called")
    host: str = Field(description="host name or address", min_length=1)
    port: int = Field(description="TCP port", ge=1, le=65535)
    tls: DestinationTls | None = Field(None, description="how to reach it over TLS; none without this table")


class Retention(_Section):
    """How long what is over is kept. Days; 0 = for ever."""

    files_days: float = Field(
        30.0, description="received and derived files, once every destination has what it is to get", ge=0
    )
    failed_days: float = Field(90.0, description="the same where a series, job or delivery FAILED", ge=0)
    quarantine_days: float = Field(30.0, description="instances that were refused or kept beside", ge=0)
    history_days: float = Field(
        1825.0, description="what is known of a series after its files: timeline, jobs, UIDs of results", ge=0
    )
    log_days: float = Field(
        90.0, description="associations that carried nothing that is still here, and refusals", ge=0
    )


class Database(_Section):
    """The truth."""

    url: str = Field("", description="SQLAlchemy URL; empty = SQLite (WAL) in state_dir")
    url_file: OptionalPath = Field(None, description="file that holds the URL, for a URL with a password")


class Broker(_Section):
    """The doorbell."""

    url: str = Field(
        "",
        description="redis://, rediss://, redis+socket:// or amqp:// URL; empty = an embedded Valkey or Redis",
    )
    url_file: OptionalPath = Field(None, description="file that holds the URL, for a URL with a password")


class OpenId(_Section):
    """Logging in at the identity provider of the house (OpenID Connect)."""

    issuer: Issuer = Field(description="the provider, exactly as its discovery document names it", max_length=255)
    client_id: str = Field(description="who we are to the provider", min_length=1)
    client_secret_file: OptionalPath = Field(None, description="file that holds the secret of a confidential client")
    ca: OptionalPath = Field(None, description="PEM file: who may sign the provider's certificate, if not a public one")
    scopes: tuple[str, ...] = Field(("openid", "profile"), description="what is asked for; openid has to be among them")
    groups_claim: str = Field(
        "groups", description="claim of the ID token that holds the groups; realm_access.roles for one within another"
    )
    name_claim: str = Field("preferred_username", description="claim that names a person at the first login")
    roles: dict[str, Literal["viewer", "operator", "administrator", "auditor"]] = Field(
        description="group = role; of several the first counts, and who is in none does not get in", min_length=1
    )
    button: str = Field("Log in with single sign-on", description="words of the link on the login page", min_length=1)
    passwords: bool = Field(True, description="whether people who have a password here may log in with it")

    @model_validator(mode="after")
    def _asks_for_openid(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError("found scopes without openid; expected it among them, or there is no ID token")
        return self


class Web(_Section):
    """The web port: STOW-RS intake."""

    enabled: bool = Field(False, description="run the web process")
    address: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: int = Field(8080, description="TCP port", ge=0, le=65535)
    certificate: OptionalPath = Field(None, description="PEM file: our certificate and its chain, for https")
    key: OptionalPath = Field(None, description="PEM file: the private key, without passphrase")
    max_connections: int = Field(64, description="connections at a time; more are answered 503", ge=1)
    files_dir: OptionalPath = Field(
        None,
        description="folder that has every file that destinations added on the web may name; empty = they name none",
    )
    senders: dict[AETitle, TokenDigest] = Field(
        default_factory=dict, description="who may store over HTTP: name = what `athanor token NAME` printed"
    )
    public_url: Origin = Field(
        "", description="how people open the pages: https://HOST[:PORT]; a login elsewhere comes back to it"
    )
    oidc: OpenId | None = Field(None, description="logging in at an identity provider; not without this table")

    @model_validator(mode="after")
    def _provider_knows_the_way_back(self) -> Self:
        if self.oidc and not self.public_url:
            raise ValueError("found oidc without public_url; expected https://HOST[:PORT], to which the provider leads")
        return self

    @model_validator(mode="after")
    def _key_belongs_to_certificate(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("found one of certificate and key; expected both or neither")
        return self


class Metrics(_Section):
    """Figures for Prometheus."""

    address: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: int = Field(0, description="first TCP port; each process adds its own number; 0 = no metrics", ge=0, le=65000)


class Audit(_Section):
    """The audit trail (PS3.15 A.5)."""

    file: OptionalPath = Field(None, description="file that messages are added to, an XML document a line")
    syslog: SyslogUrl = Field("", description="udp://HOST:514, tcp://HOST:601 or tls://HOST:6514; empty = none")
    ca: OptionalPath = Field(None, description="PEM file: who may sign the certificate of the syslog server")
    certificate: OptionalPath = Field(None, description="PEM file: our certificate, for a server that asks for it")
    key: OptionalPath = Field(None, description="PEM file: the private key, without passphrase")
    patient: bool = Field(False, description="name the patient by Patient ID, as PS3.15 A.5.3 asks for")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("found one of certificate and key; expected both or neither")
        if self.syslog.startswith("tls:") and self.ca is None:
            raise ValueError("found tls:// without ca; expected ca, since nobody else says who the server is")
        return self


class Mail(_Section):
    """Alerts by e-mail."""

    host: str = Field(description="SMTP server: host name or address", min_length=1)
    port: int = Field(587, description="TCP port: 587 for starttls, 465 for tls, 25 for none", ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="TLS after a first word, from the start, or not at all"
    )
    ca: OptionalPath = Field(None, description="PEM file: who may sign the server's certificate, if not a public one")
    user: str = Field("", description="who logs in; empty = no login")
    password_file: OptionalPath = Field(None, description="file that holds the password of the user")
    sender: MailAddress = Field(description="address in From")
    recipients: tuple[MailAddress, ...] = Field(description="addresses in To", min_length=1)

    @model_validator(mode="after")
    def _password_is_not_read_on_its_way(self) -> Self:
        if (not self.user) is not (self.password_file is None):
            raise ValueError("found one of user and password_file; expected both or neither")
        if self.user and self.security == "none":
            raise ValueError("found user with security none; expected starttls or tls, or the password can be read")
        return self


class Webhook(_Section):
    """Alerts by a signed HTTP POST."""

    url: HookUrl = Field(description="where to, https://HOST[:PORT]/PATH")
    secret_file: OptionalPath = Field(None, description="file that holds the secret of the signature; none = unsigned")
    ca: OptionalPath = Field(None, description="PEM file: who may sign the server's certificate, if not a public one")


class Alerts(_Section):
    """Telling people what needs them."""

    quiet_s: float = Field(
        600.0, description="a cause that is back so soon after its end is the same alert, and nobody is told, seconds",
        ge=0,
    )  # fmt: skip
    remind_hours: float = Field(
        24.0, description="what is open for so long and that nobody acknowledged is told again, hours; 0 = never", ge=0
    )
    waiting_s: float = Field(3600.0, description="a job or delivery that waits for so long is an alert, seconds", gt=0)
    allow_private: bool = Field(
        False, description="whether messages may go to loopback and private addresses, such as 10.0.0.0/8"
    )
    email: Mail | None = Field(None, description="alerts by e-mail; none without this table")
    webhook: Webhook | None = Field(None, description="alerts by HTTP POST; none without this table")


class Rules(_Section):
    """Routing."""

    seed: OptionalPath = Field(Path("rules.toml"), description="rules read into an empty database at start")


class Settings(BaseSettings):
    """All settings of one node. Build it with `read_settings`."""

    model_config = SettingsConfigDict(env_prefix="ATHANOR_", env_nested_delimiter="__", extra="forbid", frozen=True)

    node: Node = Node()
    listener: Listener = Listener()
    spool: Spool = Spool()
    assemble: Assemble = Assemble()
    process: Process = Process()
    deliver: Deliver = Deliver()
    retention: Retention = Retention()
    database: Database = Database()
    broker: Broker = Broker()
    web: Web = Web()
    metrics: Metrics = Metrics()
    audit: Audit = Audit()
    alerts: Alerts = Alerts()
    rules: Rules = Rules()
    weights_dir: OptionalPath = Field(None, description="folder of released models; empty = those that ship")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto = console on a terminal")
    destinations: dict[str, Destination] = Field(default_factory=dict, description="by the name that rules use")
    peers: dict[str, Peer] = Field(default_factory=dict, description="who is told of storage commitment, by any name")
    _given: Given = PrivateAttr(default_factory=Given)

    @property
    def given(self) -> Given:
        """What the file and the environment gave; the rest are defaults."""
        return self._given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        # what read_settings hands over is the file, so the environment stands above it
        return env_settings, init_settings

    @property
    def spool_dir(self) -> Path:
        """Folder of received and derived instances."""
        return self.node.state_dir / "spool"

    @property
    def reserve_bytes(self) -> int:
        """Free bytes of the spool's disk that receiving leaves to what was accepted: its results and its rows."""
        wanted = self.spool.reserve_bytes
        if wanted != "auto":
            return wanted
        folder = next(place for place in (self.spool_dir, *self.spool_dir.parents) if place.exists())
        return min(_LARGEST_RESERVE_BYTES, int(shutil.disk_usage(folder).total * _RESERVE_OF_DISK))

    @property
    def run_dir(self) -> Path:
        """Folder of sockets and of the embedded broker's files."""
        return self.node.state_dir / "run"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database in use."""
        url = _secret("database", self.database.url, self.database.url_file)
        return url or f"sqlite:///{self.node.state_dir / 'athanor.sqlite'}"

    @property
    def broker_url(self) -> str:
        """Broker URL in use."""
        url = _secret("broker", self.broker.url, self.broker.url_file)
        if url and not url.startswith(_BROKERS):
            raise ConfigurationError(f"broker.url: found another beginning; expected one of {', '.join(_BROKERS)}")
        return url or f"redis+socket://{self.broker_socket}"

    @property
    def broker_is_embedded(self) -> bool:
        """True when the supervisor runs the broker."""
        return not _secret("broker", self.broker.url, self.broker.url_file)

    @property
    def broker_socket(self) -> Path:
        """Unix socket of the embedded broker."""
        return self.run_dir / "broker.sock"

    @property
    def models_dir(self) -> Path:
        """Folder of released models."""
        import pipelines

        return self.weights_dir or Path(pipelines.__file__).resolve().parents[1] / "weights"

    @property
    def runtimes_file(self) -> Path:
        """Which runtime computes which model on this machine, as it was measured."""
        return self.node.state_dir / "runtimes.json"


def _secret(place: str, value: str, file: Path | None) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() if file else value
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{place}.url_file: cannot read {file} ({error}); expected a file with a URL"
        ) from None


def read_settings(file: Path | None = None) -> Settings:
    """Settings from `file`, from ``$ATHANOR_SETTINGS`` or from ``settings.toml`` here; without any, the defaults.

    Raises ConfigurationError naming the key, what was found and what was expected.
    """
    named = file or (Path(name) if (name := os.environ.get("ATHANOR_SETTINGS")) else None)
    chosen = named or DEFAULT_FILE
    values = _read(chosen) if named or chosen.exists() else {}
    _require_known_sections()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems = "\n".join(words_of(problem, Settings) for problem in error.errors())
        raise ConfigurationError(f"settings in {chosen} or the environment:\n{problems}") from None
    except SettingsError as error:
        raise ConfigurationError(
            f'settings in the environment: {error}; a list or a table is written as JSON there: ["A", "B"]'
        ) from None
    settings._given = given_by(chosen if values else None, values, os.environ)
    return _anchored(settings, chosen.resolve().parent)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"settings: found no file {file}; expected a TOML file; check --settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings: cannot read {file} ({error}); expected a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"settings: {file} is not TOML: {error}") from None


def _require_known_sections() -> None:
    """Pydantic passes over variables whose section it does not know: a misspelt one would have no effect."""
    for name in os.environ:
        section, separator, _ = name.removeprefix("ATHANOR_").lower().partition("__")
        if name.startswith("ATHANOR_") and separator and section not in Settings.model_fields:
            raise ConfigurationError(f"environment: {name}: {unknown_key(section, Settings.model_fields)}")


def _anchored(table: Table, folder: Path) -> Table:
    """The same settings with every relative path made absolute from `folder`."""

    def anchor(value: Any) -> Any:
        if isinstance(value, Path):
            return folder / value
        if isinstance(value, BaseModel):
            return _anchored(value, folder)
        return {key: anchor(one) for key, one in value.items()} if isinstance(value, dict) else value

    return table.model_copy(update={name: anchor(value) for name, value in table})


__all__ = ["DEFAULT_FILE", "Destination", "Settings", "read_settings"]
