"""Figures over time for alerts: a few samples are kept, so that nothing has to be counted again."""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from agentcom.core.alert_readings import GROWTH_MS, WINDOW_MS, Backups, Figures
from agentcom.core.view import PoolView
from agentcom.hub.activities import Activities
from agentcom.hub.clock import StepWatch
from agentcom.model.ids import Instant, MachineId, Now, TaskId, WallTime
from agentcom.model.task import TaskState
from agentcom.protocol.frames import Activity
from agentcom.telemetry import events

BACKUPS_MS: Final = 60_000
"""A folder of copies is looked at this often: it may be on a slow disk."""

ReadBackups = Callable[[], Backups]
ReadDisk = Callable[[], Awaitable[tuple[int | None, int | None]]]

log = structlog.get_logger(__name__)


class _Sample(NamedTuple):
    at: Instant
    depth: int
    completed: int
    failed: int
    sessions: Mapping[MachineId, int]


class _Quiet(NamedTuple):
    """The newest that an attempt told, and since when it is that."""

    attempt: int
    activity: Activity | None
    since: WallTime


class Sampler:
    """Takes a sample at each look, and says what has changed since the beginning of a window."""

    def __init__(
        self,
        view: Callable[[], PoolView],
        activities: Activities,
        *,
        ended: Callable[[], Mapping[str, int]],
        backlog: Callable[[], int],
        home: Path,
        now: Now,
    ) -> None:
        self._view = view
        self._activities = activities
        self._ended = ended
        self._backlog = backlog
        self._began = now
        self._samples: deque[_Sample] = deque()
        self._quiet: dict[TaskId, _Quiet] = {}
        self._watch = StepWatch(now)
        self._steps: deque[tuple[Instant, int]] = deque()
        self._backups: Backups | None = None
        self._backups_at = Instant(-BACKUPS_MS)
        self.read_backups: ReadBackups | None = None
        self.read_disk: ReadDisk = partial(asyncio.to_thread, _disk, home)
        """Reads, in a thread, how the copies are; None: none are made by the clock."""

    @property
    def view(self) -> PoolView:
        """The live rows."""
        return self._view()

    def uptime_ms(self, now: Now) -> int:
        """Return since when samples are taken."""
        return now.instant - self._began.instant

    async def figures(self, now: Now, late_ms: int) -> Figures:
        """Take a sample, and return the figures of this look."""
        await self._look_at_backups(now)
        view, sample = self._view(), self._sample(now)
        first = self._samples[0] if self._samples else sample
        self._samples.append(sample)
        while self._samples[0].at < now.instant - WINDOW_MS:
            first = self._samples.popleft()
        older = [one for one in self._samples if one.at <= now.instant - GROWTH_MS]
        size, free = await self.read_disk()
        return Figures(
            depth_before=older[-1].depth if older else None,
            completed=sample.completed - first.completed,
            failed=sample.failed - first.failed,
            window_full=self.uptime_ms(now) >= WINDOW_MS,
            quiet_since=self._quiet_attempts(view, now),
            sessions_before=first.sessions,
            disk_free=free,
            disk_size=size,
            backups=self._backups,
            step_ms=self._step(now),
            late_ms=late_ms,
            backlog=self._backlog(),
        )

    def _sample(self, now: Now) -> _Sample:
        view, ended = self._view(), self._ended()
        sessions = {machine.id: machine.session for machine in view.machines.values()}
        completed, failed = ended[TaskState.COMPLETED], ended[TaskState.FAILED]
        return _Sample(now.instant, view.depth(), completed, failed, sessions)

    def _quiet_attempts(self, view: PoolView, now: Now) -> Mapping[TaskId, WallTime]:
        """Return since when each attempt under way has told nothing new."""
        found: dict[TaskId, _Quiet] = {}
        for tasks in view.held_by.values():
            for task_id in tasks:
                activity, attempt = self._activities.get(task_id), view.tasks[task_id].attempt
                known = self._quiet.get(task_id)
                if known is None or known.attempt != attempt or known.activity is not activity:
                    known = _Quiet(attempt, activity, now.wall)
                found[task_id] = known
        self._quiet = found
        return {task: known.since for task, known in found.items()}

    def _step(self, now: Now) -> int:
        """Return the largest step of the wall clock within the window; 0 if there was none."""
        step_ms = self._watch.step_ms(now)
        if step_ms:
            self._steps.append((now.instant, step_ms))
        while self._steps and self._steps[0][0] < now.instant - WINDOW_MS:
            self._steps.popleft()
        return max((step for _, step in self._steps), key=abs, default=0)

    async def _look_at_backups(self, now: Now) -> None:
        if self.read_backups is None or now.instant - self._backups_at < BACKUPS_MS:
            return
        self._backups_at = now.instant
        try:
            self._backups = await asyncio.to_thread(self.read_backups)
        except OSError as error:
            log.warning(events.ALERT_BACKUPS_UNREAD, reason=error.strerror)


def _disk(home: Path) -> tuple[int | None, int | None]:
    """Return size and free bytes of the disk that has a folder; None if it cannot be asked."""
    try:
        found = os.statvfs(home)
    except OSError:
        return None, None
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
