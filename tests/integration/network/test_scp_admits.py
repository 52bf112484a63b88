"""An SCP that listens is told who may call from now on."""

from __future__ import annotations

import threading

from network_peers import Listen, Recorder, Stored, sample

from gateway.network.receiver import StoreAnswer
from gateway.network.scu import DestinationAddress, OutgoingInstance, echo, send


def test_who_may_call_changes_while_it_listens(listen: Listen, recorder: Recorder) -> None:
    scp = listen(peers={"MR1": ("127.0.0.1",)})
    mr1, ct1 = (DestinationAddress("ATHANOR", "127.0.0.1", scp.port, title) for title in ("MR1", "CT1"))
    assert echo(mr1).is_answered
    assert "calling AE title not recognised" in echo(ct1).explanation
    scp.admit({"CT1": ("127.0.0.1",)})
    assert echo(ct1).is_answered
    assert not echo(mr1).is_answered
    scp.admit({})
    assert not echo(ct1).is_answered


def test_an_open_association_goes_on_when_its_peer_may_call_no_more(listen: Listen, recorder: Recorder) -> None:
    scp = listen(peers={"MR1": ("127.0.0.1",)})
    storing, go_on = threading.Event(), threading.Event()

    def hold(_: Stored) -> StoreAnswer:
        storing.set()
        go_on.wait(10)
        return StoreAnswer(0)

    recorder.answer = hold
    address = DestinationAddress("ATHANOR", "127.0.0.1", scp.port, "MR1")
    reports = []
    instance = OutgoingInstance.read(sample("CT_small.dcm"))
    sending = threading.Thread(target=lambda: reports.append(send(address, [instance], lambda *_: None)))
    sending.start()
    assert storing.wait(10)
    scp.admit({"CT1": ("127.0.0.1",)})
    go_on.set()
    sending.join(20)
    assert reports[0].is_delivered
    assert not echo(address).is_answered
