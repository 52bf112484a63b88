"""Where settings come from: the file, above it the environment, secrets from files of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from settings_words_of import WriteSettings, refusal

from gateway.settings import Destination, Settings, read_settings

PACS = '[destinations.pacs]\nae_title = "P"\nhost = "h"\nport = 104\n'


def test_without_a_file_the_defaults_hold_and_paths_begin_here() -> None:
    settings = read_settings()
    assert settings.listener == Settings().listener
    assert settings.node.state_dir == Path.cwd() / "var"
    assert settings.rules.seed == Path.cwd() / "rules.toml"
    assert settings.database_url == f"sqlite:///{Path.cwd()}/var/athanor.sqlite"
    assert settings.broker_is_embedded
    assert settings.broker_url == f"redis+socket://{Path.cwd()}/var/run/broker.sock"
    assert (settings.models_dir / "t2-to-stir" / "manifest.toml").exists(), "the models that ship"


def test_the_file_here_is_found_and_the_named_one_stands_above_it(
    write: WriteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("settings.toml").write_text("[listener]\nport = 1\n")
    assert read_settings().listener.port == 1
    file = write("[listener]\nport = 2\n")
    monkeypatch.setenv("ATHANOR_SETTINGS", str(file))
    assert read_settings().listener.port == 2
    assert read_settings(Path("settings.toml")).listener.port == 1


def test_the_environment_stands_above_the_file_key_by_key(
    write: WriteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        '[listener]\nport = 2\nmax_associations = 3\n[destinations.pacs]\nae_title = "P"\nhost = "h"\nport = 104\n'
    )
    monkeypatch.setenv("ATHANOR_LISTENER__PORT", "4")
    monkeypatch.setenv("ATHANOR_LOG_FORMAT", "json")
    monkeypatch.setenv("ATHANOR_LISTENER__PEERS", '{"MR1": "192.0.2.7"}')
    monkeypatch.setenv("ATHANOR_DESTINATIONS__PACS__PORT", "105")
    settings = read_settings(file)
    assert (settings.listener.port, settings.listener.max_associations) == (4, 3)
    assert settings.listener.peers["MR1"] == ("192.0.2.7/32",)
    assert settings.log_format == "json"
    assert settings.destinations["pacs"] == Destination(ae_title="P", host="h", port=105)


def test_relative_paths_begin_at_the_file_wherever_they_are_set(
    write: WriteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        'weights_dir = "models"\n[node]\nstate_dir = "state"\n[database]\nurl_file = "db"\n[listener.tls]\n'
        'certificate = "tls/own.pem"\nkey = "/keys/own.key"\nca = "tls/ca.pem"\n'
        + PACS
        + '[destinations.pacs.tls]\nca = "tls/pacs.pem"\n'
    )
    monkeypatch.setenv("ATHANOR_BROKER__URL_FILE", "broker")
    settings, folder = read_settings(file), file.parent
    assert settings.node.state_dir == folder / "state"
    assert settings.spool_dir == folder / "state" / "spool"
    assert settings.models_dir == folder / "models"
    assert settings.rules.seed == folder / "rules.toml", "the default too"
    assert settings.database.url_file == folder / "db"
    assert settings.broker.url_file == folder / "broker"
    tls = settings.listener.tls
    assert tls is not None
    assert (tls.certificate, tls.key, tls.ca) == (folder / "tls/own.pem", Path("/keys/own.key"), folder / "tls/ca.pem")
    assert settings.destinations["pacs"].tls.ca == folder / "tls/pacs.pem"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("section", "attribute", "url"),
    [
        ("database", "database_url", "postgresql://u:secret@db/athanor"),
        ("broker", "broker_url", "rediss://:secret@b/0"),
    ],
)
def test_a_url_with_a_password_comes_from_a_file_of_its_own(
    write: WriteSettings, section: str, attribute: str, url: str
) -> None:
    file = write(f'[{section}]\nurl_file = "secret"\n')
    (file.parent / "secret").write_text(f"{url}\n")
    settings = read_settings(file)
    assert getattr(settings, attribute) == url
    assert "secret@" not in repr(settings)
    (file.parent / "secret").unlink()
    words = refusal(lambda: getattr(read_settings(file), attribute))
    assert words.startswith(f"{section}.url_file: cannot read")


def test_this_machine_may_call_until_a_line_says_otherwise(write: WriteSettings) -> None:
    this_machine = ("127.0.0.0/8", "::1/128")
    assert read_settings().listener.peers == {"*": this_machine}
    peers = read_settings(write('[listener.peers]\nCT1 = ["192.0.2.8", "10.0.0.0/8"]\nMR1 = "*"\n')).listener.peers
    assert peers == {"*": this_machine, "CT1": ("192.0.2.8/32", "10.0.0.0/8"), "MR1": ("*",)}
    assert read_settings(write('[listener.peers]\n"*" = []\n')).listener.peers == {"*": ()}


@pytest.mark.parametrize("key", ["weights_dir", "rules.seed", "database.url_file", "broker.url_file"])
def test_an_empty_path_is_none(write: WriteSettings, key: str) -> None:
    section, _, name = key.rpartition(".")
    settings = read_settings(write((f"[{section}]\n" if section else "") + f'{name} = ""\n'))
    assert getattr(getattr(settings, section) if section else settings, name) is None
    assert settings.broker_is_embedded


def test_a_variable_of_an_unknown_section_is_refused_and_others_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_PORT_11112_TCP_ADDR", "10.0.0.1")  # what Kubernetes sets for a service of this name
    read_settings()
    monkeypatch.setenv("ATHANOR_LISTNER__PORT", "104")
    assert refusal(read_settings) == "environment: ATHANOR_LISTNER__PORT: found an unknown key; expected listener"
