"""How a process says that it is ready, and what it does when nobody listens."""

from __future__ import annotations

import pytest

from gateway.services.notify import ReadyChannel, notify


@pytest.mark.timeout(20)
def test_a_service_goes_on_when_whoever_started_it_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with ReadyChannel() as channel:
        monkeypatch.setenv("NOTIFY_SOCKET", channel.address)
        for _ in range(1000):  # far more than the queue of a socket holds (unix(7), max_dgram_qlen)
            notify("WATCHDOG=1")
        assert channel.hear(1.0) == "WATCHDOG=1"
