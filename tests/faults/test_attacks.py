"""Hostile peers against a receiver, while a real peer's C-ECHO is answered within a second and its instances are kept.

All of it happens to one process, whose memory has a limit throughout, and which is as it was when it is over.
"""

from __future__ import annotations

import hashlib
import resource
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path

import checker
import fuzzing
import numpy as np
import psutil
import pydicom
import pytest
import sqlalchemy as sa
from checker import Promise
from fault_fixtures import CountFault, MakeGateway, Tell
from fuzzing import ABORT, ASSOCIATE_AC, ASSOCIATE_RQ, MR, P_DATA, RELEASE, pdu, pdv
from load import AnswerLog, Modality, SeriesMaker, encode
from lone_receiver import LoneReceiver
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from gateway.commands.sandbox import free_port
from gateway.domain.refusal import Reason
from gateway.domain.states import JobState
from gateway.store import heartbeats
from gateway.store.database import Database
from gateway.store.tables import job, refusal, series

MOST_MB = 300
"""Resident memory that the receiver may have while it is attacked."""

_MOST_OF_WORKER_MB = 2500
_WITHIN_S = 1.0
_ASKED_AT_LEAST = 3
_LIMITS = {
    "acse_timeout_s": 2.0, "dimse_timeout_s": 2.0, "network_timeout_s": 4.0, "max_instance_bytes": 20_000_000,
    "max_header_bytes": 8_000_000, "max_header_elements": 200_000,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def many_sockets() -> Iterator[None]:
    """Descriptors for a thousand sockets of our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneReceiver]:
    """The receiver that all attacks are made on, with a listener over TLS."""
    folder = tmp_path_factory.mktemp("attacked")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-keyout", folder / "key.pem", "-out", folder / "own.pem"),
        ],
        check=True,
        capture_output=True,
    )
    tls = {"port": free_port(), "certificate": str(folder / "own.pem"), "key": str(folder / "key.pem")}
    with LoneReceiver(folder / "node", **_LIMITS, tls=tls) as receiver:
        with RealPeers(receiver.port):  # what is made once is there before anything is counted
            time.sleep(0.5)
        before = receiver.counts()
        yield receiver
        fds, threads = receiver.settled(before)
        assert receiver.errors() == []
        assert receiver.stop() == 0
    assert fds <= before[0], "descriptors are left"
    assert threads <= before[1], "threads are left"


class RealPeers:
    """DCMTK's echoscu from the attackers' own address, and an echo of ours from another, again and again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(ask,)) for ask in (self._dcmtk, self._ours)]
        self.took_s: list[float] = []
        self.failed: list[str] = []

    def __enter__(self) -> RealPeers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, ask: Callable[[], None]) -> None:
        asked = 0
        while not self._stop.wait(0.1) or asked < _ASKED_AT_LEAST:
            asked += 1
            began = time.monotonic()
            try:
                ask()
            except (OSError, AssertionError, subprocess.SubprocessError) as error:
                self.failed.append(f"{ask.__name__}: {type(error).__name__}: {error}")
            self.took_s.append(time.monotonic() - began)

    def _dcmtk(self) -> None:
        command = ["echoscu", "-aet", "REAL", "-aec", "ATHANOR", "127.0.0.1", str(self._port)]
        subprocess.run(command, check=True, capture_output=True, timeout=10)

    def _ours(self) -> None:
        with Peer(self._port, source="127.0.0.2") as peer:
            peer.associate()
            peer.send(fuzzing.echo_pdu(9) + RELEASE)
            assert peer.read()[0] == P_DATA, "the echo is not answered"

    def require_served(self) -> None:
        """Fail unless everybody was answered, and in time."""
        assert self.failed == []
        assert max(self.took_s) < _WITHIN_S


