"""A Storage SCP, raw peers and certificates for every test that asks for them."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_peers import AE_TITLE, Connect, Listen, RawPeer, Recorder

from gateway.network.scp import ScpConfig, StorageScp


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def listen(recorder: Recorder) -> Iterator[Listen]:
    """Starts a Storage SCP on a free port that hands to `recorder`; in the end no thread of it may be left."""
    before = set(threading.enumerate())  # a small PACS of the whole run may be among them
    started: list[StorageScp] = []

    def start(*, tls: ssl.SSLContext | None = None, **config: object) -> StorageScp:
        settings = ScpConfig(**{"ae_title": AE_TITLE, "port": 0, **config})  # type: ignore[arg-type]
        scp = StorageScp(settings, recorder, tls=tls)
        scp.start()
        started.append(scp)
        return scp

    yield start
    for scp in started:
        scp.stop(0.0)
    left = {thread for thread in threading.enumerate() if thread.name.startswith(("association-", "storage-scp"))}
    assert left - before == set()


@pytest.fixture
def raw_peer() -> Iterator[Connect]:
    """Connects raw peers, and closes them in the end."""
    peers: list[RawPeer] = []

    def connect(port: int, host: str = "127.0.0.1") -> RawPeer:
        peers.append(RawPeer(port, host))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key.pem and certificate.pem for 127.0.0.1 and localhost, signed by itself."""
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return folder
