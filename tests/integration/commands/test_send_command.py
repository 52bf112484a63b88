"""``athanor send`` and ``athanor echo`` with a real storage SCP, with none, and with one that refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from athanor_command import Athanor, athanor
from fault_pacs import FaultPacs
from small_series import instance_uids, write_small_series

from gateway.commands.sandbox import SmallPacs, free_port

MakeNode = Callable[..., Athanor]
SEND_KEYS = {"instances", "accepted", "seconds", "failure", "outcomes"}


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Three files in two folders, and a letter beside them."""
    files = write_small_series(tmp_path / "series" / "a", 1, 3)
    (tmp_path / "series" / "b").mkdir()
    files[2] = files[2].rename(tmp_path / "series" / "b" / files[2].name)
    (tmp_path / "series" / "letter.txt").write_text("Dear colleague")
    return files


def at(pacs: SmallPacs) -> dict[str, dict[str, object]]:
    return {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}}


def test_what_is_sent_arrives_and_what_is_not_dicom_is_named(
    node: MakeNode, pacs: SmallPacs, series: list[Path]
) -> None:
    ran = node(destinations=at(pacs))("send", series[0].parents[1], "--to", "pacs")
    assert ran.code == 0
    assert ran.out.startswith("✓ 3 of 3 instances accepted by PACS in ")
    assert ran.err == f"not DICOM, left out: {series[0].parents[1]}/letter.txt\n"
    assert sorted(path.stem for _, path in pacs.received) == sorted(instance_uids(series))


def test_an_application_entity_that_no_setting_names(pacs: SmallPacs, series: list[Path]) -> None:
    ran = athanor("send", series[0], "--to", f"127.0.0.1:{pacs.port}/PACS", "--calling", "BY-HAND", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert set(ran.json) == SEND_KEYS
    assert (ran.json["instances"], ran.json["accepted"], ran.json["failure"]) == (1, 1, None)
    assert ran.json["outcomes"] == [
        {"sop_instance_uid": instance_uids(series)[0], "status": 0, "explanation": "Success (0x0000)"}
    ]
    assert b"BY-HAND" in pacs.received[0][1].read_bytes()[:1000], "the SCP was told who calls"


def test_nobody_listens(node: MakeNode, series: list[Path]) -> None:
    port = free_port()
    ran = node()("send", series[0].parent, "--to", f"127.0.0.1:{port}/PACS")
    assert ran.code == 1
    assert ran.out.startswith("✗ 0 of 2 instances accepted by PACS in ")
    assert ran.err == f"not sent: transport connection: 127.0.0.1 port {port}: connection refused; " + (
        "nothing listens there\n"
    )


@pytest.fixture
def refusing() -> Iterator[FaultPacs]:
    """A storage SCP that is full after the first instance."""
    pacs = FaultPacs(free_port(), answer=lambda before: 0x0000 if before == 0 else 0xA700).start()
    yield pacs
    pacs.stop()


def test_each_refusal_is_told_once(refusing: FaultPacs, series: list[Path]) -> None:
    to = f"127.0.0.1:{refusing.port}/FAULT"
    ran = athanor("send", series[0].parents[1], "--to", to)
    assert ran.code == 1
    assert ran.out.startswith("✗ 1 of 3 instances accepted by FAULT in ")
    assert ran.err.count("Refused: out of resources (0xA700)") == 1
    refusing.stored.clear()
    assert [one["status"] for one in athanor("send", series[0].parents[1], "--to", to, "--json").json["outcomes"]] == [
        0x0000, 0xA700, 0xA700,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("to", "code", "words"),
    [
        ("archive", 3, "found no destination 'archive'; expected one of: pacs; or HOST:PORT/AE_TITLE"),
        ("host:port/PACS", 3, "found no destination 'host:port/PACS'"),
        ("127.0.0.1:104", 3, "HOST:PORT/AE_TITLE"),
        ("127.0.0.1:99999/PACS", 2, "port 99999; 1 to 65535 is expected"),
        ("127.0.0.1:104/", 2, "AE title ''; 1 to 16 ASCII characters are expected"),
        ("127.0.0.1:104/SEVENTEEN_LETTERS", 2, "AE title 'SEVENTEEN_LETTERS'"),
    ],
)
def test_a_destination_that_cannot_be(node: MakeNode, series: list[Path], to: str, code: int, words: str) -> None:
    for command in (("send", series[0], "--to", to), ("echo", to)):
        ran = node()(*command)
        assert (ran.code, ran.out) == (code, "")
        assert words in ran.err
        assert "Traceback" not in ran.err


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague")
    ran = athanor("send", tmp_path)
    assert (ran.code, ran.out) == (3, "")
    assert "found no DICOM file" in ran.err


def test_echo_of_a_destination_by_name(node: MakeNode, pacs: SmallPacs) -> None:
    command = node(destinations=at(pacs))
    ran = command("echo", "pacs")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"✓ PACS at 127.0.0.1:{pacs.port}: answered: Success\n")
    ran = command("echo", "pacs", "--json")
    assert set(ran.json) == {"answered", "explanation", "milliseconds"}
    assert ran.json["answered"] is True
    assert set(ran.json["milliseconds"]) == {
        "name resolution", "transport connection", "association", "request", "release"
    }  # fmt: skip


def test_echo_says_which_step_failed(node: MakeNode) -> None:
    ran = node()("echo")
    assert ran.code == 1
    assert ran.out.startswith("✗ ATHANOR at 127.0.0.1:")
    assert "transport connection: 127.0.0.1 port" in ran.out
    assert node()("echo", "pacs", "--json").json["answered"] is False


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1"])
def test_without_a_destination_this_gateway_is_meant(node: MakeNode, tmp_path: Path, address: str) -> None:
    from gateway.network.scp import ScpConfig, StorageScp

    scp = StorageScp(ScpConfig(ae_title="ATHANOR", address=address, port=0), SmallPacs(tmp_path / "own"))
    scp.start()
    try:
        ran = node(listener={"address": address, "port": scp.port})("echo")
    finally:
        scp.stop(1.0)
    assert ran.code == 0, ran.out
