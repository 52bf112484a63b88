"""What a consumer on Redis or Valkey does when the broker dies before it hears an acknowledgement: go on.

kombu counts a message as being worked on until the broker has heard that it is done. When that cannot be said, the
message is counted for ever: a worker of one job at a time then waits for a place that never becomes free, asks the
broker for nothing, and so never notices that it has to connect again. Here the message is forgotten whatever the broker
heard; the next question to the broker fails, and the worker connects again. The message may come twice: a doorbell.
"""

from __future__ import annotations

from kombu.transport import redis, virtual


class ForgettingQoS(redis.QoS):
    """Forgets a message that was acknowledged, also when that raises."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; raises what the connection raises."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call] # kombu publishes no types
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


def install() -> None:
    """Let every channel of this process to Redis or Valkey work so."""
    redis.Channel.QoS = ForgettingQoS
