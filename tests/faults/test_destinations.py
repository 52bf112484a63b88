"""Destinations with every fault there is, all at one gateway: each delivery comes to its state, with the reason.

One result goes to all of them at once, so whoever could delay another would delay those that are well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from checker import Arrived
from fault_pacs import ABORT, FaultPacs
from fault_stow import FaultStow, Reply, Request
from fork_server import ForkServer
from load import AnswerLog, Modality, SeriesMaker
from parts import Gateway
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless
from raw_peer import RawPeer, one_byte_a_second, rejecting, silent
from recording_pacs import RecordingPacs

from gateway.commands.sandbox import free_port
from gateway.store import reports
from gateway.store.database import Database

SLICES = 3


@dataclass(frozen=True, slots=True)
class Case:
    """A destination, how its first delivery has to stand in the end, and what has to be said of it.

    What is QUEUED is SENDING now and then, and says all the same why it has not ended.
    """

    state: str
    words: str = ""
    made: Callable[[Case, Peers], dict[str, Any]] = field(kw_only=True)
    tried: bool = False  # the words are those of an attempt that was followed by a better one

    def is_met_by(self, row: Mapping[str, Any]) -> bool:
        """Whether a delivery stands as it has to."""
        if self.state == "QUEUED":
            return row["state"] in {"QUEUED", "SENDING"} and bool(row["error"])
        return bool(row["state"] == self.state)


@dataclass
class Peers:
    """The peers of a test run, by the name of their destination."""

    folder: Path
    name: str = ""
    recording: RecordingPacs = field(init=False)
    pacs: dict[str, FaultPacs] = field(default_factory=dict)
    stow: dict[str, FaultStow] = field(default_factory=dict)
    raw: dict[str, RawPeer] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)


def dimse(port: int, **values: Any) -> dict[str, Any]:
    return {"ae_title": "PACS", "host": "127.0.0.1", "port": port, **values}


def scp(answer: Callable[[int], int] = lambda _: 0, up: bool = True, **options: Any) -> Any:
    """A storage SCP that answers the n-th instance with a status."""

    def make(_: Case, peers: Peers) -> dict[str, Any]:
        pacs = peers.pacs[peers.name] = FaultPacs(free_port(), answer=answer, **options)
        peers.stack.callback(pacs.stop)
        if up:
            pacs.start()
        return dimse(pacs.port)

    return make


def recording(_: Case, peers: Peers) -> dict[str, Any]:
    """The destination that is well."""
    peers.recording = peers.stack.enter_context(RecordingPacs(peers.folder))
    return dimse(peers.recording.port)


def raw(behave: Any, **values: Any) -> Any:
    """A peer that is no SCP."""

    def make(_: Case, peers: Peers) -> dict[str, Any]:
        peer = peers.raw[peers.name] = peers.stack.enter_context(RawPeer(behave))
        return dimse(peer.port, **values)

    return make


def stow(answer: Callable[[Request], Reply]) -> Any:
    """A STOW-RS server."""

    def make(_: Case, peers: Peers) -> dict[str, Any]:
        server = peers.stow[peers.name] = peers.stack.enter_context(FaultStow(answer))
        return {"stow_url": server.url}

    return make


def mistrusted(_: Case, peers: Peers) -> dict[str, Any]:
    """An SCP over TLS whose certificate is not signed by whom we trust."""
    for name in ("theirs", "trusted"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", peers.folder / f"{name}.key",
             "-out", peers.folder / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
    port = free_port()
    peer = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", peers.folder / "theirs.pem",
         "-key", peers.folder / "theirs.key", "-quiet"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    peers.stack.callback(peer.wait)
    peers.stack.callback(peer.kill)
    return dimse(port, tls={"ca": str(peers.folder / "trusted.pem")})


def hang(_: int) -> int:
    """A C-STORE that is not answered within our patience."""
    time.sleep(4.0)
    return 0x0000


def failing(code: int, status: int) -> Callable[[Request], Reply]:
    """A server that takes all but the first instance, or with 409 none."""
    return lambda request: Reply(code, failed=dict.fromkeys(request.uids[: 1 if code == 202 else None], status))


_REJECTIONS = {
    (1, 1, 1): "rejected permanently by its application: no reason given",
    (1, 1, 2): "rejected permanently by its application: application context name not supported",
    (1, 1, 3): "rejected permanently by its application: calling AE title not recognised",
    (1, 1, 7): "rejected permanently by its application: called AE title not recognised",
    (1, 2, 1): "rejected permanently by its association service: no reason given",
    (1, 2, 2): "rejected permanently by its association service: protocol version not supported",
    (2, 3, 1): "rejected for now by its presentation service: temporary congestion",
    (2, 3, 2): "rejected for now by its presentation service: local limit exceeded",
}

CASES: dict[str, Case] = {
    "pacs": Case("DELIVERED", made=recording),
    "refused": Case("QUEUED", "transport connection: 127.0.0.1 port", made=scp(up=False)),
    "hole": Case("QUEUED", "association: nothing more arrived in time", made=raw(silent)),
    "dribble": Case("QUEUED", "association: nothing more arrived in time", made=raw(one_byte_a_second)),
    **{
        f"reject{''.join(map(str, reason))}": Case("QUEUED", f"association: {words}", made=raw(rejecting(*reason)))
        for reason, words in _REJECTIONS.items()
    },
    "certificate": Case("QUEUED", "TLS handshake: the peer's certificate is not trusted", made=mistrusted),
    "aborts": Case(
        "DELIVERED", "2 of 3 instances not accepted: no answer, so whether it was stored is unknown",
        made=scp(lambda number: ABORT if number == 1 else 0), tried=True,
    ),
    "full": Case(
        "QUEUED", "3 of 3 instances not accepted: Refused: out of resources (0xA700)",
        made=scp(lambda _: 0xA700),
    ),
    "mismatch": Case(
        "FAILED", "1 of 3 instances not accepted: Failure: data set does not match the SOP Class (0xA900)",
        made=scp(lambda number: 0xA900 if number == 1 else 0),
    ),
    "puzzled": Case(
        "FAILED", "3 of 3 instances not accepted: Failure: cannot understand (0xC000)",
        made=scp(lambda _: 0xC000),
    ),
    "coerces": Case("DELIVERED", made=scp(lambda _: 0xB000)),
    "knows": Case("DELIVERED", made=scp(lambda _: 0x0111)),
    "hangs": Case(
        "QUEUED", "no answer, so whether it was stored is unknown: nothing more arrived in time",
        made=scp(hang),
    ),
    "syntax": Case(
        "FAILED", "presentation context: the peer accepts SOP Class",
        made=scp(transfer_syntaxes=(JPEG2000Lossless,)),
    ),
    "back": Case("QUEUED", "connection refused", made=scp(up=False)),
    "stow200": Case("DELIVERED", made=stow(lambda _: Reply())),
    "stow202": Case(
        "FAILED", "1 of 3 instances not accepted: Failure: cannot understand (0xC000)",
        made=stow(failing(202, 0xC000)),
    ),
    "stow409": Case(
        "FAILED", "3 of 3 instances not accepted: Failure: data set does not match",
        made=stow(failing(409, 0xA900)),
    ),
    "stow413": Case("DELIVERED", made=stow(lambda request: Reply(413 if len(request.uids) > 1 else 200))),
    "stow503": Case(
        "QUEUED", "HTTP 503 Service Unavailable, to be asked again in 1 s",
        made=stow(lambda _: Reply(503, headers={"Retry-After": "1"})),
    ),
    "stow307": Case(
        "QUEUED", "HTTP 307 Temporary Redirect to http://127.0.0.1:1/studies; redirects are not followed",
        made=stow(lambda _: Reply(307, headers={"Location": "http://127.0.0.1:1/studies"})),
    ),
    "stow401": Case("QUEUED", "HTTP 401 Unauthorized", made=stow(lambda _: Reply(401))),
    "stow200mute": Case("QUEUED", "HTTP 200 OK, and the answer does not name it", made=stow(lambda _: Reply(body=b""))),
}  # fmt: skip
DOWN = [name for name, case in CASES.items() if case.state == "QUEUED" and name != "back"]


@dataclass
class Node:
    """The gateway and everybody around it."""

    gateway: Gateway
    peers: Peers
    database: Database
    answers: AnswerLog
    make: SeriesMaker

    def send(self) -> str:
        """Receive a new series; its Series Instance UID."""
        every = self.make(SLICES)
        Modality(self.gateway.port, "SCANNER", self.answers).send(every)
        return every[0].series_instance_uid

    def deliveries(self, uid: str) -> dict[str, dict[str, Any]]:
        """The deliveries of the result of a series by destination, none before there is a result."""
        with self.database.read() as connection:
            series_id = reports.find_series(connection, uid)
            found = reports.series_detail(connection, series_id) if series_id else {"jobs": []}
        return {row["destination"]: row for job in found["jobs"] for row in job["deliveries"]}

    def wait_for(self, what: str, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Wait until `condition()` holds; fail with `what`."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
            time.sleep(0.2)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """An ``athanor`` command beside the gateway."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", "--settings", str(self.gateway.settings_file), *arguments],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def arrived(self) -> Mapping[str, list[Arrived]]:
        """What came to the destinations that took something, as the checker wants it."""
        found: dict[str, list[Arrived]] = {"pacs": list(self.peers.recording)}
        found |= {name: list(pacs.stored) for name, pacs in self.peers.pacs.items()}
        found |= {name: list(server.stored) for name, server in self.peers.stow.items()}
        # a duplicate is no acknowledgement for the checker, and what is aborted was not taken
        found.pop("knows")
        found["aborts"] = [one for one in found["aborts"] if one.status != ABORT]
        return found


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, forks: ForkServer, template: Dataset
) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("destinations")
    peers = Peers(folder)
    destinations = {}
    with peers.stack:
        for name, case in CASES.items():
            peers.name = name
            destinations[name] = {**case.made(case, peers), "label": False}
        rule = {
            "name": "stir", "pipeline": "t2-to-stir", "destinations": list(CASES),
            "when": {"attribute": "Modality", "equals": "MR"},
        }  # fmt: skip
        gateway = Gateway(
            folder / "gateway", tiny_weights, forks, peers.recording,
            overrides={"destinations": destinations, "deliver": {"longest_retry_s": 6.0}},
            rules=tomlkit.dumps({"rules": [rule]}),
        )  # fmt: skip
        with gateway:
            database = gateway.database()
            answers = AnswerLog(folder / "answers.jsonl")
            yield Node(gateway, peers, database, answers, SeriesMaker(template, "destinations"))
            answers.close()
            database.close()


