"""Who is let in, who waits, and who is sent away."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gateway.errors import ConfigurationError
from gateway.network.guard import Admission, Guard
from gateway.network.statuses import (
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
)


@dataclass(eq=False)
class Caller:
    """A visitor that remembers being sent away."""

    address: str
    dismissed: bool = field(default=False, init=False)

    def dismiss(self) -> None:
        self.dismissed = True


def test_the_longest_waiting_neighbour_makes_room() -> None:
    guard = Guard(Admission(max_waiting_per_address=2))
    stranger = Caller("10.0.0.9")
    guard.arrive(stranger)
    idle = [Caller("10.0.0.1") for _ in range(4)]
    for caller in idle:
        guard.arrive(caller)
    assert [caller.dismissed for caller in idle] == [True, True, False, False]
    assert not stranger.dismissed


def test_the_longest_waiting_of_all_makes_room_when_all_places_are_taken() -> None:
    guard = Guard(Admission(max_waiting=3))
    callers = [Caller(f"10.0.0.{n}") for n in range(5)]
    for caller in callers:
        guard.arrive(caller)
    assert [caller.dismissed for caller in callers] == [True, True, False, False, False]


def test_who_waits_takes_no_association_place() -> None:
    guard = Guard(Admission(max_associations=1))
    for n in range(30):
        guard.arrive(Caller(f"10.0.0.{n}"))
    peer = Caller("10.0.1.1")
    guard.arrive(peer)
    assert guard.associate(peer) is None
    assert guard.counts == (30, 1)


def test_association_places_are_limited_in_all_and_per_address_and_come_back() -> None:
    guard = Guard(Admission(max_associations=3, max_associations_per_address=2))
    first, second, third = (Caller("10.0.0.1") for _ in range(3))
    other, late = Caller("10.0.0.2"), Caller("10.0.0.3")
    assert [guard.associate(caller) for caller in (first, second, third)] == [None, None, LOCAL_LIMIT_EXCEEDED]
    assert guard.associate(other) is None
    assert guard.associate(late) == LOCAL_LIMIT_EXCEEDED
    guard.leave(first)
    assert guard.associate(third) is None
    guard.leave(third)
    guard.leave(third)
    assert guard.counts == (0, 2)


def test_everyone_who_waits_can_be_sent_away() -> None:
    guard = Guard(Admission())
    waiting, associated = Caller("10.0.0.1"), Caller("10.0.0.2")
    guard.arrive(waiting)
    guard.arrive(associated)
    guard.associate(associated)
    guard.dismiss_waiting()
    assert (waiting.dismissed, associated.dismissed) == (True, False)
    assert guard.counts == (0, 1)


@pytest.mark.parametrize(
    ("allowed", "address", "known"),
    [
        ((), "203.0.113.5", True),
        (("192.0.2.0/24",), "192.0.2.77", True),
        (("192.0.2.0/24",), "192.0.3.77", False),
        (("192.0.2.7", "2001:db8::/32"), "2001:db8::1", True),
        (("fe80::/10",), "fe80::1%eth0", True),
    ],
)
def test_addresses_are_allowed_by_network(allowed: tuple[str, ...], address: str, known: bool) -> None:
    assert Admission(addresses=allowed).knows_address(address) is known


def test_ae_titles_are_checked_called_first() -> None:
    admission = Admission(called_ae_title="ATHANOR", calling_ae_titles=frozenset({"SCANNER"}))
    assert admission.check_titles("SCANNER", "ATHANOR") is None
    assert admission.check_titles("SCANNER", "OTHER") == CALLED_AE_TITLE_NOT_RECOGNISED
    assert admission.check_titles("STRANGER", "ATHANOR") == CALLING_AE_TITLE_NOT_RECOGNISED
    assert Admission().check_titles("ANYONE", "ANYTHING") is None


def test_what_cannot_work_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="max_waiting is 0; at least 1"):
        Admission(max_waiting=0)
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.0/24"):
        Admission(addresses=("not an address",))
