"""The traffic: modalities that send small CT and MR series with odd timing, and send again what was not acknowledged.

They speak DICOM with code of their own (PS3.8 9.3, PS3.7 9.3.1), so that no fault of ours can hide in both peers.
Content and timing come from a seed. What each C-STORE was answered is logged before the next is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np
import pydicom
from checker import Answer
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from small_series import write_small_series

_CONTEXTS = {1: MRImageStorage, 3: CTImageStorage}
_CONTEXT_OF = {str(uid): number for number, uid in _CONTEXTS.items()}
_PDU_BYTES = 16384
_PATIENCE_S = 20.0  # for one answer
_AGAIN_AFTER_S = 0.1


@dataclass(frozen=True, slots=True)
class Sent:
    """One instance of a series, encoded in Explicit VR Little Endian as C-STORE carries it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    data_set: bytes

    @property
    def sha256(self) -> str:
        """Of the data set."""
        return hashlib.sha256(self.data_set).hexdigest()


def read_template(folder: Path) -> Dataset:
    """An instance that the pipeline takes; `folder` is written to."""
    (path,) = write_small_series(folder, 1, 1)
    return pydicom.dcmread(path)


class SeriesMaker:
    """Makes series of instances of 32 x 32 pixels, each of a patient of its own, the same for the same seed."""

    def __init__(self, template: Dataset, seed: object) -> None:
        self._template = template
        self._random = random.Random(f"series {seed}")

    def __call__(self, slices: int = 4, modality: str = "MR", **attributes: object) -> list[Sent]:
        """A new series of `slices` instances, in the order of their positions."""
        number = self._random.getrandbits(60)
        row, column = np.mgrid[:32, :32] / 5.0
        body = 1500.0 * (1.0 + np.sin(row + number % 7) * np.cos(column))
        noise = np.random.default_rng(number)
        every = []
        for index in range(slices):
            ds = Dataset()
            ds.update(self._template)
            ds.PatientID = f"LOAD-{number}"
            ds.StudyInstanceUID = f"2.25.{number}1"
            ds.SeriesInstanceUID = f"2.25.{number}2"
            ds.FrameOfReferenceUID = f"2.25.{number}3"
            ds.SOPInstanceUID = f"2.25.{number}4{index + 1}"
            ds.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
            ds.Modality = modality
            ds.InstanceNumber = index + 1
            ds.Rows = ds.Columns = 32
            ds.ImagePositionPatient = [str(-10.0 + 4.4 * index), "-70", "80"]
            ds.SliceLocation = str(-10.0 + 4.4 * index)
            ds.PixelData = (body + noise.uniform(0.0, 300.0, body.shape)).astype("<u2").tobytes()
            for keyword, value in attributes.items():
                setattr(ds, keyword, value)
            every.append(Sent(str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), encode(ds)))
        return every


def encode(ds: Dataset) -> bytes:
    """The data set in Explicit VR Little Endian, without file meta information."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def changed(sent: Sent, **attributes: object) -> Sent:
    """The same SOP Instance UID with other bytes."""
    ds = pydicom.filereader.read_dataset(BytesIO(sent.data_set), is_implicit_VR=False, is_little_endian=True)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return Sent(sent.sop_class_uid, sent.sop_instance_uid, sent.series_instance_uid, encode(ds))


class AnswerLog:
    """What the senders heard, a line of JSON for each C-STORE, written before the next is sent."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, answer: Answer) -> None:
        """Write one answer."""
        os.write(self._descriptor, json.dumps(asdict(answer)).encode() + b"\n")

    def __iter__(self) -> Iterator[Answer]:
        """All answers so far."""
        return (Answer(**json.loads(line)) for line in self.file.read_text().splitlines())

    def close(self) -> None:
        """Write no more."""
        os.close(self._descriptor)


