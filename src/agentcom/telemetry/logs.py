"""Sets up the process's logs: one record per event, as JSON lines or for a person's eyes.

The event loop never waits for a log: records go through a bounded queue to a thread that redacts,
renders and writes them. When the reader is too slow records are dropped and counted. How much is
written can be changed while the process runs: `telemetry/levels.py`.
"""

import logging
import queue
import sys
import threading
from collections.abc import Collection, MutableMapping
from typing import Any, Final, TextIO

import structlog

from agentcom.telemetry import events
from agentcom.telemetry.redact import GONE, NEVER_SHOWN, cleaned, redact

QUEUE_MAX: Final = 10_000  # records: some seconds of a busy hub
CLOSE_S: Final = 2.0  # a stuck reader does not keep the process from ending
FIELD_CHARS_MAX: Final = 16_384  # of one field: a long trace is readable, a file is not for a log
_END: Final = None
_STAMP: Final = structlog.processors.TimeStamper(fmt="iso", utc=True)


class LogPipe(logging.Handler):
    """Carries records from the loggers to a stream; `close` writes what is left."""

    def __init__(
        self,
        stream: TextIO,
        formatter: logging.Formatter,
        *,
        secrets: Collection[str] = (),
        queue_max: int = QUEUE_MAX,
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.dropped = 0
        self._told = 0
        self._stream = stream
        self._secrets = secrets
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(queue_max)
        self._thread = threading.Thread(target=self._write_all, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is left, as far as the reader takes it, and let go of the loggers."""
        root = logging.getLogger()
        if self in root.handlers:
            root.removeHandler(self)
            structlog.reset_defaults()
        try:
            self._queue.put(_END, timeout=CLOSE_S)
        except queue.Full:
            self.dropped += 1
        self._thread.join(CLOSE_S)
        super().close()

    def _write_all(self) -> None:
        while (record := self._queue.get()) is not _END:
            self._write(record)
            if self._queue.empty() and self.dropped > self._told:
                self._write(self._loss())

    def _write(self, record: logging.LogRecord) -> None:
        try:
            line = redact(self.format(record), self._secrets)
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError, TypeError):  # the stream is gone, or a value has no text
            self.dropped += 1
            self._told = self.dropped

    def _loss(self) -> logging.LogRecord:
        lost, self._told = self.dropped - self._told, self.dropped
        level = logging.WARNING
        said = {"event": events.LOG_DROPPED, "level": "warning", "records": lost}
        fields = _STAMP(None, "warning", said)
        record = logging.LogRecord("agentcom", level, "", 0, fields, (), None)
        record.__dict__.update(_logger=None, _name="warning")  # as one of structlog's own
        return record


def configure(
    *,
    as_json: bool,
    stream: TextIO | None = None,
    level: int = logging.INFO,
    secrets: Collection[str] = (),
    queue_max: int = QUEUE_MAX,
) -> LogPipe:
    """Send every log of the process to `stream` (standard error); `close` what this returns.

    `secrets` are exact texts to keep out of the logs; the collection may grow later.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _STAMP,
        hide_private,
        structlog.processors.format_exc_info,  # here: the writing thread has no exception
    ]
    target = stream or sys.stderr
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _Cleaner(secrets),
            renderer,
        ],
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    pipe = LogPipe(target, formatter, secrets=secrets, queue_max=queue_max)
    root = logging.getLogger()
    root.addHandler(pipe)
    root.setLevel(level)
    return pipe


def dropped() -> int:
    """Return how many records of this process were dropped, since their reader was too slow."""
    return sum(one.dropped for one in logging.getLogger().handlers if isinstance(one, LogPipe))


def hide_private(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Blank out the values of fields that have no place in a log, whatever they hold."""
    for name in NEVER_SHOWN.intersection(event):
        event[name] = GONE
    return event


class _Cleaner:
    """Redacts and bounds every field, while a secret is still what it was: JSON would escape it."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = secrets

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for name, value in event.items():
            event[name] = cleaned(value, FIELD_CHARS_MAX, self._secrets)
        return event