@pytest.fixture(scope="module")
def first(node: Node) -> str:
    """A series whose result every destination was tried with once, at least."""
    uid = node.send()

    def settled() -> bool:
        rows = node.deliveries(uid)
        return len(rows) == len(CASES) and all(CASES[name].is_met_by(row) for name, row in rows.items())

    try:
        node.wait_for("each delivery in its state", settled)
    except AssertionError:
        rows = node.deliveries(uid)
        wrong = {name: (row["state"], row["error"]) for name, row in rows.items() if not CASES[name].is_met_by(row)}
        raise AssertionError(f"{len(rows)} deliveries, of which in another state than expected: {wrong}") from None
    return uid


@pytest.mark.parametrize("name", CASES)
def test_a_delivery_comes_to_its_state_with_the_reason(
    node: Node, first: str, name: str, count_fault: Callable[..., None]
) -> None:
    case = CASES[name]
    row = node.deliveries(first)[name]
    assert case.is_met_by(row)
    said = row["error"] or ""
    if case.tried:
        shown = json.loads(node.run("jobs", "show", first, "--json").stdout)
        said = " ".join(str(event.get("reason")) for event in shown["timeline"] if event.get("destination") == name)
    assert case.words in said
    if case.state == "DELIVERED":
        assert (row["accepted"], row["error"]) == (SLICES, None)
    count_fault("destination fault")


