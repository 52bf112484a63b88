"""Every setting, declared once: type, unit, default and help. Read from ``settings.toml``, then the environment.

An environment variable overrides the file: ``ATHANOR_LISTENER__PORT=104``. Secrets have no place in the file: a
database or broker URL with a password comes from the environment or from the file named by ``*_URL_FILE``.
Relative paths are relative to the folder of the settings file.
"""

from __future__ import annotations

import os
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from gateway.errors import ConfigurationError
from gateway.settings_words import unknown_key, words_of

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFAULT_FILE = Path("settings.toml")
_BROKERS = ("redis://", "rediss://", "redis+socket://", "amqp://", "amqps://")


def _ae_title(text: str) -> str:
    if not 1 <= len(text.strip()) <= 16 or not text.isascii() or not text.isprintable() or "\\" in text:
        raise ValueError(f"found {text!r}; expected 1 to 16 printable ASCII characters without a backslash")
    return text.strip()


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"found {text!r}; expected a network such as 10.1.0.0/16") from None


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


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Device = Annotated[str, AfterValidator(_device)]
Identity = Annotated[str, AfterValidator(_identity)]
# an empty text in the file means that there is none
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]


Table = TypeVar("Table", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(_Section):
    """Who this node is, in associations and in the objects it makes."""

    ae_title: AETitle = Field("ATHANOR", description="our AE title, called by modalities and calling to the PACS")
    state_dir: Path = Field(Path("var"), description="folder of the spool, the embedded database and the broker")
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
    max_associations: int = Field(64, description="associations at a time", ge=1)
    max_associations_per_address: int = Field(32, description="associations of one address", ge=1)
    max_waiting_per_address: int = Field(
        16, description="connections of one address that have no association yet", ge=1
    )
    acse_timeout_s: float = Field(10.0, description="seconds from connection to a whole A-ASSOCIATE-RQ", gt=0)
    network_timeout_s: float = Field(60.0, description="seconds of silence that end an association", gt=0)
    dimse_timeout_s: float = Field(
        30.0, description="seconds that one message may take before a minimum rate is asked of it", gt=0
    )
    max_instance_bytes: int = Field(1_073_741_824, description="largest data set accepted, bytes", gt=0)
    require_called_ae_title: bool = Field(False, description="reject associations that call another AE title")
    calling_ae_titles: tuple[AETitle, ...] = Field((), description="AE titles that may call; empty = any")
    calling_networks: tuple[Network, ...] = Field((), description="networks (CIDR) that may call; empty = any")
    tls: ListenerTls | None = Field(None, description="a second listener, over TLS; none without this table")


class Spool(_Section):
    """Where the bytes are."""

    reserve_bytes: int = Field(2_000_000_000, description="free bytes under which C-STORE answers 0xA700", ge=0)


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


class Deliver(_Section):
    """The way back to the PACS."""

    threads: int = Field(8, description="associations to destinations at a time", ge=1)
    per_destination: int = Field(2, description="associations to one destination at a time", ge=1)
    lease_s: float = Field(120.0, description="a delivery with no answer for this long is taken back", gt=0)
    connect_timeout_s: float = Field(10.0, description="TCP connection", gt=0)
    response_timeout_s: float = Field(60.0, description="one C-STORE response", gt=0)
    first_retry_s: float = Field(5.0, description="wait before the second attempt", gt=0)
    growth: float = Field(2.0, description="each wait is this many times the last", ge=1)
    longest_retry_s: float = Field(3600.0, description="no wait is longer", gt=0)
    give_up_s: float = Field(259_200.0, description="age at which a delivery ends FAILED (3 days)", gt=0)


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
    """A storage SCP that takes results, and how it wants them encoded."""

    ae_title: AETitle = Field(description="called AE title")
    host: str = Field(description="host name or address", min_length=1)
    port: int = Field(description="TCP port", ge=1, le=65535)
    iod: Literal["secondary-capture", "source"] = Field(
        "secondary-capture", description="SC Image, or the SOP class of the source marked DERIVED"
    )
    transfer_syntax: str = Field(
        EXPLICIT_VR_LITTLE_ENDIAN,
        description="transfer syntax UID in which results are made and offered first",
    )
    modality: Literal["source", "OT"] = Field("source", description="value of Modality in results")
    label: bool = Field(True, description="burn SYNTHETIC into a corner")
    tls: DestinationTls | None = Field(None, description="how to reach it over TLS; none without this table")

    @property
    def profile(self) -> str:
        """Names the encoding: destinations with the same profile are sent the same files."""
        iod = "sc" if self.iod == "secondary-capture" else "native"
        label = "label" if self.label else "plain"
        return f"{iod}-{self.modality.lower()}-{label}-{self.transfer_syntax}"


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
    database: Database = Database()
    broker: Broker = Broker()
    rules: Rules = Rules()
    weights_dir: OptionalPath = Field(None, description="folder of released models; empty = those that ship")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto = console on a terminal")
    destinations: dict[str, Destination] = Field(default_factory=dict, description="by the name that rules use")

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
