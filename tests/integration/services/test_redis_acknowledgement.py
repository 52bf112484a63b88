"""A broker that dies before it hears an acknowledgement must not cost the consumer its place."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Producer, Queue

from gateway.services import broker, redis_qos
from gateway.settings import Settings


class Broker:
    """An embedded broker of the test's own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(broker.command(self._settings))
        broker.wait_until_ready(self._settings, 30)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)


def test_a_consumer_of_one_message_at_a_time_takes_the_next_after_the_broker_died_during_the_first(
    tmp_path: Path,
) -> None:
    redis_qos.install()
    settings = Settings(node={"state_dir": tmp_path})
    server = Broker(settings)
    server.start()
    taken: list[Any] = []
    queue = Queue("doorbell")
    try:
        with Connection(settings.broker_url) as connection:
            channel = connection.channel()
            consumer = Consumer(channel, [queue], callbacks=[lambda _, message: taken.append(message)])
            consumer.qos(prefetch_count=1)
            consumer.consume()
            Producer(channel).publish({}, routing_key="doorbell")
            connection.drain_events(timeout=10)
            (first,) = taken
            server.kill()
            with pytest.raises(connection.connection_errors):
                first.ack()
            # without a place for it, the consumer would not ask for the next one, nor notice that nobody answers
            assert channel.qos.can_consume()
            server.start()
            with Connection(settings.broker_url) as other:
                Producer(other.channel()).publish({}, routing_key="doorbell")
            while len(taken) < 2:
                with contextlib.suppress(connection.connection_errors):  # what was asked before the broker died
                    connection.drain_events(timeout=10)
    finally:
        server.kill()
