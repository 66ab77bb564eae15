"""What one attempt may use, and who sees to it.

A control group (version 2) of the attempt's own holds it where this process may make one: it
kills as one, and bounds memory, processes and time of the processors if those controllers are
delegated. What it does not bound is watched: now and then the tree is looked at, rarely while it is
far from its bounds. Standard library only, since the supervisor imports it.
"""

import contextlib
import os
import resource
import select
import time
from collections.abc import Callable
from typing import Final, Protocol

from agentcom.sidecar import processes

MEMORY: Final = "memory"
PROCESSES: Final = "processes"

GROUP_PREFIX: Final = "agentcom-"
SIDECAR_GROUP: Final = "sidecar"
"""A sidecar that is in a group of this name was given the one above it (`DelegateSubgroup=`)."""

_GROWTH_BYTES_S: Final = 1 << 30
"""So fast memory is taken at most in practice; the next look is before the bound can be reached."""
_PAUSE_S_MIN: Final = 0.05
_PAUSE_S_MAX: Final = 5.0
_PAUSE_S_COUNTED: Final = 1.0
"""Processes multiply faster than memory is filled."""
_SHARE: Final = 100
"""Looking takes at most this part of one processor, however many processes there are."""
_DATA_FACTOR: Final = 2
"""One process alone gets no more than this many times the bound, whatever it takes at once."""
_OOM_SCORE: Final = b"500"
"""If the computer itself runs out of memory, the kernel takes agents before hub and sidecar."""
_PERIOD_US: Final = 100_000
_CONTROLLERS: Final = (b"+memory", b"+pids", b"+cpu")
_GONE_MS_MAX: Final = 2_000
_NAME_CHARS: Final = 160


class Bounds(Protocol):
    """What is allowed; 0 is no bound."""

    @property
    def attempt(self) -> str: ...
    @property
    def memory_bytes_max(self) -> int: ...
    @property
    def cpus(self) -> int: ...
    @property
    def processes_max(self) -> int: ...
    @property
    def file_bytes_max(self) -> int: ...


class Guard:
    """Holds one tree of processes to its bounds."""

    def __init__(self, bounds: Bounds, *, parent: Callable[[], str | None] | None = None) -> None:
        """Make the group; `parent` names the folder to make it in (default: the delegated one)."""
        self._bounds = bounds
        self.group = _make_group(bounds, (parent or delegated)())
        self.said = ""
        """What was used when a bound was reached."""
        self._held = hold(self.group, bounds) if self.group else frozenset()
        self._due = 0.0

    def enter(self) -> None:
        """Put this process, which is about to become the agent, under the bounds."""
        if self.group:
            _write(f"{self.group}/cgroup.procs", b"0")
        _write("/proc/self/oom_score_adj", _OOM_SCORE)
        bounds = self._bounds
        if bounds.file_bytes_max:
            _lower(resource.RLIMIT_FSIZE, bounds.file_bytes_max)
        if bounds.memory_bytes_max and "memory" not in self._held:
            _lower(resource.RLIMIT_DATA, bounds.memory_bytes_max * _DATA_FACTOR)
        if bounds.cpus and "cpu" not in self._held and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, _some_processors(bounds.cpus))

    def pause_s(self) -> float | None:
        """Return when to look again, in seconds from now; None: never."""
        return max(0.0, self._due - time.monotonic()) if self._watched() else None

    def look(self) -> str | None:
        """Return which bound is passed, if it is time to look and one is."""
        began = time.monotonic()
        if began < self._due or not self._watched():
            return None
        found, pause_s = self._looked()
        now = time.monotonic()
        self._due = now + max(pause_s, (now - began) * _SHARE)
        return found

    def end(self) -> str | None:
        """Kill what is in the group, and return which bound the kernel enforced, if any."""
        if not self.group:
            return None
        killed = "memory" in self._held and _oom_kills(self.group)
        end_group(self.group)
        if not killed:
            return None
        self.said = f"more than the {_mib(self._bounds.memory_bytes_max)} of memory it may use"
        return MEMORY

    def _watched(self) -> bool:
        memory = self._bounds.memory_bytes_max and "memory" not in self._held
        return bool(memory or (self._bounds.processes_max and "pids" not in self._held))

    def _looked(self) -> tuple[str | None, float]:
        bounds, pids = self._bounds, self._members()
        if bounds.processes_max and len(pids) > bounds.processes_max:
            self.said = f"{len(pids)} processes at once, and may have {bounds.processes_max}"
            return PROCESSES, _PAUSE_S_MIN
        pause_s = _PAUSE_S_COUNTED if bounds.processes_max else _PAUSE_S_MAX
        if not bounds.memory_bytes_max:
            return None, pause_s
        used = sum(map(processes.resident_bytes, pids))
        if used > bounds.memory_bytes_max:  # what processes share was counted for each
            used = sum(map(processes.own_bytes, pids))
        if used > bounds.memory_bytes_max:
            self.said = f"{_mib(used)} of memory, and may use {_mib(bounds.memory_bytes_max)}"
            return MEMORY, _PAUSE_S_MIN
        room_s = (bounds.memory_bytes_max - used) / _GROWTH_BYTES_S
        return None, min(max(room_s, _PAUSE_S_MIN), pause_s)

    def _members(self) -> list[int]:
        if self.group:
            return members(self.group)
        found = processes.descendants(processes.read_table(), {os.getpid()})
        return [entry.pid for entry in found if not entry.zombie]