class Association:
    """An association as its requestor. Any failure of it is an OSError (ConnectionError, TimeoutError)."""

    def __init__(self, port: int, calling_ae_title: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message_id = 0
        contexts = b"".join(
            _item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + _uid(0x30, sop_class) + _uid(0x40, _SYNTAX))
            for number, sop_class in _CONTEXTS.items()
        )
        user = _item(0x51, struct.pack(">I", _PDU_BYTES)) + _uid(0x52, "2.25.98765432101234567890")
        request = struct.pack(">HH16s16s32x", 1, 0, b"ATHANOR".ljust(16), calling_ae_title.encode().ljust(16))
        self._send(_pdu(1, request + _uid(0x10, "1.2.840.10008.3.1.1.1") + contexts + _item(0x50, user)))
        kind, _ = self._receive()
        if kind != 2:
            self.close()
            raise ConnectionError(f"association not accepted: PDU {kind}")

    def store(self, sent: Sent, pause: Callable[[], None] = lambda: None) -> int:
        """C-STORE; the status answered. `pause` is called between the command and each half of a fragment."""
        self.send(sent, pause)
        return self._status()

    def send(self, sent: Sent, pause: Callable[[], None] = lambda: None) -> None:
        """C-STORE without waiting for the answer."""
        self._message_id += 1
        context = _CONTEXT_OF[sent.sop_class_uid]
        command = _command(sent, self._message_id)
        self._send(_pdu(4, _pdv(context, 3, command)))
        pause()
        step = _PDU_BYTES - 6
        for start in range(0, len(sent.data_set), step):
            last = start + step >= len(sent.data_set)
            pdu = _pdu(4, _pdv(context, 2 if last else 0, sent.data_set[start : start + step]))
            self._send(pdu[: len(pdu) // 2])
            pause()
            self._send(pdu[len(pdu) // 2 :])

    def _status(self) -> int:
        answer = b""
        while True:
            kind, content = self._receive()
            if kind != 4:
                self.close()
                raise ConnectionError(f"no answer but PDU {kind}")
            while content:
                (size,) = struct.unpack_from(">I", content)
                answer += content[6 : 4 + size]
                is_last = content[5] & 2
                content = content[4 + size :]
                if is_last:
                    return _status_of(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """End in order."""
        try:
            self._send(_pdu(5, bytes(4)))
            self._receive()
        finally:
            self.close()

    def abort(self) -> None:
        """A-ABORT."""
        try:
            self._send(_pdu(7, bytes(4)))
        finally:
            self.close()

    def close(self) -> None:
        """Be gone, without a word."""
        self._socket.close()

    def _send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def _receive(self) -> tuple[int, bytes]:
        kind, size = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(size - len(parts))
            if not part:
                self.close()
                raise ConnectionError("the peer closed")
            parts += part
        return bytes(parts)


_SYNTAX = str(ExplicitVRLittleEndian)


def _pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(content)) + content


def _pdv(context: int, flags: int, content: bytes) -> bytes:
    return struct.pack(">IBB", len(content) + 2, context, flags) + content


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _uid(kind: int, uid: str) -> bytes:
    return _item(kind, uid.encode())


def _command(sent: Sent, message_id: int) -> bytes:
    """C-STORE-RQ in Implicit VR Little Endian (PS3.7 9.3.1.1)."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0x0000, number, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    rest = (
        element(0x0002, uid(sent.sop_class_uid))
        + element(0x0100, struct.pack("<H", 0x0001))
        + element(0x0110, struct.pack("<H", message_id))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, uid(sent.sop_instance_uid))
    )
    return element(0x0000, struct.pack("<I", len(rest))) + rest


def _status_of(command: bytes) -> int:
    while command:
        _, number, size = struct.unpack_from("<HHI", command)
        if number == 0x0900:
            return int(struct.unpack_from("<H", command, 8)[0])
        command = command[8 + size :]
    raise ConnectionError("an answer without a status")


@dataclass
class Modality:
    """A sender with an AE title, which keeps at it until everything is acknowledged."""

    port: int
    ae_title: str
    log: AnswerLog
    seed: object = 0
    longest_pause_s: float = 0.0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.ae_title} {self.seed}")

    def send_once(self, every: Iterable[Sent]) -> set[str]:
        """Send over one association as far as it gets; the SOP Instance UIDs that were acknowledged."""
        done: set[str] = set()
        association = None
        try:
            association = Association(self.port, self.ae_title)
            for sent in every:
                if self.send_over(association, sent).is_acknowledged:
                    done.add(sent.sop_instance_uid)
            self._leave(association)
        except OSError:
            if association is not None:
                association.close()
        return done

    def send_over(self, association: Association, sent: Sent) -> Answer:
        """Send one instance; what it was answered is in the log. Raises OSError when it was not."""
        try:
            answer = Answer(sent.sop_instance_uid, sent.sha256, association.store(sent, self._pause))
        except OSError:
            self.log.add(Answer(sent.sop_instance_uid, sent.sha256, None))
            raise
        self.log.add(answer)
        return answer

    def _leave(self, association: Association) -> None:
        """Mostly in order; some modalities abort, and some just go."""
        chance = self._random.random() if self.longest_pause_s else 1.0
        if chance < 0.1:
            association.close()
        elif chance < 0.2:
            association.abort()
        else:
            association.release()

    def send(self, every: Sequence[Sent], timeout_s: float = 90.0) -> None:
        """Send until every instance is acknowledged: what was not goes again, and at times what was."""
        left = list(every)
        until = time.monotonic() + timeout_s
        while left:
            done = self.send_once(left)
            left = [sent for sent in left if sent.sop_instance_uid not in done]
            if left:
                assert time.monotonic() < until, f"{len(left)} instances not acknowledged within {timeout_s} s"
                time.sleep(_AGAIN_AFTER_S)  # as a modality waits before it tries again
                if self._random.random() < 0.3:
                    left = list(every)

    def _pause(self) -> None:
        if self.longest_pause_s and self._random.random() < 0.2:
            time.sleep(self._random.uniform(0.0, self.longest_pause_s))


class Load:
    """Several modalities that send one series after the other until the end of the block.

    `busy` says how many series are under way: while they are more than `at_most`, no new one begins.
    """

    def __init__(
        self, modalities: Sequence[Modality], template: Dataset, busy: Callable[[], int], at_most: int
    ) -> None:
        self._template = template
        self._busy = busy
        self._at_most = at_most
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(one,), name=one.ae_title) for one in modalities]
        self.failures: list[AssertionError] = []
        self.series = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures

    def _send(self, modality: Modality) -> None:
        choose = random.Random(f"load {modality.ae_title} {modality.seed}")
        make = SeriesMaker(self._template, f"{modality.ae_title} {modality.seed}")
        while not self._stopping.is_set():
            if self._busy() > self._at_most:
                self._stopping.wait(0.2)
                continue
            every = make(choose.randint(2, 5), "CT" if choose.random() < 0.2 else "MR")
            if choose.random() < 0.3:
                choose.shuffle(every)
            try:
                modality.send(every)
            except AssertionError as error:
                self.failures.append(error)
                return
            self.series += 1
            self._stopping.wait(choose.uniform(0.0, 0.3))
