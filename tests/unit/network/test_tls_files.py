"""Certificates and keys from files: what is refused, what is warned of, and whose they are."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.network.guard import Admission
from gateway.network.tls import PeerCertificate, TlsFiles
from gateway.settings import read_settings

FINGERPRINT = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate that signs itself and ends in 100 days."""
    folder = tmp_path_factory.mktemp("tls")
    return make(folder, "athanor", 100)


def make(folder: Path, name: str, days: int, *options: str) -> TlsFiles:
    made = TlsFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-days", str(days), "-subj", f"/CN={name}", "-out", str(made.certificate), "-keyout", str(made.key)),
            *(options or ("-nodes",)),
        ],
        check=True,
        capture_output=True,
    )
    return made


def test_files_in_order_need_nobody(files: TlsFiles) -> None:
    files.listening_context()
    files.calling_context()
    assert list(files.warnings(datetime.now(UTC))) == []


def test_a_missing_file_is_named(files: TlsFiles, tmp_path: Path) -> None:
    for broken in (TlsFiles(tmp_path / "a", files.key), TlsFiles(files.certificate, tmp_path / "a")):
        with pytest.raises(ConfigurationError, match=f"cannot read {tmp_path / 'a'}: No such file"):
            broken.listening_context()


def test_a_key_of_another_certificate_is_refused(files: TlsFiles, tmp_path: Path) -> None:
    other = make(tmp_path, "other", 10)
    with pytest.raises(ConfigurationError, match="KEY_VALUES_MISMATCH"):
        TlsFiles(files.certificate, other.key).listening_context()


def test_a_key_with_a_passphrase_is_refused_and_asks_for_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="without passphrase"):
        make(tmp_path, "locked", 10, "-passout", "pass:secret").listening_context()


def test_no_error_shows_what_is_in_a_key(files: TlsFiles) -> None:
    assert files.key is not None
    content = files.key.read_text().splitlines()[1]
    for broken in (TlsFiles(files.key, files.key), TlsFiles(files.certificate, files.key, files.key)):
        with pytest.raises(ConfigurationError) as refused:
            broken.listening_context()
        assert content not in str(refused.value)
        assert refused.value.__cause__ is None


@pytest.mark.parametrize(("days_left", "words"), [(29, "expires on"), (-1, "expired on"), (31, None)])
def test_a_certificate_that_ends_soon_is_warned_of(files: TlsFiles, days_left: int, words: str | None) -> None:
    assert files.certificate is not None
    shown = subprocess.check_output(["openssl", "x509", "-noout", "-enddate", "-in", files.certificate], text=True)
    end = datetime.strptime(shown.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    warnings = list(files.warnings(end - timedelta(days=days_left)))
    if words is None:
        assert warnings == []
    else:
        assert warnings == [f"{files.certificate} {words} {end:%Y-%m-%d}: replace it"] * 2


def test_the_first_of_a_bundle_to_end_is_the_one_that_counts(files: TlsFiles, tmp_path: Path) -> None:
    # after 2049 a certificate writes its year with four digits (RFC 5280 4.1.2.5)
    make(tmp_path, "late", 20_000)
    make(tmp_path, "soon", 3)
    assert list(TlsFiles(ca=tmp_path / "late.pem").warnings(datetime.now(UTC))) == []
    both = tmp_path / "both.pem"
    both.write_text("".join(f"{name}\n{(tmp_path / name).read_text()}" for name in ("late.pem", "soon.pem")))
    (warning,) = TlsFiles(ca=both).warnings(datetime.now(UTC))
    assert "both.pem expires on" in warning


def test_a_key_that_every_user_may_read_is_warned_of(tmp_path: Path) -> None:
    files = make(tmp_path, "open", 100)
    assert files.key is not None
    files.key.chmod(0o644)
    (warning,) = files.warnings(datetime.now(UTC))
    assert "open.key is open to every user" in warning
    files.key.chmod(0o640)
    assert list(files.warnings(datetime.now(UTC))) == []


def test_whose_certificate_it_is() -> None:
    certificate = PeerCertificate(FINGERPRINT, frozenset({"scanner1", "sha256:0000"}))
    assert certificate.is_of(FINGERPRINT)
    assert certificate.is_of("scanner1")
    assert not certificate.is_of("scanner")
    # a name that looks like a fingerprint is none
    assert not certificate.is_of("sha256:0000")
    admission = Admission(certificates={"SCANNER1": "scanner1"})
    assert admission.owns_title("SCANNER1", certificate)
    assert not admission.owns_title("SCANNER1", PeerCertificate(FINGERPRINT, frozenset()))
    assert not admission.owns_title("SCANNER1", None)
    assert admission.owns_title("SCANNER2", None)


def write(folder: Path, text: str) -> Path:
    (folder / "settings.toml").write_text(text)
    return folder / "settings.toml"


LISTENER = '[listener.tls]\ncertificate = "c.pem"\nkey = "/k.pem"\n'


def test_settings_of_the_listener(tmp_path: Path) -> None:
    shown = ":".join(["AB"] * 32)
    peers = f'ca = "ca.pem"\npeers = {{ S1 = " Scanner1.Example ", S2 = "{shown}", S3 = "SHA256:{"cd" * 32}" }}\n'
    tls = read_settings(write(tmp_path, LISTENER + peers)).listener.tls
    assert tls is not None
    assert (tls.certificate, tls.key, tls.ca) == (tmp_path / "c.pem", Path("/k.pem"), tmp_path / "ca.pem")
    assert (tls.port, tls.address) == (2762, "")
    assert tls.peers == {"S1": "scanner1.example", "S2": f"sha256:{'ab' * 32}", "S3": f"sha256:{'cd' * 32}"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LISTENER + 'peers = { S1 = "scanner1" }', "expected ca"),
        (LISTENER + 'ca = "ca.pem"\npeers = { S1 = "sha256:ab:cd" }', "64 hexadecimal digits"),
        (LISTENER + 'ca = "ca.pem"\npeers = { S1 = " " }', "a name in the certificate"),
        ('[listener.tls]\ncertificate = "c.pem"', "listener.tls.key"),
        (
            '[destinations.pacs]\nae_title = "P"\nhost = "h"\nport = 1\ntls = { ca = "c", key = "k" }',
            "expected both or neither",
        ),
        ('[destinations.pacs]\nae_title = "P"\nhost = "h"\nport = 1\ntls = { server_name = "x" }', "tls.ca"),
        ("[destinations]\npacs = 1\n[listener]\ntls = 2", "listener.tls"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_settings(write(tmp_path, text))


def test_the_environment_reaches_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_LISTENER__TLS__PORT", "11112")
    tls = read_settings(write(tmp_path, LISTENER)).listener.tls
    assert tls is not None
    assert tls.port == 11112
