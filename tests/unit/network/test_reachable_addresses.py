"""No connection goes to an address of the machine's own services, however it is written or named."""

from __future__ import annotations

import socket
import time

import pytest

from gateway.network.destination import DestinationAddress, Step, StepFailed
from gateway.network.reachable import Resolver, open_socket, pinned, places, refusal_of
from gateway.network.requestor import Place

NEVER = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1", "::a9fe:a9fe", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
    "240.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "::ffff:0.0.0.0", "no address",
]  # fmt: skip
AT_HOME = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
           "fd12::1", "fec0::1", "64:ff9b::a00:1"]  # fmt: skip
ANYWHERE = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


def answering(*addresses: str) -> Resolver:
    """A name service that always gives these addresses, and counts how often it was asked."""

    def resolve(host: str, port: int, deadline: float) -> list[Place]:
        asked.append(host)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(family, (address, port)) for family, address in zip(families, addresses, strict=True)]

    asked: list[str] = []
    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


@pytest.mark.parametrize("address", NEVER)
def test_never(address: str) -> None:
    assert refusal_of(address, allow_private=False)
    assert refusal_of(address, allow_private=True)


@pytest.mark.parametrize("address", AT_HOME)
def test_only_where_the_settings_allow_it(address: str) -> None:
    words = refusal_of(address, allow_private=False)
    assert words is not None
    assert "alerts.allow_private" in words
    assert refusal_of(address, allow_private=True) is None


@pytest.mark.parametrize("address", ANYWHERE)
def test_always(address: str) -> None:
    assert refusal_of(address, allow_private=False) is None


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "[::1]", "a\0b"])
def test_another_spelling_gains_nothing(host: str) -> None:
    with pytest.raises(StepFailed) as caught:
        places(host, 80, time.monotonic() + 5, allow_private=True)
    assert caught.value.step is Step.RESOLVE


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
def test_another_spelling_of_this_machine_is_this_machine(host: str) -> None:
    with pytest.raises(StepFailed, match="loopback or private"):
        places(host, 80, time.monotonic() + 5, allow_private=False)


def test_a_name_is_judged_by_its_addresses() -> None:
    both = answering("169.254.169.254", "8.8.8.8")
    assert places("mixed.example", 80, 0.0, allow_private=False, resolver=both) == [(socket.AF_INET, ("8.8.8.8", 80))]
    with pytest.raises(StepFailed, match=r"metadata\.example.*169\.254\.169\.254"):
        places("metadata.example", 80, 0.0, allow_private=True, resolver=answering("169.254.169.254", "fe80::1"))


def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    resolver = answering("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with open_socket(
            "rebinding.example", port, time.monotonic() + 5, allow_private=True, resolver=resolver
        ) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)
    assert resolver.asked == ["rebinding.example"]  # type: ignore[attr-defined]


def test_an_application_entity_is_pinned_and_keeps_its_name_in_the_certificate() -> None:
    there = DestinationAddress("PACS", "pacs.example", 104, "ATHANOR")
    found = pinned(there, 0.0, answering("10.1.2.3"))
    assert (found.host, found.tls_server_name) == ("10.1.2.3", "pacs.example")
    with pytest.raises(StepFailed):
        pinned(there, 0.0, answering("169.254.169.254"))
