"""Who is let in, who waits, and who is sent away."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gateway.domain.refusal import Reason
from gateway.errors import ConfigurationError
from gateway.network.guard import Admission, Guard


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
    assert [guard.arrive(caller) for caller in idle] == [None, None, idle[0], idle[1]]
    assert [caller.dismissed for caller in idle] == [True, True, False, False]
    assert not stranger.dismissed


def test_the_longest_waiting_of_all_makes_room_when_all_places_are_taken() -> None:
    guard = Guard(Admission(max_waiting=3))
    callers = [Caller(f"10.0.0.{n}") for n in range(5)]
    for caller in callers:
        guard.arrive(caller)
    assert [caller.dismissed for caller in callers] == [True, True, False, False, False]


def test_a_crowd_at_one_address_costs_nobody_else_his_turn() -> None:
    guard = Guard(Admission(max_waiting=4))
    peer = Caller("10.0.0.9")
    crowd = [Caller("10.0.0.1") for _ in range(3)]
    for caller in (peer, *crowd):
        guard.arrive(caller)
    assert guard.arrive(Caller("10.0.0.2")) is crowd[0]
    assert not peer.dismissed


def test_who_waits_takes_no_association_place() -> None:
    guard = Guard(Admission(max_associations=1))
    for n in range(30):
        guard.arrive(Caller(f"10.0.0.{n}"))
    peer = Caller("10.0.1.1")
    guard.arrive(peer)
    assert guard.associate(peer, "MR1")
    assert guard.counts == (30, 1)


def test_association_places_are_limited_in_all_per_address_and_per_peer_and_come_back() -> None:
    guard = Guard(Admission(max_associations=3, max_associations_per_address=2, max_associations_per_peer=2))
    first, second, third = (Caller("10.0.0.1") for _ in range(3))
    other, late = Caller("10.0.0.2"), Caller("10.0.0.3")
    assert [guard.associate(*call) for call in ((first, "A"), (second, "B"), (third, "C"))] == [True, True, False]
    assert guard.associate(other, "A")
    assert not guard.associate(late, "D"), "three in all"
    guard.leave(second)
    assert not guard.associate(third, "A"), "two of the same AE title"
    guard.leave(first)
    assert guard.associate(third, "A")
    guard.leave(third)
    guard.leave(third)
    assert guard.counts == (0, 1)


def test_everyone_who_waits_can_be_sent_away() -> None:
    guard = Guard(Admission())
    waiting, associated = Caller("10.0.0.1"), Caller("10.0.0.2")
    guard.arrive(waiting)
    guard.arrive(associated)
    guard.associate(associated, "MR1")
    guard.dismiss_waiting()
    assert (waiting.dismissed, associated.dismissed) == (True, False)
    assert guard.counts == (0, 1)


@pytest.mark.parametrize(
    ("allowed", "address", "known"),
    [
        (("*",), "203.0.113.5", True),
        (("*",), "2001:db8::1", True),
        ((), "203.0.113.5", False),
        (("192.0.2.0/24",), "192.0.2.77", True),
        (("192.0.2.0/24",), "192.0.3.77", False),
        (("192.0.2.7", "2001:db8::/32"), "2001:db8::1", True),
        (("fe80::/10",), "fe80::1%eth0", True),
    ],
)
def test_addresses_are_allowed_by_network(allowed: tuple[str, ...], address: str, known: bool) -> None:
    assert Admission(peers={"MR1": allowed}).knows_address(address) is known


def test_an_ae_title_may_call_from_its_own_addresses_and_those_of_everybody() -> None:
    admission = Admission(called_ae_title="ATHANOR", peers={"MR1": ("10.0.0.7",), "*": ("127.0.0.0/8",)})
    assert admission.objection("10.0.0.7", "MR1", "ATHANOR") is None
    assert admission.objection("127.0.0.1", "ANYONE", "ATHANOR") is None
    assert admission.objection("10.0.0.7", "MR1", "OTHER") is Reason.CALLED_AE_TITLE
    assert admission.objection("10.0.0.8", "MR1", "ATHANOR") is Reason.CALLING_AE_TITLE
    assert admission.objection("10.0.0.7", "CT1", "ATHANOR") is Reason.CALLING_AE_TITLE
    assert Admission().objection("10.0.0.7", "ANYONE", "ANYTHING") is None


def test_what_cannot_work_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="max_waiting is 0; at least 1"):
        Admission(max_waiting=0)
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.0/24"):
        Admission(peers={"MR1": ("not an address",)})
