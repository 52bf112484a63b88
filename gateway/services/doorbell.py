"""The doorbell: the Celery application, and what is said through it.

A message carries the id of a row and nothing else. The database is the truth: a message that is lost, doubled or late
costs time, never correctness, and no result is kept by the broker.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from gateway.domain.rules import HIGHEST_PRIORITY
from gateway.errors import Unavailable
from gateway.flow import QUEUE_OF, TRANSFER_QUEUE
from gateway.services import redis_qos
from gateway.settings import Settings

# Redis calls the most urgent 0; each step is a list of its own
PRIORITY_STEPS = [0, 3, 6, 9]


def make_app(settings: Settings) -> Celery:
    """The Celery application of this node."""
    redis_qos.install()
    app = Celery("athanor", broker=settings.broker_url)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        # a task whose process was killed is not thrown back at once and for ever: the lease brings the job back
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=0.0,
        task_default_queue=TRANSFER_QUEUE,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        **(_rabbitmq() if _is_rabbitmq(settings.broker_url) else _redis(settings.broker_url)),
    )
    return app


def _is_rabbitmq(url: str) -> bool:
    return url.startswith("amqp")


def _rabbitmq() -> dict[str, Any]:
    """Quorum queues: on every node of a cluster, and synced before a publisher hears that they have a message."""
    exchange = Exchange("athanor", type="direct")  # type: ignore[no-untyped-call] # kombu publishes few types
    arguments = {"x-queue-type": "quorum"}
    return {
        "task_queues": [
            Queue(name, exchange, routing_key=name, queue_arguments=arguments)  # type: ignore[no-untyped-call]
            for name in sorted({*QUEUE_OF.values()})
        ],
        "broker_transport_options": {"confirm_publish": True},
        # a worker of one job at a time could not answer while it works; TCP notices a dead broker too
        "broker_heartbeat": 0,
    }


def _redis(url: str) -> dict[str, Any]:
    return {"task_queue_max_priority": 9, "broker_transport_options": _redis_transport(url)}


def _redis_transport(url: str) -> dict[str, Any]:
    return {
        # longer than any lease: the database takes a job back, the broker only repeats the message later
        "visibility_timeout": 300,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "health_check_interval": 10,
        "socket_timeout": 30,
        "socket_keepalive": not url.startswith("redis+socket"),
        "priority_steps": PRIORITY_STEPS,
        "queue_order_strategy": "priority",
    }


class Doorbell:
    """Publishes announcements and asks for the length of queues. Raises Unavailable when the broker does not answer."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._highest_first = _is_rabbitmq(app.conf.broker_url)  # there 9 is the most urgent, on Redis 0

    def publish(self, stage: str, subject: str, priority: int) -> None:
        """Announce `subject` to the workers of `stage`; priority 0 is the most urgent."""
        priority = HIGHEST_PRIORITY - priority if self._highest_first else priority
        try:
            self._app.send_task(
                f"athanor.{stage}", args=[subject], queue=QUEUE_OF[stage], priority=priority, retry=False
            )
        except (OperationalError, OSError) as error:
            raise Unavailable(f"broker: {error}; it is announced again later") from error

    def queue_length(self, stage: str) -> int:
        """Messages that wait in the queue of `stage`; 0 also for a queue that the broker has forgotten."""
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
                try:
                    return int(connection.default_channel.queue_declare(QUEUE_OF[stage], passive=True).message_count)
                except connection.channel_errors:
                    return 0
        except (OperationalError, OSError) as error:
            raise Unavailable(f"broker: {error}") from error