def delegated() -> str | None:
    """Return the folder where this process may make groups, or None."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs start-up time
            own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - as above
            mount = next(line.split(" ")[4] for line in file if " - cgroup2 " in line)
    except (OSError, StopIteration, ValueError):
        return None
    above, _, name = own.rpartition("/")
    path = f"{mount}{above if name == SIDECAR_GROUP else own}".rstrip("/")
    return path if os.access(f"{path}/cgroup.procs", os.W_OK) else None


def members(group: str) -> list[int]:
    """Return the processes of a group."""
    with contextlib.suppress(OSError), open(f"{group}/cgroup.procs", "rb") as file:  # noqa: PTH123 - as above
        return [int(line) for line in file]
    return []


def end_group(path: str) -> None:
    """Kill everything in a group, wait until it is gone, and remove the group."""
    if not _write(f"{path}/cgroup.kill", b"1"):
        return
    with contextlib.suppress(OSError), open(f"{path}/cgroup.events", "rb") as events:  # noqa: PTH123 - as above
        poll = select.poll()
        poll.register(events, select.POLLPRI | select.POLLERR)
        give_up_at = time.monotonic() + _GONE_MS_MAX / 1000
        while b"populated 1" in events.read() and time.monotonic() < give_up_at:
            poll.poll(_GONE_MS_MAX)
            events.seek(0)
    with contextlib.suppress(OSError):
        os.rmdir(path)  # noqa: PTH106 - as above


def settings(bounds: Bounds) -> dict[str, bytes]:
    """Return what is written into which file of a group, by the controller's name and file's."""
    found: dict[str, bytes] = {}
    if bounds.memory_bytes_max:
        found["memory.max"] = b"%d" % bounds.memory_bytes_max
        found["memory.swap.max"] = b"0"
        found["memory.oom.group"] = b"1"
    if bounds.processes_max:
        found["pids.max"] = b"%d" % bounds.processes_max
    if bounds.cpus:
        found["cpu.max"] = b"%d %d" % (bounds.cpus * _PERIOD_US, _PERIOD_US)
    return found


def _make_group(bounds: Bounds, parent: str | None) -> str:
    """Return a new group's folder; empty: there is none that could kill."""
    if parent is None:
        return ""
    plain = "".join(it if it.isalnum() or it in "._-" else "_" for it in bounds.attempt)
    path = f"{parent}/{GROUP_PREFIX}{plain[:_NAME_CHARS]}-{os.getpid()}"
    if any(settings(bounds)):
        for controller in _CONTROLLERS:
            _write(f"{parent}/cgroup.subtree_control", controller)
    try:
        os.mkdir(path)  # noqa: PTH102 - as above
    except OSError:
        return ""
    if os.path.exists(f"{path}/cgroup.kill"):  # noqa: PTH110 - as above
        return path
    with contextlib.suppress(OSError):
        os.rmdir(path)  # noqa: PTH106 - as above
    return ""


def hold(group: str, bounds: Bounds) -> frozenset[str]:
    """Set what the group can bound; return the controllers that do."""
    done = {
        name.partition(".")[0]
        for name, value in settings(bounds).items()
        if _write(f"{group}/{name}", value) and name.endswith(".max")
    }
    return frozenset(done)


def _oom_kills(group: str) -> bool:
    with contextlib.suppress(OSError), open(f"{group}/memory.events", "rb") as file:  # noqa: PTH123 - as above
        return any(line.startswith(b"oom_kill ") and line != b"oom_kill 0\n" for line in file)
    return False


def _some_processors(count: int) -> set[int]:
    """Return so many of those that may be used; which ones differs from attempt to attempt."""
    mine = sorted(os.sched_getaffinity(0))
    first = os.getpid() % len(mine)
    return set((mine * 2)[first : first + min(count, len(mine))])


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _write(path: str, value: bytes) -> bool:
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.write(handle, value) == len(value)
        finally:
            os.close(handle)
    return False


def _mib(size: int) -> str:
    return f"{size >> 20} MiB"
