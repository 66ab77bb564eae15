"""When each machine believed to hold a task, from the machines' own logs; and whom it contradicts.

A belief runs from the moment it was written down until the lease that it rests on ends by the
machine's own clock, or the machine gives it up, or its process is dead.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from agentcom.model.ids import Fence, Instant, TaskId


@dataclass(slots=True, kw_only=True)
class Belief:
    """One machine held one attempt, as it thought, from `start` to `end`."""

    machine: str
    pid: int
    task: TaskId
    fence: Fence
    start: Instant
    end: Instant

    def __str__(self) -> str:
        """Say it in a line."""
        fence = f"{self.fence.incarnation}.{self.fence.attempt}"
        return f"{self.machine} ({self.pid}) {fence} [{self.start}, {self.end}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A machine had a result of an attempt safe on its disk."""

    machine: str
    task: TaskId
    fence: Fence
    at: Instant


def read(
    machine: str, log: Path, died: Mapping[int, Instant]
) -> tuple[Sequence[Belief], Sequence[Finished]]:
    """Return what one machine wrote down, cut where its processes died."""
    lines = log.read_bytes().splitlines() if log.exists() else []
    return parse(machine, map(json.loads, lines), died)


def parse(
    machine: str, entries: Iterable[Mapping[str, Any]], died: Mapping[int, Instant]
) -> tuple[Sequence[Belief], Sequence[Finished]]:
    """Return beliefs and finished attempts from a log's entries, in order."""
    beliefs: list[Belief] = []
    finished: list[Finished] = []
    newest: dict[tuple[int, TaskId, Fence], Belief] = {}
    for entry in entries:
        pid, task, fence = entry["pid"], TaskId(entry["task"]), Fence(*entry["fence"])
        known = newest.get((pid, task, fence))
        if "finished" in entry:
            at = Instant(entry["finished"])
            finished.append(Finished(machine=machine, task=task, fence=fence, at=at))
        elif "end" in entry:
            if known is not None:
                known.end = min(known.end, Instant(entry["end"]))
        elif known is not None and entry["at"] <= known.end:
            known.end = Instant(entry["until"])
        else:
            start, end = Instant(entry["at"]), Instant(entry["until"])
            known = Belief(machine=machine, pid=pid, task=task, fence=fence, start=start, end=end)
            newest[pid, task, fence] = known
            beliefs.append(known)
    for belief in beliefs:
        belief.end = min(belief.end, died.get(belief.pid, belief.end))
    return beliefs, finished


def overlaps(beliefs: Iterable[Belief]) -> Sequence[str]:
    """Return every two machines that believed to hold one task at one moment."""
    by_task: defaultdict[TaskId, list[Belief]] = defaultdict(list)
    for belief in beliefs:
        if belief.end > belief.start:
            by_task[belief.task].append(belief)
    found = []
    for task, mine in by_task.items():
        mine.sort(key=lambda belief: belief.start)
        for one, next_one in pairwise(_hulls(mine)):
            if next_one.start < one.end:
                found.append(f"task {task} had two holders: {one} and {next_one}")
    return found


def _hulls(beliefs: Sequence[Belief]) -> Sequence[Belief]:
    """Join what one machine believed without anybody between."""
    joined: list[Belief] = []
    for belief in beliefs:
        if joined and joined[-1].machine == belief.machine:
            joined[-1].end = max(joined[-1].end, belief.end)
        else:
            joined.append(belief)
    return joined
