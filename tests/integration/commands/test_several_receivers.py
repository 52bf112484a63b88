"""`athanor scp` in several processes on one port, and in one: shared out, killed, restarted, with bounded memory."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from raw_store import encoded
from small_series import instance_uids, write_small_series

from gateway.commands.bench_ingest import start_athanor, write_settings
from gateway.commands.bench_sender import OpenAssociation, Peer
from gateway.commands.sandbox import free_port
from gateway.network.dimse import Command, decode_command, encode_command
from gateway.network.negotiation import ProposedContext, request_pdu
from gateway.network.scu import DestinationAddress, OutgoingInstance, echo, send
from gateway.network.upper_layer import RELEASE_RQ_PDU, data_pdu
from gateway.settings import read_settings
from gateway.store import tables
from gateway.store.database import Database

_WITHIN_S = 30.0


class Node:
    """The receivers of a gateway in a folder of their own."""

    def __init__(self, folder: Path, **listener: object) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir()
        self.settings = read_settings(write_settings(folder, self.port, **listener))
        self.peer = Peer("ATHANOR", self.port)
        self.address = DestinationAddress("ATHANOR", "127.0.0.1", self.port, "SCANNER")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = start_athanor(self.folder)

    def receivers(self) -> list[psutil.Process]:
        """The processes that receive: those that this one started, or this one."""
        assert self.process is not None
        main = psutil.Process(self.process.pid)
        return main.children() or [main]

    def kill(self) -> None:
        """As if the power had gone for these processes."""
        assert self.process is not None
        receivers = self.receivers()
        self.process.kill()
        self.process.wait(_WITHIN_S)
        psutil.wait_procs(receivers, _WITHIN_S)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def send(self, paths: list[Path]) -> bool:
        return send(self.address, [OutgoingInstance.read(path) for path in paths], lambda *_: None).is_delivered


@contextmanager
def rows(node: Node) -> Iterator[sa.Connection]:
    database = Database(node.settings.database_url)
    with database.read() as connection:
        yield connection
    database.close()


def wait_for(what: str, happened: Callable[[], bool]) -> None:
    until = time.monotonic() + _WITHIN_S
    while not happened():
        assert time.monotonic() < until, f"{what} did not happen within {_WITHIN_S:g} s"
        time.sleep(0.05)


def received(node: Node) -> set[str]:
    with rows(node) as connection:
        return set(connection.execute(sa.select(tables.instance.c.sop_instance_uid)).scalars())


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def make(**listener: object) -> Node:
        nodes.append(Node(tmp_path / f"node-{len(nodes)}", **listener))
        nodes[-1].start()
        return nodes[-1]

    yield make
    for node in nodes:
        node.stop()


def test_associations_are_shared_out_and_one_that_is_killed_costs_the_others_nothing(
    make_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = make_node(processes=2)
    series = [write_small_series(tmp_path / f"series-{seed}", seed, 2) for seed in range(1, 5)]
    held = [OpenAssociation(node.peer, paths) for paths in series]
    wait_for("the opening of four associations", lambda: len(opened(node)) == 4)
    by_process = Counter(opened(node))
    assert sorted(by_process.values()) == [2, 2], by_process
    for association in held:
        association.send_all()
    victim = node.receivers()[0]
    victim.kill()
    alive = [association for association in held if is_released(association)]
    assert len(alive) == 2, "the associations of the other process go on"
    assert echo(node.address).is_answered
    wait_for("the restart", lambda: len(node.receivers()) == 2 and node.log().count('"child": "scp-0"') >= 3)
    expected = {uid for paths in series for uid in instance_uids(paths)}
    wait_for("the adoption", lambda: received(node) == expected)
    wait_for("the end of the dead", lambda: ends(node) == Counter({"released": 2, "aborted": 2}))


def opened(node: Node) -> list[str]:
    with rows(node) as connection:
        return list(connection.execute(sa.select(tables.association.c.process)).scalars())


def ends(node: Node) -> Counter[str]:
    """How the associations of the sender ended; those that stand for lost rows called nobody."""
    of_senders = sa.and_(
        tables.association.c.calling_ae_title == "BENCH", tables.association.c.called_ae_title == "ATHANOR"
    )
    with rows(node) as connection:
        return Counter(connection.execute(sa.select(tables.association.c.end).where(of_senders)).scalars())


def is_released(association: OpenAssociation) -> bool:
    try:
        association.release()
    except Exception:  # noqa: BLE001 - whatever a connection says whose other end was killed
        return False
    return True


@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_acknowledged_before_its_rows_were_written_survives_kill_9(
    make_node: Callable[..., Node], tmp_path: Path, processes: int
) -> None:
    node = make_node(processes=processes)
    paths = write_small_series(tmp_path / "series", 1, 6)
    database = Database(node.settings.database_url)
    with database.write():  # nobody else can write: rows wait in the receivers' memory
        assert node.send(paths)
        node.kill()
    database.close()
    assert received(node) == set()
    node.start()
    assert received(node) == set(instance_uids(paths)), "every row is there before anything new is received"
    with rows(node) as connection:
        assert connection.execute(sa.select(tables.series.c.instances)).scalar_one() == 6
    assert not list((node.settings.spool_dir / "incoming").rglob("*.part"))


def test_a_data_set_of_300_megabytes_goes_to_the_disk_and_not_into_memory(
    make_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = make_node(processes=1)
    (path,) = write_small_series(tmp_path / "series", 1, 1)
    (uid,) = instance_uids([path])
    (receiver,) = node.receivers()
    assert node.send(write_small_series(tmp_path / "first", 2, 1))
    before = receiver.memory_info().rss
    head = encoded(path).split(b"\xe0\x7f\x10\x00OW")[0]
    megabytes = 300
    peak = send_large(node, uid, head, megabytes, lambda: receiver.memory_info().rss)
    assert peak - before < 32e6, f"{(peak - before) / 1e6:.0f} MB more for {megabytes} MB"
    wait_for("the row", lambda: uid in received(node))
    with rows(node) as connection:
        found = connection.execute(sa.select(tables.instance).where(tables.instance.c.sop_instance_uid == uid)).one()
    assert found.size_bytes > megabytes * 1_000_000
    assert (node.settings.spool_dir / found.path).stat().st_size == found.size_bytes


def send_large(node: Node, uid: str, head: bytes, megabytes: int, measure: Callable[[], int]) -> int:
    """C-STORE `head` and so much pixel data in PDUs of 100,000 bytes; the most that `measure` found meanwhile."""
    size = megabytes * 1_000_000
    with socket.create_connection(("127.0.0.1", node.port), 30) as sock:
        proposed = (ProposedContext(MRImageStorage, ExplicitVRLittleEndian),)
        sock.sendall(request_pdu("SCANNER", "ATHANOR", proposed, 131072))
        sock.recv(4096)
        command = Command(
            command_field=1, message_id=1, affected_sop_class_uid=str(MRImageStorage), affected_sop_instance_uid=uid,
            priority=0, command_data_set_type=0,
        )  # fmt: skip
        sock.sendall(data_pdu(1, encode_command(command), is_command=True, is_last=True))
        pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, size)
        sock.sendall(data_pdu(1, head + pixels, is_command=False, is_last=False))
        piece = data_pdu(1, bytes(100_000), is_command=False, is_last=False)
        peak = 0
        for number in range(size // 100_000 - 1):
            sock.sendall(piece)
            if number % 100 == 0:
                peak = max(peak, measure())
        sock.sendall(data_pdu(1, bytes(100_000), is_command=False, is_last=True))
        answer = sock.recv(4096)
        peak = max(peak, measure())
        assert decode_command(answer[12:]).status == 0
        sock.sendall(RELEASE_RQ_PDU)
        sock.recv(16)
    return peak


def test_sigterm_lets_open_associations_end(make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node(processes=2)
    paths = write_small_series(tmp_path / "series", 1, 2)
    association = OpenAssociation(node.peer, paths)
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGTERM)
    wait_for("the end of listening", lambda: not echo(node.address).is_answered)
    association.send_all()
    association.release()
    assert node.process.wait(_WITHIN_S) == 0
    assert received(node) == set(instance_uids(paths))
