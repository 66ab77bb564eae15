"""Traces of tasks to a collector: made when a task ends, sent beside the hub's work.

Only where an address is set; else nothing of this runs. The hub never waits for a collector: tasks
that ended wait in a bounded queue, and what does not fit, or is not taken in time, is counted.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import structlog

from agentcom import __version__
from agentcom.hub import otlp, spans
from agentcom.hub.config import ConfigInvalid
from agentcom.hub.switchboard import Publisher
from agentcom.model.batch import Append, Table
from agentcom.model.event import BESIDE, TaskEvent, task_log
from agentcom.model.ids import TaskId
from agentcom.model.usage import Usage
from agentcom.store.base import Query, Store
from agentcom.telemetry import events

QUEUE_MAX: Final = 2_000  # tasks: some seconds of a busy hub; each is an id here
BATCH_TASKS: Final = 32  # of one request: some 100 KB
EVENTS_MAX: Final = 2_000  # of one task: more is the feed of a loop, not a trace
TURNS_MAX: Final = 1_000
PAUSE_S: Final = 1.0  # between requests, so that many tasks share one
SEND_S: Final = 10.0
TRIES: Final = 4
BACKOFF_S: Final = 2.0  # doubles, with full jitter
_AGAIN: Final = frozenset({429, 502, 503, 504})
"""What the specification calls retryable."""

log = structlog.get_logger(__name__)


class Traces:
    """Takes note of tasks that end, and sends their traces."""

    def __init__(
        self,
        publisher: Publisher,
        store: Store,
        address: str,
        *,
        headers: Mapping[str, str],
        instance: str,
        count: Callable[[str, float], None],
    ) -> None:
        """`publisher` gets what is published; `count` is told `sent` and `dropped` traces."""
        self._publisher = publisher
        self._store = store
        self._address = address.rstrip("/") + otlp.PATH
        self._headers = {"Content-Type": otlp.MEDIA_TYPE, **headers}
        self._resource = {
            "service.name": "agentcom-hub",
            "service.version": __version__,
            "service.instance.id": instance,
        }
        self._count = count
        self._ended: deque[TaskId] = deque()
        self._wakes = asyncio.Event()
        self._told = False

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Pass records on; those that end a task put it into the queue."""
        for append in appends:
            event = append.record
            if event.state.terminal and event.kind not in BESIDE:
                self._note(event)
        self._publisher.publish(first, appends)

    async def run(self) -> None:
        """Send until cancelled; a supervisor's child."""
        async with httpx.AsyncClient(timeout=SEND_S, follow_redirects=False) as client:
            try:
                while True:
                    await self._wakes.wait()
                    await asyncio.sleep(PAUSE_S)
                    await self.flush(client)
            finally:
                self._count("dropped", len(self._ended))

    async def flush(self, client: httpx.AsyncClient) -> None:
        """Send what waits."""
        while self._ended:
            batch = [self._ended.popleft() for _ in range(min(BATCH_TASKS, len(self._ended)))]
            found = [await self._spans(task) for task in batch]
            made = [span for one in found for span in one]
            body = otlp.request(made, self._resource, version=__version__)
            sent = not made or await self._send(client, body)
            self._count("sent" if sent else "dropped", len(batch))
        self._wakes.clear()

    def _note(self, event: TaskEvent) -> None:
        if len(self._ended) >= QUEUE_MAX:
            self._count("dropped", 1)
            return
        self._ended.append(event.task)
        self._wakes.set()

    async def _spans(self, task: TaskId) -> list[spans.Span]:
        records = await self._store.read(task_log(task), 0, EVENTS_MAX)
        query = Query(table=Table.USAGE, prefix=f"{task}/", limit=TURNS_MAX)
        page = await self._store.query(query)
        turns = [row for row in reversed(page.rows) if isinstance(row, Usage)]
        return spans.of_task([record.record for record in records], turns)

    async def _send(self, client: httpx.AsyncClient, body: bytes) -> bool:
        reason = ""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(random.random() * BACKOFF_S * (1 << number))  # noqa: S311 - jitter
            try:
                answer = await client.post(self._address, content=body, headers=self._headers)
            except httpx.HTTPError as error:
                reason = type(error).__name__
                continue
            if answer.is_success:
                self._told = False
                return True
            reason = f"it answered {answer.status_code}"
            if answer.status_code not in _AGAIN:
                break
        if not self._told:  # once, until one is taken again
            self._told = True
            log.warning(events.TRACES_REFUSED, address=self._address, reason=reason)
        return False


def read_headers(path: Path | None) -> Mapping[str, str]:
    """Return the headers of a file with a line `Name: value` for each, such as a token.

    Raises:
        ConfigInvalid: it cannot be read, others may read it, or a line is none.
    """
    if path is None:
        return {}
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigInvalid(f"others may read {path}; run: chmod 600 {path}")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"setting otlp_headers: {path} cannot be read") from error
    headers: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        name, colon, value = line.partition(":")
        if not colon or not name.strip().isascii() or not value.strip().isprintable():
            raise ConfigInvalid(
                f"setting otlp_headers: {path} has a line that is not `Name: value`"
            )
        headers[name.strip()] = value.strip()
    return headers
