"""Settings of the DICOM line: who we are, what comes in, what becomes of it, where it goes, where it is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.settings.values import (
    THIS_MACHINE,
    AETitle,
    Device,
    Identity,
    Networks,
    OptionalPath,
    QuietHours,
    Section,
    StowUrl,
    Uid,
    WithThisMachine,
    ZoneName,
    require_both_or_neither,
)

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_SLOWEST_BYTES_PER_S = 16_384


class Node(Section):
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


class ListenerTls(Section):
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


class Listener(Section):
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
    peers: Annotated[dict[AETitle, Networks], WithThisMachine] = Field(
        default={"*": THIS_MACHINE},
        description="who may call: calling AE title = address, network or list of them; * = any AE title or address; "
        "without a line for * everybody on this machine",
    )
    tls: ListenerTls | None = Field(None, description="a second listener, over TLS; none without this table")


class Spool(Section):
    """Where the bytes are."""

    reserve_bytes: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="free bytes under which C-STORE answers 0xA700; auto = 5 % of the disk, at most 5 GB"
    )


class Assemble(Section):
    """When a series is complete."""

    quiet_s: float = Field(5.0, description="silence that closes a series on partial evidence, seconds", gt=0)
    quiet_full_s: float = Field(1.0, description="silence that closes it on full evidence, seconds", gt=0)
    fallback_s: float = Field(60.0, description="silence that closes it on no evidence, seconds", gt=0)


class Process(Section):
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

    @property
    def cpu_threads(self) -> int:
        """The threads of a worker on a CPU."""
        return self.threads or os.cpu_count() or 1


class Deliver(Section):
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


class DestinationTls(Section):
    """TLS to a destination (PS3.15 B.12)."""

    ca: Path = Field(description="PEM file: who may sign the destination's certificate")
    certificate: Path | None = Field(None, description="PEM file: our certificate, for a destination that asks for it")
    key: Path | None = Field(None, description="PEM file: the private key, without passphrase")
    server_name: str = Field("", description="name in the destination's certificate; empty = host")

    @model_validator(mode="after")
    def _key_belongs_to_certificate(self) -> Self:
        require_both_or_neither(self, "certificate", "key")
        return self


class Destination(Section):
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


class Peer(Section):
    """Where to reach an application entity that asks this node for storage commitment."""

    ae_title: AETitle = Field(description="its AE title, calling and called")
    host: str = Field(description="host name or address", min_length=1)
    port: int = Field(description="TCP port", ge=1, le=65535)
    tls: DestinationTls | None = Field(None, description="how to reach it over TLS; none without this table")


class Retention(Section):
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


class Database(Section):
    """The truth."""

    url: str = Field("", description="SQLAlchemy URL; empty = SQLite (WAL) in state_dir")
    url_file: OptionalPath = Field(None, description="file that holds the URL, for a URL with a password")


class Broker(Section):
    """The doorbell."""

    url: str = Field(
        "",
        description="redis://, rediss://, redis+socket:// or amqp:// URL; empty = an embedded Valkey or Redis",
    )
    url_file: OptionalPath = Field(None, description="file that holds the URL, for a URL with a password")


class Rules(Section):
    """Routing."""

    seed: OptionalPath = Field(Path("rules.toml"), description="rules read into an empty database at start")
