"""A certificate authority for tests, made of the openssl command line."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.network.tls import TlsFiles

_CONFIGURATION = """
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
copy_extensions = copy
unique_subject = no
policy = any
[any]
commonName = supplied
"""
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(folder: Path, *arguments: object) -> None:
    """Run openssl in a folder."""
    subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True)


class CertificateAuthority:
    """Signs certificates in a folder of its own; `certificate` is what those must trust who trust it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.certificate = folder / "ca.pem"
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(_CONFIGURATION)
        openssl(
            folder, "req", "-x509", *_NEW_KEY, "-days", 3650, "-subj", f"/CN=CA of {folder.name}",
            "-keyout", "ca.key", "-out", self.certificate,
        )  # fmt: skip

    def issue(
        self, name: str, *, alternatives: str = "", begins: int = -1, days: int = 365, trusts: Path | None = None
    ) -> TlsFiles:
        """A certificate with `name` as Common Name, valid from `begins` days after now; it trusts this authority.

        `alternatives` are Subject Alternative Names as openssl takes them (``DNS:pacs.example,IP:127.0.0.1``).
        """
        start = datetime.now(UTC) + timedelta(days=begins)
        stem = f"{name}-{len(list(self._folder.glob('*.key')))}"
        extensions = ("-addext", f"subjectAltName={alternatives}") if alternatives else ()
        openssl(
            self._folder, "req", "-new", *_NEW_KEY, "-subj", f"/CN={name}", *extensions,
            "-keyout", f"{stem}.key", "-out", f"{stem}.csr",
        )  # fmt: skip
        openssl(
            self._folder, "ca", "-config", "ca.cnf", "-batch", "-notext", "-cert", "ca.pem", "-keyfile", "ca.key",
            "-startdate", f"{start:%Y%m%d%H%M%SZ}", "-enddate", f"{start + timedelta(days=days):%Y%m%d%H%M%SZ}",
            "-in", f"{stem}.csr", "-out", f"{stem}.pem",
        )  # fmt: skip
        return TlsFiles(self._folder / f"{stem}.pem", self._folder / f"{stem}.key", trusts or self.certificate)