class Peer:
    """A socket that says what it likes."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10, (source, 0))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def associate(self) -> None:
        self.send(fuzzing.request())
        assert self.read()[0] == ASSOCIATE_AC, "no association"

    def send(self, content: bytes) -> None:
        self.sock.sendall(content)

    def read(self) -> tuple[int, bytes]:
        """The next PDU; (0, b"") when there is none."""
        with suppress(ConnectionResetError):
            header = self._exactly(6)
            if len(header) == 6:
                kind, length = struct.unpack(">BxI", header)
                return kind, self._exactly(length)
        return 0, b""

    def status(self) -> int:
        """The status that answers a C-STORE."""
        kind, content = self.read()
        assert kind == P_DATA, f"PDU {kind} is no answer"
        at = content.index(struct.pack("<HHI", 0, 0x0900, 2))
        return int.from_bytes(content[at + 8 : at + 10], "little")

    def pump(self, content: bytes, most_bytes: int) -> int:
        """Send again and again until the other side has enough, or `most_bytes` are sent; how many were."""
        sent = 0
        with suppress(ConnectionError):
            while sent < most_bytes:
                self.sock.sendall(content)
                sent += len(content)
        return sent

    def is_closed(self) -> bool:
        """Whether the other side closes, waiting for it."""
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.sock.recv(count - len(data))):
            data += more
        return data


Attack = Callable[[LoneReceiver, ExitStack], None]


def idle_flood(receiver: LoneReceiver, held: ExitStack) -> None:
    """A thousand sockets that say nothing: a few wait, the others are sent away."""
    flood = [held.enter_context(Peer(receiver.port)) for _ in range(1000)]
    assert receiver.counts()[1] < 60, "a thread for each"
    assert all(peer.is_closed() for peer in flood)


def slow_request(receiver: LoneReceiver, held: ExitStack) -> None:
    """A-ASSOCIATE-RQs of a byte each tenth of a second, longer than anybody would wait."""
    slow = [held.enter_context(Peer(receiver.port)) for _ in range(100)]
    with dripping(slow, fuzzing.request()):
        assert all(peer.is_closed() for peer in slow)


def slow_pdu(receiver: LoneReceiver, held: ExitStack) -> None:
    """Associations whose C-STORE comes a byte each tenth of a second."""
    slow = [held.enter_context(Peer(receiver.port)) for _ in range(10)]
    for peer in slow:
        peer.associate()
    with dripping(slow, fuzzing.store_pdus(1, MR, b"1.2.3", 1, bytes(1000))):
        assert [peer.read()[0] for peer in slow] == [ABORT] * 10


def slow_handshake(receiver: LoneReceiver, held: ExitStack) -> None:
    """TLS handshakes of a byte each tenth of a second; one in order gets through."""
    tls = receiver.settings.listener.tls
    assert tls is not None
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    slow = [held.enter_context(Peer(tls.port)) for _ in range(100)]
    with dripping(slow, hello.read()):
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.check_hostname = False
        began = time.monotonic()
        with held.enter_context(Peer(tls.port, source="127.0.0.3")) as real:
            real.sock = context.wrap_socket(real.sock)
            real.associate()
        assert time.monotonic() - began < _WITHIN_S
        assert all(peer.is_closed() for peer in slow)


def endless_fragments(receiver: LoneReceiver, held: ExitStack) -> None:
    """Messages without an end: of a data set, of a command, of a C-ECHO that has a data set, and of nothing at all."""
    store = fuzzing.command_set(fuzzing.store_elements(MR, b"1.2.3", 1))
    echo = store.replace(struct.pack("<HHIH", 0, 0x0100, 2, 1), struct.pack("<HHIH", 0, 0x0100, 2, fuzzing.C_ECHO_RQ))
    for begin, endless, limit in (
        (pdu(P_DATA, pdv(1, 3, store)), pdu(P_DATA, pdv(1, 0, bytes(16_000))), 20_000_000),
        (pdu(P_DATA, pdv(1, 3, echo)), pdu(P_DATA, pdv(1, 0, bytes(16_000))), 20_000_000),
        (b"", pdu(P_DATA, pdv(1, 1, bytes(1_000))), 100_000),
        (pdu(P_DATA, pdv(1, 3, store)), pdu(P_DATA, pdv(1, 0, b"") * 2000), 400_000_000),
    ):
        peer = held.enter_context(Peer(receiver.port))
        peer.associate()
        peer.send(begin)
        # what the sockets of both sides hold was sent, too, and what is thrown away until we hear that it is over
        assert peer.pump(endless, 400_000_000) < limit + 40_000_000


def giant_pdu(receiver: LoneReceiver, held: ExitStack) -> None:
    """A header that claims four gigabytes, before there is an association and in one."""
    for associated in (False, True):
        peer = held.enter_context(Peer(receiver.port))
        if associated:
            peer.associate()
        peer.send(struct.pack(">BxI", P_DATA if associated else ASSOCIATE_RQ, 0xFFFFFFFF))
        assert peer.pump(bytes(1_000_000), 400_000_000) < 40_000_000


def deep_and_crowded(receiver: LoneReceiver, held: ExitStack) -> None:
    """Sequences 20,000 deep, elements and fragments by the hundred thousand, a header of megabytes: all 0xC000."""
    peer = held.enter_context(Peer(receiver.port))
    peer.associate()
    head, *rest = fuzzing.plain_elements(MR, b"1.2.3.4", 99, implicit=False, encapsulated=False)
    element, item = fuzzing.element, fuzzing.item
    empty = element(0x00191010, b"LO", b"", implicit=False) * 300_000
    private = element(0x00191010, b"OB", bytes(9_000_000), implicit=False)
    fragments = element(0x7FE00010, b"OB", item(b"", undefined=False) * 300_000, implicit=False, length=0xFFFFFFFF)
    for bomb in (
        fuzzing.nested(20_000, implicit=False, undefined=True),
        fuzzing.nested(5_000, implicit=False, undefined=False),  # a length has 32 bits, and each level doubles the size
        fuzzing.sequence(0x00081140, [item(empty, undefined=False)], implicit=False, undefined=False),
        empty,
        private,
        fragments,
    ):
        data_set = head + bomb + b"".join(rest)
        pieces = [data_set[at : at + 100_000] for at in range(0, len(data_set), 100_000)]
        command = fuzzing.command_set(fuzzing.store_elements(MR, b"1.2.3.4", 5))
        began = time.monotonic()
        peer.send(pdu(P_DATA, pdv(1, 3, command)))
        peer.send(b"".join(pdu(P_DATA, pdv(1, 2 if piece is pieces[-1] else 0, piece)) for piece in pieces))
        assert peer.status() == 0xC000
        assert time.monotonic() - began < 5.0


def hostile_uids(receiver: LoneReceiver, held: ExitStack) -> None:
    """Paths and NULs where UIDs belong, in the request and in the data set: refused, and nothing is written there."""
    peer = held.enter_context(Peer(receiver.port))
    peer.associate()
    hostile = (
        *(b"../../../../../../tmp/athanor-attack", b"/tmp/athanor-attack", b"1.2\0../../athanor-attack"),
        *(b"..", b"1.2.3/../4", b"\0"),
    )
    for uid in hostile:
        plain = fuzzing.plain_elements(MR, uid, 99, implicit=False, encapsulated=False)
        peer.send(fuzzing.store_pdus(1, MR, uid, 1, b"".join(plain)))
        assert peer.status() == 0x0117, uid
        for place in (3, 14, 15):
            parts = fuzzing.plain_elements(MR, b"1.2.3.4", 99, implicit=False, encapsulated=False)
            tag = struct.unpack_from("<HH", parts[place])
            parts[place] = fuzzing.element(tag[0] << 16 | tag[1], b"UI", fuzzing.even(uid), implicit=False)
            peer.send(fuzzing.store_pdus(1, MR, b"1.2.3.4", 1, b"".join(parts)))
            assert peer.status() == 0xA900, uid
    assert not list(Path("/tmp").glob("athanor-attack*"))
    folder = receiver.settings.node.state_dir.parent
    assert not [path for path in folder.rglob("*") if "attack" in path.name or path.name == "4"]


ATTACKS: tuple[Attack, ...] = (
    idle_flood, slow_request, slow_pdu, slow_handshake, endless_fragments, giant_pdu, deep_and_crowded, hostile_uids,
)  # fmt: skip


@contextmanager
def dripping(peers: list[Peer], content: bytes) -> Iterator[None]:
    """Every peer sends the next byte every tenth of a second."""
    stop = threading.Event()

    def drip() -> None:
        at = 0
        while not stop.wait(0.1):
            for peer in peers:
                with suppress(OSError):
                    peer.send(content[at : at + 1])
            at += 1

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_real_peer_is_served_while(
    attack: Attack, attacked: LoneReceiver, template: Dataset, answers: AnswerLog, count_fault: CountFault, tell: Tell
) -> None:
    series = SeriesMaker(template, attack.__name__)(4)
    real = Modality(attacked.port, "REAL", answers)
    with ExitStack() as held, RealPeers(attacked.port) as peers:
        sending = threading.Thread(target=real.send, args=(series,))
        sending.start()
        attack(attacked, held)
        sending.join()
    count_fault("attack")
    slowest = f"{len(peers.took_s)} echoes, the slowest after {max(peers.took_s):.2f} s"
    tell(f"attack {attack.__name__}: {slowest}, receiver at most {attacked.rss_mb:.0f} MB so far")
    peers.require_served()
    assert attacked.rss_mb < MOST_MB
    report = recorded(attacked, answers)
    assert report.acknowledged == len(series)
    assert report.violations == []


def recorded(receiver: LoneReceiver, answers: AnswerLog) -> checker.Report:
    """The checker's report once the rows behind the last answers are written, or after a while."""
    until = time.monotonic() + 10
    while True:
        report = checker.check(receiver.settings, answers, {})
        # nothing but the receiver runs, so no series comes to its end
        report.violations = [one for one in report.violations if one.promise is not Promise.VISIBLE_END]
        if not report.violations or time.monotonic() > until:
            return report
        time.sleep(0.1)


