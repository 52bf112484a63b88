"""Settings that do not fit are refused by name, with what was found and what was expected."""

from __future__ import annotations

import pytest
from settings_words_of import WriteSettings, refusal

from gateway.dicom.provenance import require_sound
from gateway.settings import read_settings

PACS = '[destinations.pacs]\nae_title = "PACS"\nhost = "pacs"\nport = 104\n'
OPENID = '[web.oidc]\nclient_id = "athanor"\nroles = { readers = "viewer" }\nissuer = '


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[listener]\nportt = 104", "listener.portt: found an unknown key; expected port"),
        ("[listener]\nxyz = 1", "listener.xyz: found an unknown key; expected one of address, port, "),
        ("[listner]\nport = 104", "listner: found an unknown key; expected listener"),
        (PACS + "prot = 105", "destinations.pacs.prot: found an unknown key; expected port"),
        (PACS + '[destinations.pacs.tls]\nca = "a"\ncaa = "b"', "destinations.pacs.tls.caa: found an unknown key; exp"),
        ('[listener]\nport = "high"', "listener.port: found 'high'; expected a valid integer"),
        ("[listener]\nport = 70000", "listener.port: found 70000; expected less than or equal to 65535"),
        ("[listener]\ndimse_timeout_s = 0", "listener.dimse_timeout_s: found 0; expected greater than 0"),
        ("[listener]\nrequire_called_ae_title = 3", "listener.require_called_ae_title: found 3; expected a valid bool"),
        ('[listener]\npeers = ["CT1"]', "listener.peers: found ['CT1']; expected a valid dictionary"),
        ('[listener.peers]\nCT1 = "10.0.0.0/33"', "found '10.0.0.0/33'; expected an address, a network such as"),
        ('[listener.peers]\n"BACK\\\\SLASH" = "*"', "characters without a backslash"),
        ('[listener]\nprivate_sop_classes = ["1..2"]', "found '1..2'; expected a UID: numbers between dots"),
        ("[spool]\nreserve_bytes = -1", "spool.reserve_bytes"),
        ('[node]\nae_title = ""', "node.ae_title: found ''; expected 1 to 16 printable ASCII characters"),
        ('[node]\nae_title = "SEVENTEEN_LETTERS"', "node.ae_title: found 'SEVENTEEN_LETTERS'; expected 1 to 16"),
        ("[node]\nae_title = 'BACK\\SLASH'", "characters without a backslash"),
        ('[node]\nae_title = "MÜNCHEN"', "node.ae_title: found 'MÜNCHEN'; expected 1 to 16 printable ASCII"),
        (
            '[node]\nstation_name = "seventeen letters"',
            "node.station_name: found 'seventeen letters'; expected at",
        ),
        ('[node]\ncontent_qualification = "CLINICAL"', "expected 'RESEARCH', 'PRODUCT' or 'SERVICE'"),
        ('[process]\ndevice = "gpu"', "process.device: found 'gpu'; expected auto, cpu, cuda or cuda:N"),
        ('log_format = "xml"', "log_format: found 'xml'; expected 'auto', 'json' or 'console'"),
        ('[destinations.pacs]\nhost = "pacs"\nport = 104', "destinations.pacs: found no ae_title; expected ae_title, "),
        (OPENID + '"https://id.example"', "web: found oidc without public_url; expected https://HOST"),
        (OPENID + '"http://id.example"', "web.oidc.issuer: found another form; expected https://HOST"),
        (OPENID + '"https://id.example/?realm=a"', "web.oidc.issuer: found another form"),
        (OPENID + '"https://id.example"\nscopes = ["profile"]', "web.oidc: found scopes without openid"),
        ('[web]\npublic_url = "https://athanor.example/pages"', "web.public_url: found another form"),
        ('[web]\npublic_url = "athanor.example"', "web.public_url: found another form; expected https://HOST"),
        ('[web.oidc]\nissuer = "https://id.example"\nclient_id = "a"\nroles = {}', "web.oidc.roles"),
        ('[web.oidc]\nissuer = "https://id.example"\nclient_id = "a"\nroles = { a = "king" }', "web.oidc.roles.a"),
        ('[destinations.pacs]\nstow_url = "ftp://pacs/"', "destinations.pacs.stow_url: found another form; expected"),
        (PACS + 'stow_url = "https://pacs/"', "destinations.pacs: found ae_title, host or port beside stow_url"),
        (PACS + 'token_file = "token"', "destinations.pacs: found token_file without stow_url"),
        (
            '[destinations.pacs]\nstow_url = "http://pacs/"\ntoken_file = "token"',
            "destinations.pacs: found http in stow_url with tls or token_file; expected https",
        ),
        (PACS + 'quiet_hours = "22:00"', "destinations.pacs.quiet_hours: found '22:00'; expected two times of the day"),
        (PACS + 'quiet_hours = "6:00-6:00"', "destinations.pacs.quiet_hours: found '6:00-6:00'; expected two times"),
        (PACS + 'time_zone = "Europe/Bonn"', "destinations.pacs.time_zone: found 'Europe/Bonn'; expected the name"),
        (PACS + "concurrency = 0", "destinations.pacs.concurrency: found 0; expected greater than or equal to 1"),
        (
            "[deliver]\nlease_s = 69",
            "deliver: found lease_s 69; expected at least connect_timeout_s + response_timeout_s, 70",
        ),
        (PACS.replace('"pacs"\n', '""\n'), "destinations.pacs.host: found ''; expected at least 1 character"),
        (PACS + 'iod = "raw"', "destinations.pacs.iod: found 'raw'; expected 'secondary-capture' or 'source'"),
        ("[listener", "is not TOML"),
    ],
)
def test_refused_by_name(write: WriteSettings, text: str, words: str) -> None:
    found = refusal(lambda: read_settings(write(text)))
    assert words in found
    assert "settings.toml" in found, "the file is named"