def test_what_was_taken_with_a_note_says_so(node: Node, first: str) -> None:
    rows = node.deliveries(first)
    assert rows["coerces"]["notes"] == ["Warning: stored, with coercion of data elements (0xB000)"]
    assert rows["knows"]["notes"] == ["Failure: duplicate SOP Instance (0x0111)"]
    assert rows["pacs"]["notes"] == []


def test_what_waits_says_for_what(node: Node, first: str) -> None:
    for name in DOWN:
        node.wait_for(
            f"{name} waits and says why",
            lambda name=name: "takes nothing since" in (node.deliveries(first)[name]["waits_for"] or ""),  # type: ignore[misc]
        )
    listed = {row["name"]: row for row in json.loads(node.run("destinations", "ls", "--json").stdout)}
    assert {name for name, row in listed.items() if row["state"] == "down"} == {*DOWN, "back"}
    assert all(listed[name]["error"] and listed[name]["failures"] >= 1 for name in DOWN)
    assert all(listed[name]["queued"] + listed[name]["sending"] == 1 for name in DOWN)
    assert listed["pacs"]["state"] == "open"


def test_a_backlog_behind_dead_destinations_delays_nobody_and_does_not_ask_one_by_one(node: Node, first: str) -> None:
    rejecting_peer, hole = node.peers.raw["reject117"], node.peers.raw["hole"]
    before, began = (rejecting_peer.connections, hole.connections), time.monotonic()
    backlog = [node.send() for _ in range(6)]
    for uid in backlog:
        for name in ("pacs", "stow200"):
            node.wait_for(
                f"{name} has it",
                lambda uid=uid, name=name: node.deliveries(uid).get(name, {}).get("state") == "DELIVERED",
            )  # type: ignore[misc]
    spent_s = time.monotonic() - began
    asked = (rejecting_peer.connections - before[0], hole.connections - before[1])
    # a destination that is down is asked once in half of longest_retry_s at most, however much waits for it
    assert max(asked) <= spent_s / 3.0 + 4, (asked, spent_s)
    assert all(node.deliveries(uid)["hole"]["state"] in {"QUEUED", "SENDING"} for uid in backlog)


