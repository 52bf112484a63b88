"""Mutated PDUs and data sets through a real socket: no crash, no hang, nothing leaked, and no wrong Success.

A Success is wrong when the identity of the data set cannot be read (by pydicom), when it differs from the request, or
when the stored bytes differ from the sent ones. `--fuzz N` says how many cases, `--faults-seed` which.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import struct
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import checker
import fuzzing
import pydicom
import pytest
from checker import Answer, Promise
from fault_fixtures import CountFault, Tell
from fuzzing import DataSetCase, StreamCase
from lone_receiver import LoneReceiver

_WINDOW = 64  # C-STOREs under way
_ANSWER_WITHIN_S = 20.0
_MOST_MB = 400
_ROOM_BYTES_OF_A_CASE = 20_000
_FOUND_UID = b"2.25.77"
_OF_STREAMS = 8  # one case in so many is a whole transport connection


class Wire:
    """One transport connection, read PDU by PDU."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_WITHIN_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = self._socket.makefile("rb")

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def end(self) -> None:
        """Nothing more is said."""
        self._socket.shutdown(socket.SHUT_WR)

    def read(self) -> tuple[int, bytes]:
        """Type and content of the next PDU, (0, b"") when there is none; raises TimeoutError, ConnectionError."""
        header = self._input.read(6)
        if not header:
            return 0, b""
        assert len(header) == 6, f"an answer that ends inside a PDU header: {header.hex()}"
        kind, length = struct.unpack(">BxI", header)
        assert length < 200_000, f"an answer of {length} bytes: {header.hex()}"
        content = self._input.read(length)
        assert len(content) == length, "an answer that ends inside a PDU"
        return kind, content

    def close(self) -> None:
        self._input.close()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Response:
    """What answers a C-STORE or C-ECHO."""

    field: int
    message_id: int
    status: int
    uid: bytes


def fragment_in(content: bytes) -> tuple[bytes, bool]:
    """The piece of a command that a P-DATA-TF carries, and whether it is the last; fails when it carries more."""
    length, _, flags = struct.unpack_from(">IBB", content)
    assert (length, flags & ~2) == (len(content) - 4, 1), f"no fragment of a command: {content.hex()}"
    return content[6:], flags == 3


def response_in(command: bytes) -> Response:
    """The response that a command set is; fails when it is none."""
    found, at = {}, 0
    while at < len(command):
        group, number, size = struct.unpack_from("<HHI", command, at)
        assert group == 0, f"no command set: {command.hex()}"
        found[number] = command[at + 8 : at + 8 + size]
        at += 8 + size
    number = {key: int.from_bytes(found[key], "little") for key in (0x0100, 0x0120, 0x0900)}
    return Response(number[0x0100], number[0x0120], number[0x0900], found.get(0x1000, b"").rstrip(b"\0"))


