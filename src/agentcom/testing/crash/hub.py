"""A real hub in a process whose disk can be told to kill it, or to fail, at one operation."""

import asyncio
import errno
import os
import signal
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

from agentcom import app
from agentcom.hub.config import HubConfig, LogLevel
from agentcom.model.ids import UserId
from agentcom.store.sqlite import SqliteOptions, SqliteStore
from agentcom.testing.crash.operations import DiskFault, Kind, Operation
from agentcom.testing.crash.vfs import watching

ADMIN: Final = UserId("crash")
OPTIONS: Final = SqliteOptions(wal_bytes=256 << 10, checkpoint_pages=40, ballast_bytes=1 << 20)
LOG: Final = "hub.log"
COUNTS: Final = "operations"
_DRAIN_MS: Final = 200


class How(StrEnum):
    """What happens at the operation."""

    KILL_BEFORE = "kill-before"
    KILL_AFTER = "kill-after"
    FAIL = "fail"


class Strike(NamedTuple):
    """The `at`th operation of one kind on files whose names end so, from 1 on."""

    kind: Kind
    ending: str
    at: int
    how: How

    def __str__(self) -> str:
        return f"{self.how}:{self.kind}:{self.ending}:{self.at}"


class Started(NamedTuple):
    """What a hub says when it is ready."""

    url: str
    token: str | None


def parse(text: str) -> Strike:
    """Return the strike that `str` wrote.

    Raises:
        ValueError: it is none.
    """
    how, kind, ending, at = text.split(":")
    return Strike(Kind(kind), ending, int(at), How(how))


class Striker:
    """A watcher that counts, and strikes once."""

    def __init__(self, strike: Strike | None) -> None:
        self.counts: Counter[tuple[Kind, str]] = Counter()
        self._strike = strike
        self._left = 0 if strike is None else strike.at

    def before(self, operation: Operation) -> None:
        """Count the operation, and strike if it is the one."""
        self.counts[operation.kind, operation.path] += 1
        if not self._hits(operation):
            return
        self._left -= 1
        if not self._left:
            self._do(How.KILL_BEFORE)
            if self._strike is not None and self._strike.how is How.FAIL:
                raise DiskFault(errno.EIO)

    def after(self, operation: Operation) -> None:
        """Strike, if the operation was the one."""
        if not self._left and self._hits(operation):
            self._do(How.KILL_AFTER)

    def room(self) -> int | None:
        """Return the true room."""
        return None

    def _hits(self, operation: Operation) -> bool:
        strike = self._strike
        if strike is None or operation.kind is not strike.kind:
            return False
        return operation.path.endswith(strike.ending)

    def _do(self, how: How) -> None:
        if self._strike is not None and self._strike.how is how:
            os.kill(os.getpid(), signal.SIGKILL)


def run(home: Path, strike: Strike | None, pipe: Connection) -> None:
    """Run a hub until a signal; tell `pipe` when it is ready, and count what the disk was asked."""
    log = os.open(home.with_name(LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    config = HubConfig(home=home, port=0, admin=ADMIN, drain_ms=_DRAIN_MS, log_level=LogLevel.ERROR)
    store = SqliteStore(home / app.STORE_FILE, options=OPTIONS)
    striker = Striker(strike)
    with watching(home, striker):
        asyncio.run(app.run_hub(config, ready=_teller(pipe), store=store))
    counts = "".join(f"{kind} {path} {count}\n" for (kind, path), count in striker.counts.items())
    home.with_name(COUNTS).write_text(counts)


def _teller(pipe: Connection) -> Callable[[app.HubInfo], None]:
    def tell(info: app.HubInfo) -> None:
        pipe.send(Started(info.url, info.admin_token))

    return tell