def test_what_waited_for_a_destination_arrives_at_once_when_it_is_back(node: Node, first: str) -> None:
    backlog = [node.send() for _ in range(3)]
    for uid in backlog:
        node.wait_for("there is something to deliver", lambda uid=uid: "back" in node.deliveries(uid))  # type: ignore[misc]
    node.peers.pacs["back"].start()
    for uid in (first, *backlog):
        node.wait_for("it arrives", lambda uid=uid: node.deliveries(uid)["back"]["state"] == "DELIVERED")  # type: ignore[misc]


def test_a_held_destination_waits_until_it_is_released(node: Node, first: str) -> None:
    said = node.run("destinations", "hold", "pacs", "--reason", "upgrade of the PACS")
    assert (said.returncode, said.stdout) == (0, "pacs is held\n")
    uid = node.send()
    node.wait_for("another has it", lambda: node.deliveries(uid).get("stow200", {}).get("state") == "DELIVERED")
    row = node.deliveries(uid)["pacs"]
    assert row["state"] == "QUEUED"
    assert row["waits_for"].startswith("held by ")
    assert row["waits_for"].endswith(": upgrade of the PACS")
    said = node.run("destinations", "release", "pacs")
    assert (said.returncode, said.stdout) == (0, "pacs is released\n")
    node.wait_for("it has it", lambda: node.deliveries(uid)["pacs"]["state"] == "DELIVERED")


def test_what_failed_is_sent_again_to_a_destination_that_was_repaired(node: Node, first: str) -> None:
    pacs = node.peers.pacs["puzzled"]
    uids = [name for name in (first,) if node.deliveries(name)["puzzled"]["state"] == "FAILED"]
    assert uids
    pacs.clear()
    said = node.run("jobs", "resend", "--destination", "puzzled", "--failed")
    assert said.returncode == 0, said.stderr
    node.wait_for("it has all of it", lambda: node.deliveries(first)["puzzled"]["state"] == "DELIVERED")
    again = node.run("jobs", "cancel", first)
    assert again.returncode == 0, again.stderr
    rows = node.deliveries(first)
    assert {rows[name]["state"] for name in DOWN} == {"CANCELLED"}
    assert all(rows[name]["error"].startswith("cancelled by ") for name in DOWN)
    assert rows["pacs"]["state"] == "DELIVERED"


def test_after_all_of_it_every_promise_is_kept(node: Node, first: str) -> None:
    answers = list(node.answers)
    node.gateway.drain(answers, down=DOWN)
    report = node.gateway.check(answers, node.arrived(), down=DOWN)
    report.require_kept()
    assert report.delivered > 50
