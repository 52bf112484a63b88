"""The audit trail: messages by the schema of PS3.15 A.5.1, to a file and to real syslog servers, never in the way."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from gateway import audit, metrics
from gateway.audit import Node
from gateway.domain.refusal import Reason, Refusal
from gateway.settings import Settings
from gateway.settings.line import Node as NodeSettings
from gateway.settings.watch import Audit
from gateway.store.database import Database
from gateway.store.refusals import RefusalBook

MR = "1.2.840.10008.5.1.4.1.1.4"
SC = "1.2.840.10008.5.1.4.1.1.7"
SCANNER, PACS = Node("SCANNER", "10.1.2.3"), Node("PACS", "pacs.example.org")


def settings(**chosen: Any) -> Settings:
    return Settings(node=NodeSettings(ae_title="ATHANOR", institution_name="General Hospital"), audit=Audit(**chosen))


def everything() -> None:
    """One of each message."""
    arrivals = audit.Arrivals()
    for _ in range(3):
        arrivals.add("a", SCANNER, "1.2.3", MR, "PID-4711")
    arrivals.add("a", SCANNER, "1.2.4", SC, "PID-4712")
    arrivals.ended("a")
    arrivals.add("b", SCANNER, "1.2.5", MR, "PID-4713")
    arrivals.ended("b", "the association was aborted")
    sending = audit.Sending(PACS, "1.2.3", "PID-4711", {"1.2.3.1": SC, "1.2.3.2": SC})
    sending.ended(["1.2.3.1"])
    audit.refused("10.9.9.9", "STRANGER", Reason.ADDRESS.value)


def written(file: Path) -> list[Element]:
    return [ElementTree.fromstring(line) for line in file.read_text(encoding="utf-8").splitlines()]


def event_of(message: Element) -> str:
    return message.find("EventIdentification/EventID").get("csd-code")  # type: ignore[union-attr, return-value]


def only(messages: list[Element], event: str, number: int = 0) -> Element:
    return [message for message in messages if event_of(message) == event][number]


@pytest.fixture
def messages(tmp_path: Path) -> list[Element]:
    file = tmp_path / "audit" / "athanor.xml"
    with audit.set_up(settings(file=file), "scp-0"):
        everything()
    return written(file)


# attributes and children of each element: True when they must be there (the RELAX NG schema of PS3.15 A.5.1)
CODED = {"csd-code": True, "codeSystemName": True, "originalText": True, "displayName": False}
ATTRIBUTES: dict[str, dict[str, bool]] = {
    "AuditMessage": {},
    "EventIdentification": {"EventActionCode": False, "EventDateTime": True, "EventOutcomeIndicator": True},
    "EventID": CODED, "EventTypeCode": CODED, "RoleIDCode": CODED, "ParticipantObjectIDTypeCode": CODED,
    "EventOutcomeDescription": {}, "ParticipantObjectName": {}, "ParticipantObjectDescription": {},
    "ActiveParticipant": {
        "UserID": True, "AlternativeUserID": False, "UserName": False, "UserIsRequestor": True,
        "NetworkAccessPointID": False, "NetworkAccessPointTypeCode": False,
    },
    "AuditSourceIdentification": {"AuditEnterpriseSiteID": False, "AuditSourceID": True},
    "AuditSourceTypeCode": {"csd-code": True},
    "ParticipantObjectIdentification": {
        "ParticipantObjectID": True, "ParticipantObjectTypeCode": False, "ParticipantObjectTypeCodeRole": False,
    },
    "SOPClass": {"UID": False, "NumberOfInstances": True},
}  # fmt: skip
CHILDREN = {
    "AuditMessage": "(EventIdentification )(ActiveParticipant )+(AuditSourceIdentification )"
    "(ParticipantObjectIdentification )*",
    "EventIdentification": "(EventID )(EventTypeCode )*(EventOutcomeDescription )?",
    "ActiveParticipant": "(RoleIDCode )*",
    "AuditSourceIdentification": "(AuditSourceTypeCode )*",
    "ParticipantObjectIdentification": "(ParticipantObjectIDTypeCode )(ParticipantObjectName )"
    "(ParticipantObjectDescription )*",
    "ParticipantObjectDescription": "(SOPClass )*",
}
VALUES = {
    "EventActionCode": "[CRUDE]", "EventOutcomeIndicator": "0|4|8|12", "UserIsRequestor": "true|false",
    "NetworkAccessPointTypeCode": "[1-5]", "ParticipantObjectTypeCode": "[1-4]", "NumberOfInstances": r"\d+",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00",
}  # fmt: skip


def test_every_message_keeps_to_the_schema(messages: list[Element]) -> None:
    assert len(messages) == 8
    for message in messages:
        for element in message.iter():
            allowed = ATTRIBUTES[element.tag]
            assert set(element.attrib) <= set(allowed), element.tag
            assert {name for name, needed in allowed.items() if needed} <= set(element.attrib), element.tag
            children = "".join(f"{child.tag} " for child in element)
            assert re.fullmatch(CHILDREN.get(element.tag, ""), children), element.tag
            for name, value in element.attrib.items():
                assert re.fullmatch(VALUES.get(name, ".+"), value), f"{name}={value}"


def test_a_process_says_that_it_starts_and_stops(messages: list[Element]) -> None:
    first, last = messages[0], messages[-1]
    assert (event_of(first), event_of(last)) == ("110100", "110100")
    kinds = [message.find("EventIdentification/EventTypeCode") for message in (first, last)]
    assert [kind.attrib["csd-code"] for kind in kinds if kind is not None] == ["110120", "110121"]
    participant = first.find("ActiveParticipant")
    assert participant is not None
    assert (participant.get("UserID"), participant.get("UserName")) == ("ATHANOR", "scp-0")


def test_an_association_is_one_message_a_study(messages: list[Element]) -> None:
    received = [message for message in messages if event_of(message) == "110104"][:3]
    studies = {}
    for message in received:
        study, patient = message.findall("ParticipantObjectIdentification")
        content = {one.get("UID"): one.get("NumberOfInstances") for one in study.iter("SOPClass")}
        outcome = message.find("EventIdentification").get("EventOutcomeIndicator")  # type: ignore[union-attr]
        studies[study.get("ParticipantObjectID")] = (content, outcome)
        assert patient.get("ParticipantObjectID") == "withheld"
        source, destination = message.findall("ActiveParticipant")
        assert (source.get("UserID"), source.get("NetworkAccessPointID")) == ("SCANNER", "10.1.2.3")
        assert source.get("NetworkAccessPointTypeCode") == "2"
        assert source.get("UserIsRequestor") == "true"
        assert destination.get("UserID") == "ATHANOR"
    assert studies == {"1.2.3": ({MR: "3"}, "0"), "1.2.4": ({SC: "1"}, "0"), "1.2.5": ({MR: "1"}, "4")}


def test_a_transfer_is_told_at_its_begin_and_at_its_end(messages: list[Element]) -> None:
    begin, end = only(messages, "110102"), only(messages, "110104", 3)
    for message, number in ((begin, "2"), (end, "1")):
        source, destination = message.findall("ActiveParticipant")
        assert [one.attrib["UserID"] for one in (source, destination)] == ["ATHANOR", "PACS"]
        assert destination.get("NetworkAccessPointTypeCode") == "1"
        assert [one.get("NumberOfInstances") for one in message.iter("SOPClass")] == [number]
    assert end.findtext("EventIdentification/EventOutcomeDescription") == "1 of 2 instances were not accepted"


def test_a_refused_association_is_a_security_alert(messages: list[Element]) -> None:
    alert = only(messages, "110113")
    identification = alert.find("EventIdentification")
    assert identification is not None
    assert identification.get("EventOutcomeIndicator") == "8"
    assert identification.findtext("EventOutcomeDescription") == Reason.ADDRESS.value
    assert [one.get("UserID") for one in alert.findall("ActiveParticipant")] == ["ATHANOR", "STRANGER"]


def test_the_patient_is_named_only_when_the_settings_say_so(tmp_path: Path) -> None:
    for patient in (False, True):
        file = tmp_path / f"{patient}.xml"
        with audit.set_up(settings(file=file, patient=patient), "scp-0"):
            everything()
        assert ("PID-4711" in file.read_text()) is patient


def test_what_a_stranger_calls_itself_breaks_neither_the_line_nor_the_xml(tmp_path: Path) -> None:
    file = tmp_path / "audit.xml"
    with audit.set_up(settings(file=file), "scp-0"):
        audit.refused("10.9.9.9", 'A"<&>\n\x00\x1b[2J', "reason\n<x/>")
    (alert,) = [message for message in written(file) if event_of(message) == "110113"]
    assert alert.findall("ActiveParticipant")[1].get("UserID") == 'A"<&>???[2J'


def test_a_flood_of_refusals_is_a_bounded_number_of_alerts(tmp_path: Path, database: Database) -> None:
    file = tmp_path / "audit.xml"
    with audit.set_up(settings(file=file), "scp-0"), RefusalBook(database) as book:
        for number in range(3000):
            book.add(Refusal("10.9.9.9", f"GUESS{number % 50}", "ATHANOR", Reason.CALLING_AE_TITLE))
            book.add(Refusal("10.9.9.9", "", "", Reason.NO_ROOM))
    events = Counter(event_of(message) for message in written(file))
    assert 1 <= events["110113"] <= 20


def test_several_processes_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "audit.xml"
    program = (
        "from pathlib import Path; import sys\n"
        "from gateway.audit import AuditFile\n"
        "for n in range(200): AuditFile(Path(sys.argv[1])).take([sys.argv[2] * 3000, 'end'])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(file), letter]) for letter in "xy"]
    assert [one.wait(60) for one in running] == [0, 0]
    lines = Counter(file.read_text().splitlines())
    assert lines == {"x" * 3000: 200, "y" * 3000: 200, "end": 400}


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "audit.xml"
    with audit.set_up(settings(file=file), "scp-0"):
        eventually(lambda: file.exists() and len(written(file)) == 1)
        file.rename(tmp_path / "audit.xml.1")
        audit.refused("10.9.9.9", "STRANGER", "reason")
    assert [event_of(message) for message in written(file)] == ["110113", "110100"]


def test_without_audit_settings_nothing_is_written(tmp_path: Path) -> None:
    with audit.set_up(settings(), "scp-0"):
        everything()
        assert not audit.is_kept()
    assert list(tmp_path.iterdir()) == []


def dropped(sink: str) -> float:
    labels = {"sink": sink, "outcome": "dropped"}
    return metrics.registry.get_sample_value("athanor_audit_messages_total", labels) or 0.0


def test_a_file_that_cannot_be_written_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    before = dropped("file")
    with audit.set_up(settings(file=tmp_path / "in-the-way" / "audit.xml"), "scp-0"):
        began = time.monotonic()
        arrivals = audit.Arrivals()
        for number in range(audit.MOST_WAITING + 500):
            arrivals.add(str(number), SCANNER, "1.2.3", MR, "")
            arrivals.ended(str(number))
        assert time.monotonic() - began < 10
    assert dropped("file") - before >= audit.MOST_WAITING


def test_a_full_disk_leaves_no_half_message_and_is_made_up_for() -> None:
    with pytest.raises(OSError, match="space"):
        audit.AuditFile(Path("/dev/full")).take(["<AuditMessage/>"])


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


FRAME = re.compile(
    rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ athanor-scp-0 \d+ DICOM\+RFC3881 - "
    rb"\xef\xbb\xbf(<AuditMessage>.*)",
    re.DOTALL,
)


def content_of(frame: bytes) -> Element:
    found = FRAME.fullmatch(frame)
    assert found is not None, frame[:200]
    return ElementTree.fromstring(found[1])


def test_messages_go_out_as_datagrams() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        with audit.set_up(settings(syslog=f"udp://127.0.0.1:{server.getsockname()[1]}"), "scp-0"):
            everything()
        frames = [server.recv(65536) for _ in range(8)]
    assert [event_of(content_of(frame)) for frame in (frames[0], frames[-1])] == ["110100", "110100"]


class StreamServer:
    """A syslog server: reads octet-counted frames (RFC 5425 4.3) of one connection after the other."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._tls = tls
        self.port = self._listener.getsockname()[1]
        self.frames: list[bytes] = []
        self.connection: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
                self.connection = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
                self._read(self.connection.makefile("rb"))
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def _read(self, stream: Any) -> None:
        while True:
            length = b""
            while (octet := stream.read(1)) != b" ":
                if not octet:
                    return
                length += octet
            self.frames.append(stream.read(int(length)))

    def hang_up(self) -> None:
        """Close the connection, as a server that is started anew does, and wait until the other end can know."""
        assert self.connection is not None
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        time.sleep(0.1)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=audit", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "ca.pem", folder / "key.pem"


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_messages_go_out_as_a_stream_and_a_lost_connection_is_made_anew(scheme: str, tmp_path: Path) -> None:
    ca, key = certificate(tmp_path)
    context = None
    if scheme == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ca, key)
    server = StreamServer(context)
    with audit.set_up(settings(syslog=f"{scheme}://127.0.0.1:{server.port}", ca=ca), "scp-0"):
        eventually(lambda: len(server.frames) == 1)
        server.hang_up()
        everything()
        eventually(lambda: len(server.frames) == 7)
    eventually(lambda: len(server.frames) == 8)
    server.close()
    assert Counter(event_of(content_of(frame)) for frame in server.frames)["110104"] == 4


def test_a_server_that_is_away_gets_the_messages_when_it_is_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with audit.set_up(settings(syslog=f"tcp://127.0.0.1:{port}"), "scp-0"):
        everything()
        server = StreamServer(port=port)
        eventually(lambda: len(server.frames) == 7)
    server.close()


def test_a_server_with_another_certificate_is_told_nothing(tmp_path: Path) -> None:
    trusted, _ = certificate(tmp_path / "own")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path / "other"))
    server = StreamServer(context)
    before = dropped("syslog")
    with audit.set_up(settings(syslog=f"tls://127.0.0.1:{server.port}", ca=trusted), "scp-0"):
        everything()
    server.close()
    assert server.frames == []
    assert dropped("syslog") - before == 8