def test_all_problems_are_told_at_once(write: WriteSettings) -> None:
    found = refusal(lambda: read_settings(write("[listener]\nport = -1\nmax_associations = 0\n[spool]\nreserve = 1\n")))
    assert [line.split(":")[0] for line in found.splitlines()[1:]] == [
        "listener.port", "listener.max_associations", "spool.reserve",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ['["redis://:secret@b/0"]', "918273645546372819"])
def test_what_may_hold_a_password_is_not_repeated(write: WriteSettings, value: str) -> None:
    found = refusal(lambda: read_settings(write(f"[broker]\nurl = {value}\n")))
    assert "broker.url: expected a valid string" in found
    assert "secret" not in found
    assert "918273645546372819" not in found  # no path and no time has that in it


def test_a_broker_of_another_kind(write: WriteSettings) -> None:
    settings = read_settings(write('[broker]\nurl = "kafka://:secret@b/0"\n'))
    found = refusal(lambda: settings.broker_url)
    assert found.startswith("broker.url: found another beginning; expected one of redis://, rediss://")
    assert "secret" not in found


def test_a_file_that_is_no_text(write: WriteSettings) -> None:
    file = write("")
    file.write_bytes(b"\xff\xfe\x00")
    assert "expected a TOML file in UTF-8" in refusal(lambda: read_settings(file))
    assert "expected a TOML file in UTF-8" in refusal(lambda: read_settings(file.parent))


def test_a_list_in_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_LISTENER__PRIVATE_SOP_CLASSES", "1.2,1.3")
    found = refusal(read_settings)
    assert '"listener"' in found
    assert 'written as JSON there: ["A", "B"]' in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[node]\nuid_root = "1.2.x"', "UID root: found '1.2.x'"),
        (PACS + 'transfer_syntax = "1.2.3"', "destinations.pacs: "),
    ],
)
def test_what_only_the_writer_of_derived_series_can_judge(write: WriteSettings, text: str, words: str) -> None:
    settings = read_settings(write(text))
    assert refusal(lambda: require_sound(settings)).startswith(words)
