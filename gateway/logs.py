"""Structured logs on standard error: one JSON object a line, or readable lines on a terminal.

Every line carries the ids bound with `bind` (association, series, job, delivery). Patient attributes never: a key
that names one is replaced before the line is written, and the libraries that dump data sets are silenced.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

# the words by which a patient attribute could enter as a key
_PATIENT_KEYS = ("patient", "accession", "birth", "referring", "operator")
# debug output of these libraries holds whole data sets
_TALKATIVE = ("pynetdicom", "pydicom", "kombu", "amqp", "celery.bootsteps", "celery.worker.strategy")


def _no_patient_attribute(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if any(word in key.lower() for word in _PATIENT_KEYS):
            event[key] = "<withheld>"
    return event


def set_up(log_format: str = "auto", *, process: str) -> None:
    """Send structlog and the standard library's logging to standard error, with `process` on each line."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _no_patient_attribute,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    # a warning of these quotes the value that it is about
    warnings.filterwarnings("ignore", module=r"pydicom\b.*")
    logging.captureWarnings(capture=True)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)


def get(name: str) -> Any:
    """A logger; call it with an event word and key-value pairs."""
    return structlog.get_logger(name)


@contextmanager
def bind(**ids: object) -> Iterator[None]:
    """Put ids on every line that this thread writes inside the block."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield
