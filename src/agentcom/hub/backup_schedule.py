"""Copies by the clock: when one is due, a process makes it, and now and then tries it out.

The process is `agentcom backup now`, as a person would start it: the hub's own work does not wait.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog

from agentcom.core.alert_readings import Backups as How
from agentcom.hub.clock import Clock
from agentcom.hub.config import HubConfig
from agentcom.model.audit import Head, Verdict
from agentcom.model.backup import Backup
from agentcom.model.ids import Now, WallTime
from agentcom.telemetry import events
from agentcom.telemetry.redact import ending

FIRST_MS: Final = 600_000  # after a start: a hub that comes and goes makes no copies
FIRST_JOURNAL_MS: Final = (
    30_000  # a journal leads nowhere before there is a copy of its incarnation
)
LOOK_MS: Final = 3_600_000  # at most; the wall clock may be set
HOUR_MS: Final = 3_600_000
OUTPUT_CHARS: Final = 2_000

log = structlog.get_logger(__name__)


class Copies(Protocol):
    """Where copies are."""

    def listed(self) -> Sequence[Backup]:
        """Return all copies, the newest first."""
        ...

    def strange(self) -> Sequence[Path]:
        """Return what looks like a copy, and has no manifest that fits."""
        ...

    def find(self, name: str | None) -> Backup:
        """Return the copy of that name, or of a part of it; None: the newest."""
        ...

    def take(self, home: Path, clock: Callable[[], Now]) -> Backup:
        """Copy the data of the hub in `home`, which may run; blocks."""
        ...

    def check(self, backup: Backup) -> None:
        """Compare a copy with what its manifest says; blocks."""
        ...

    def prune(self, keep: int) -> Sequence[Backup]:
        """Delete the oldest copies beyond `keep`."""
        ...

    def verify_audit(self, path: Path, against: Head | None, key: bytes | None) -> Verdict:
        """Look at the audit log in a copy, or in the data of a hub; blocks."""
        ...

    def is_followed(self, backup: Backup) -> bool:
        """Return whether the newest journal goes on from a copy, without a gap."""
        ...


class Schedule:
    """Makes copies of one hub."""

    def __init__(
        self,
        config: HubConfig,
        clock: Clock,
        copies: Copies,
        *,
        count: Callable[[str], None] = lambda _result: None,
    ) -> None:
        """`count` is told of each run: `now`, `drill`, `now_failed` or `drill_failed`."""
        self._count = count
        self._config = config
        self._settings = config.backups
        self._clock = clock
        self._copies = copies
        self._changed = asyncio.Event()
        self._failed = 0
        self._reason = ""

    def adjust(self, config: HubConfig) -> None:
        """Go on with other times; what is due by them is made at once."""
        self._settings = config.backups
        self._changed.set()

    def how(self, began: WallTime) -> How:
        """Return how the copies are, for alerts; blocks. `began`: when this hub did."""
        newest = max((one.at for one in self._copies.listed()), default=began)
        return How(newest_at=newest, failed=self._failed, reason=self._reason)

    async def run(self) -> None:
        """Make copies until cancelled; a supervisor's child."""
        first_ms = FIRST_JOURNAL_MS if self._settings.journal else FIRST_MS
        await asyncio.sleep(first_ms / 1_000)
        if self._settings.journal and not await asyncio.to_thread(self._has_base):
            await self._do("now")
        while True:
            made = await asyncio.to_thread(self._copies.listed)
            for what in self.due(made):
                await self._do(what)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_MS / 1_000):
                    await self._changed.wait()

    def due(self, made: Sequence[Backup]) -> Sequence[str]:
        """Return what is to be done now, of `now` and `drill`."""
        if not self._settings.every_hours:
            return []
        now = self._clock.now().wall
        newest = max((one.at for one in made), default=0)
        drilled = max((one.drilled.at for one in made if one.drilled is not None), default=0)
        due = ["now"] if now - newest >= self._settings.every_hours * HOUR_MS else []
        every = self._settings.drill_every_hours
        return [*due, "drill"] if every and now - drilled >= every * HOUR_MS else due

    def _has_base(self) -> bool:
        """Return whether the newest copy is followed by the journal that is being written."""
        made = self._copies.listed()
        return bool(made) and self._copies.is_followed(made[0])

    async def _do(self, what: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "agentcom.cli.main", "backup", what),
            *("--hub-home", str(self._config.home)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        self._count(f"{what}_failed" if process.returncode else what)
        if process.returncode:
            reason = ending(said.decode("utf-8", "replace").strip(), OUTPUT_CHARS)
            log.warning(events.BACKUP_FAILED, what=what, reason=reason)
            self._failed, self._reason = self._failed + 1, reason
        else:
            self._failed = 0
            log.info(events.BACKUP_MADE if what == "now" else events.BACKUP_DRILLED)