def test_the_administrator_sees_who_was_refused(attacked: LoneReceiver) -> None:
    with Peer(attacked.port, source="127.0.0.4") as stranger:
        fixed, items = fuzzing.request_items(b"STRANGER")
        stranger.send(pdu(ASSOCIATE_RQ, fixed.replace(b"ATHANOR", b"ANOTHER") + b"".join(items)))
        assert stranger.read()[0] == fuzzing.ASSOCIATE_RJ
    database = Database(attacked.settings.database_url)
    until = time.monotonic() + 10
    rows: list[tuple[str, ...]] = []
    wanted = ("127.0.0.4", "STRANGER", "ANOTHER", Reason.CALLED_AE_TITLE.value)
    while wanted not in rows and time.monotonic() < until:
        time.sleep(0.1)
        with database.read() as connection:
            columns = (refusal.c.address, refusal.c.calling_ae_title, refusal.c.called_ae_title, refusal.c.reason)
            rows = [tuple(row) for row in connection.execute(sa.select(*columns))]
    database.close()
    assert wanted in rows


@pytest.mark.timeout(180)
def test_a_decompression_bomb_ends_refused_and_the_worker_goes_on(
    make_gateway: MakeGateway, template: Dataset, answers: AnswerLog, count_fault: CountFault, tell: Tell
) -> None:
    gateway = make_gateway("sqlite")
    database = gateway.database()
    with database.read() as connection:
        (beat,) = [one for one in heartbeats.all_of(connection) if one.process.startswith("process")]
    worker = psutil.Process(int(beat.detail["pid"]))
    (bomb,) = SeriesMaker(template, "bomb")(1)
    data_set = inflated(bomb.data_set, 30_000)
    with Highest(worker) as highest, Peer(gateway.port) as peer:
        fixed, items = fuzzing.request_items(b"BOMBER")
        context = b"\1\0\0\0" + fuzzing.sub_item(0x30, MR) + fuzzing.sub_item(0x40, fuzzing.JPEG_2000)
        items[1] = fuzzing.sub_item(0x20, context)
        peer.send(pdu(ASSOCIATE_RQ, fixed + b"".join(items)))
        assert peer.read()[0] == ASSOCIATE_AC
        peer.send(fuzzing.store_pdus(1, MR, bomb.sop_instance_uid.encode(), 1, data_set))
        assert peer.status() == 0, "whether it can be decoded is not for the receiver to say"
        answers.add(checker.Answer(bomb.sop_instance_uid, hashlib.sha256(data_set).hexdigest(), 0))
        peer.send(RELEASE)
        assert peer.read()[0] == fuzzing.RELEASE_RP
        gateway.drain(answers)
        good = SeriesMaker(template, "after the bomb")(4)
        Modality(gateway.port, "REAL", answers).send(good)
        report = gateway.check(answers)
    report.require_kept()
    with database.read() as connection:
        ends = {row.uid: (row.state, row.error) for row in connection.execute(_ENDS)}
    database.close()
    count_fault("attack")
    tell(f"decompression bomb: worker and decoder at most {highest.rss_mb:.0f} MB")
    assert ends[bomb.series_instance_uid][0] == JobState.REFUSED
    assert ends[bomb.series_instance_uid][1].startswith("undecodable"), ends
    assert ends[good[0].series_instance_uid][0] == JobState.SUCCEEDED
    assert worker.is_running()
    assert highest.rss_mb < _MOST_OF_WORKER_MB


_ENDS = sa.select(series.c.uid, job.c.state, job.c.error).join(job, job.c.series_id == series.c.id)


def inflated(encoded: bytes, size: int) -> bytes:
    """A data set whose header and JPEG 2000 codestream both claim `size` rows and columns, and that holds 64."""
    ds = pydicom.filereader.read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    codestream = bytearray(encode_array(pixels, bits_stored=12, use_mct=False))
    # SIZ (ISO 15444-1 A.5.1): the size of the image, and that of its only tile
    assert struct.unpack_from(">4I", codestream, 8) == (64, 64, 0, 0)
    struct.pack_into(">2I", codestream, 8, size, size)
    struct.pack_into(">2I", codestream, 24, size, size)
    ds.Rows = ds.Columns = size
    ds.PixelData = encapsulate([bytes(codestream)])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return encode(ds)


class Highest:
    """The most memory that a process and its children had at a time, in the block."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self.rss_mb = 0.0

    def __enter__(self) -> Highest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._stop.wait(0.02):
            with suppress(psutil.NoSuchProcess):
                every = [self._process, *self._process.children(recursive=True)]
                self.rss_mb = max(self.rss_mb, sum(one.memory_info().rss for one in every) / 1e6)
