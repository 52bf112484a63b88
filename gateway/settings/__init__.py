"""Every setting, declared once: type, unit, default and help. Read from ``settings.toml``, then the environment.

An environment variable overrides the file: ``ATHANOR_LISTENER__PORT=104``. Secrets have no place in the file: a
database or broker URL with a password comes from the environment or from the file named by ``*_URL_FILE``.
Relative paths are relative to the folder of the settings file.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from gateway.errors import ConfigurationError
from gateway.settings.line import (
    Assemble,
    Broker,
    Database,
    Deliver,
    Destination,
    Listener,
    Node,
    Peer,
    Process,
    Retention,
    Rules,
    Spool,
)
from gateway.settings.origin import Given, given_by
from gateway.settings.values import OptionalPath
from gateway.settings.watch import Alerts, Audit, Metrics, Web
from gateway.settings.words import unknown_key, words_of

DEFAULT_FILE = Path("settings.toml")
_RESERVE_OF_DISK, _LARGEST_RESERVE_BYTES = 0.05, 5_000_000_000
_BROKERS = ("redis://", "rediss://", "redis+socket://", "amqp://", "amqps://")
Table = TypeVar("Table", bound=BaseModel)


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
