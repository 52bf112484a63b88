"""Structured logs on standard error: one JSON object a line, or readable lines on a terminal.

Every line carries the name of its process and the ids bound with `bind` (association, series, job, delivery). Patient
attributes never: a key that names one is replaced before the line is written, the words of an exception that is not
ours are left out, for they may quote a value, and the libraries that dump data sets are silenced.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog

from gateway.errors import AthanorError

# the words by which a patient attribute could enter as a key
_PATIENT_KEYS = ("patient", "accession", "birth", "referring", "operator")
# debug output of these libraries holds whole data sets
_TALKATIVE = (
    "pynetdicom", "pydicom", "httpx", "httpcore", "kombu", "amqp", "celery.bootsteps", "celery.worker.strategy",
)  # fmt: skip


def _no_patient_attribute(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if any(word in key.lower() for word in _PATIENT_KEYS):
            event[key] = "<withheld>"
    return event


def _traceback(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """Where an exception comes from, what caused it first."""
    _, error, place = exc_info
    words = f": {error}" if isinstance(error, AthanorError) else ""
    own = f"{''.join(traceback.format_tb(place))}{type(error).__qualname__}{words}"
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{_traceback((type(before), before, before.__traceback__))}\n\nthen\n{own}" if before else own


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log where a warning comes from: its words may quote a value."""
    get("warnings").warning("warned", category=category.__name__, where=f"{filename}:{lineno}")


def set_up(log_format: str = "auto", *, process: str) -> None:
    """Send structlog and the standard library's logging to standard error, with `process` on each line."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())

    def name_process(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process  # not bound: a thread begins with an empty context
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        name_process,
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
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(_traceback),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pydicom\b.*")
    warnings.showwarning = _warned
    sys.excepthook = lambda *error: root.critical("uncaught", exc_info=error)
    threading.excepthook = lambda args: root.critical("uncaught", exc_info=args.exc_value)


def get(name: str) -> Any:
    """A logger; call it with an event word and key-value pairs."""
    return structlog.get_logger(name)


@contextmanager
def bind(**ids: object) -> Iterator[None]:
    """Put ids on every line that this thread writes inside the block."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


def words_of(error: Exception) -> str:
    """What may be kept and shown of an error: the message of one of ours, else what failed and where."""
    if isinstance(error, AthanorError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}: {error.filename}"  # our files are not named by patients
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"


def failure(error: Exception) -> dict[str, str]:
    """What failed and where, without the words of a foreign error: they may quote patient attributes."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return {"error": type(error).__name__, "where": f"{place.filename}:{place.lineno}"}