def identity(data_set: bytes, syntax: bytes) -> tuple[str, str]:
    """SOP Class and SOP Instance UID as pydicom reads them; empty when it cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.filereader.read_dataset(BytesIO(data_set), syntax == fuzzing.IMPLICIT, is_little_endian=True)
            return str(ds.SOPClassUID), str(ds.SOPInstanceUID)
    except Exception:  # noqa: BLE001 - whatever the bytes make it do: it has not read an identity
        return "", ""


def found_data_sets() -> dict[str, tuple[int, bytes]]:
    """What earlier runs found, reduced: name -> presentation context and data set."""

    def changed(place: int, element: bytes, context_id: int = 1) -> tuple[int, bytes]:
        sop_class, syntax = fuzzing.CONTEXTS[context_id]
        parts = fuzzing.plain_elements(
            sop_class, _FOUND_UID, 61, implicit=False, encapsulated=syntax == fuzzing.JPEG_2000
        )
        parts[place] = element or parts[place][:-12]
        return context_id, b"".join(parts)

    element = partial(fuzzing.element, implicit=False)
    delimiter = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return {
        "encapsulated pixel data that are cut off": changed(24, b"", 5),
        "a SOP Class UID that says it is a number": changed(2, element(0x00080016, b"US", fuzzing.even(fuzzing.MR))),
        "two SOP Instance UIDs": changed(9, element(0x00080018, b"UI", b"1.2.3.99")),
        "a second identity behind a stray delimiter": changed(23, delimiter + element(0x00080018, b"UI", b"1.2.3.99")),
        "a character set that is a tag": changed(0, element(0x00080005, b"AT", b"ISO_")),
        "a character set that is a sequence": changed(0, element(0x00080005, b"SQ", delimiter, length=0xFFFFFFFF)),
        "a character set with NUL inside": changed(0, element(0x00080005, b"CS", b"\0\0ISO_IR 192")),
    }


@dataclass
class Fuzz:
    """What is sent to one receiver, and what came of it."""

    port: int
    seed: int
    statuses: Counter[str] = field(default_factory=Counter)
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def fail(self, kind: str, number: int, what: str, sent: bytes) -> None:
        """One more failure, said so that it can be repeated."""
        self.failures.append(f"{what}\n    {kind}_case({self.seed}, {number}), sent {sent[:1500].hex()}")

    def data_sets(self, numbers: Iterable[int]) -> None:
        """C-STOREs that are in order but for their data sets: each is answered, and the association goes on."""
        wire = self._associated()
        window: list[tuple[int, DataSetCase]] = []
        for number in numbers:
            window.append((number, fuzzing.data_set_case(self.seed, number)))
            if len(window) == _WINDOW:
                wire = self._send_window(wire, window)
                window = []
        self._send_window(wire, window).close()

    def found_before(self) -> None:
        """What once got a Success that it should not have: refused."""
        wire = self._associated()
        for name, (context_id, data_set) in found_data_sets().items():
            wire.send(fuzzing.store_pdus(context_id, fuzzing.CONTEXTS[context_id][0], _FOUND_UID, 1, data_set))
            response = response_in(fragment_in(wire.read()[1])[0])
            assert response.status == 0xC000, f"{name}: answered 0x{response.status:04X}"
        wire.close()
        fixed, items = fuzzing.request_items()
        items[1] = fuzzing.sub_item(0x20, b"\1\0\0\0" + fuzzing.sub_item(0x30, fuzzing.MR))
        self._send_stream(StreamCase(fuzzing.pdu(fuzzing.ASSOCIATE_RQ, fixed + b"".join(items)), b"", b""))

    def _associated(self) -> Wire:
        wire = Wire(self.port)
        wire.send(fuzzing.request())
        assert wire.read()[0] == fuzzing.ASSOCIATE_AC
        return wire

    def _send_window(self, wire: Wire, window: list[tuple[int, DataSetCase]]) -> Wire:
        number, case = 0, None
        try:
            wire.send(
                b"".join(
                    fuzzing.store_pdus(case.context_id, case.sop_class, case.uid, number & 0xFFFF, case.data_set)
                    for number, case in window
                )
            )
            for number, case in window:
                kind, content = wire.read()
                assert kind == fuzzing.P_DATA, f"answered by PDU {kind}"
                command, is_last = fragment_in(content)
                assert is_last, f"answered in fragments: {content.hex()}"
                self._judge(number, case, response_in(command))
        except (OSError, AssertionError) as error:
            assert case is not None
            self.fail("data_set", number, f"{type(error).__name__}: {error}", case.data_set)
            wire.close()
            return self._associated()
        return wire

    def _judge(self, number: int, case: DataSetCase, response: Response) -> None:
        assert response.message_id == number & 0xFFFF, f"Message ID {response.message_id} is answered"
        self.statuses[f"0x{response.status:04X}"] += 1
        if response.status == 0:
            if identity(case.data_set, case.transfer_syntax) != (case.sop_class.decode(), case.uid.decode()):
                self.fail("data_set", number, "Success for a data set with another identity, or none", case.data_set)
            self.answers.append(Answer(case.uid.decode(), hashlib.sha256(case.data_set).hexdigest(), 0))
        elif case.is_in_order:
            self.fail("data_set", number, f"0x{response.status:04X} for a data set that is in order", case.data_set)
        elif response.status not in (0xA900, 0xC000):
            self.fail("data_set", number, f"0x{response.status:04X}", case.data_set)

    def streams(self, numbers: Iterable[int]) -> None:
        """Whole transport connections: each ends, and every answer on it is in order."""
        for number in numbers:
            case = fuzzing.stream_case(self.seed, number)
            try:
                self._send_stream(case)
            except (TimeoutError, AssertionError, struct.error) as error:
                self.fail("stream", number, f"{type(error).__name__}: {error}", case.sent)

    def _send_stream(self, case: StreamCase) -> None:
        with closing(Wire(self.port)) as wire:
            heard = []
            try:
                wire.send(case.sent)
                wire.end()
            except ConnectionError:
                pass  # it had enough before we had said everything
            try:
                while (answer := wire.read())[0]:
                    heard.append(answer)
            except ConnectionResetError:
                heard.append((0, b""))
        command = b""
        for kind, content in heard:
            assert kind in (0, 2, 3, 4, 6, 7), f"answered by PDU {kind}"
            if kind != fuzzing.P_DATA:
                self.statuses[f"PDU {kind}"] += 1
                continue
            piece, is_last = fragment_in(content)  # the request may have said that we take two bytes at a time
            command += piece
            if is_last:
                self._judge_stream(case, response_in(command))
                command = b""

    def _judge_stream(self, case: StreamCase, response: Response) -> None:
        self.statuses[f"0x{response.status:04X}"] += 1
        if (response.field, response.status) == (fuzzing.C_STORE_RQ | 0x8000, 0):
            assert response.uid == case.uid, "Success for another SOP Instance than that of the data set"
            self.answers.append(Answer(case.uid.decode(), hashlib.sha256(case.data_set).hexdigest(), 0))


@pytest.fixture
def fast_folder(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Path]:
    """A folder in memory if there is room: the disk's patience with many small files is not what is tried here."""
    memory = Path("/dev/shm")
    needed = int(pytestconfig.getoption("--fuzz", 100_000)) * _ROOM_BYTES_OF_A_CASE
    if not memory.is_dir() or shutil.disk_usage(memory).free < needed:
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory, prefix="athanor-fuzz-") as folder:
        yield Path(folder)


@pytest.mark.timeout(3600)
def test_no_mutated_pdu_or_data_set_breaks_the_receiver_or_gets_a_wrong_success(
    fast_folder: Path, count_fault: CountFault, tell: Tell, pytestconfig: pytest.Config
) -> None:
    seed, n = int(pytestconfig.getoption("--faults-seed", 1)), int(pytestconfig.getoption("--fuzz", 100_000))
    streams, data_sets = range(n // _OF_STREAMS), range(n - n // _OF_STREAMS)
    with LoneReceiver(fast_folder / "node") as receiver:
        fuzz = Fuzz(receiver.port, seed)
        fuzz.found_before()
        fuzz.streams(range(n, n + 50))  # what is made once is there before it is counted
        fuzz.data_sets(range(n, n + 50))
        before = receiver.counts()
        began = time.monotonic()
        with ThreadPoolExecutor(2) as together:
            for done in [together.submit(fuzz.data_sets, data_sets), together.submit(fuzz.streams, streams)]:
                done.result()
        took_s = time.monotonic() - began
        count_fault("fuzz case", n)
        answered = ", ".join(f"{times} x {what}" for what, times in fuzz.statuses.most_common())
        cost = f"{receiver.cpu_s():.0f} s of processor and at most {receiver.rss_mb:.0f} MB in the receiver"
        tell(f"fuzz: {n} cases in {took_s:.0f} s, {cost}, answers {answered}")
        assert receiver.main.is_running(), "the receiver ended"
        assert not fuzz.failures, f"{len(fuzz.failures)} failures\n" + "\n".join(fuzz.failures[:10])
        fds, threads = receiver.settled(before)
        assert (fds <= before[0], threads <= before[1]) == (True, True), f"{before} before, {fds, threads} after"
        assert receiver.rss_mb < _MOST_MB
        assert receiver.errors() == []
        assert receiver.stop() == 0
    report = checker.check(receiver.settings, fuzz.answers, {})
    # nothing but the receiver ran, so no series came to its end
    broken = [str(one) for one in report.violations if one.promise is not Promise.VISIBLE_END]
    assert broken == []
    assert report.acknowledged > n // 10
