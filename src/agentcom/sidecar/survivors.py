"""What is left of an attempt whose supervisor was killed: find it by record and by tag, end it."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import msgspec

from agentcom.sidecar import attempt_files, guarding, processes, supervise

_ROUNDS_MAX: Final = 200
_PAUSE_MS: Final = 50
"""Killed processes get 10 s to vanish, in rounds, since they may fork while they are killed."""


class Record(msgspec.Struct, frozen=True):
    """Who runs an attempt, as its supervisor wrote it before the agent started."""

    attempt: str
    boot: str
    pid: int
    start: int
    leader: int | None
    leader_start: int
    grace_ms: int
    group: str = ""
    """The attempt's control group, if it has one."""


def read_record(attempt_dir: Path) -> Record | None:
    """Return what the supervisor wrote, or None if there never was one."""
    try:
        return msgspec.json.decode((attempt_dir / attempt_files.RECORD).read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def supervisor_runs(record: Record) -> bool:
    """Whether the very process that wrote the record is alive."""
    if not processes.has_table():
        with contextlib.suppress(OSError):
            os.kill(record.pid, 0)
            return True
        return False
    entry = processes.read_entry(record.pid)
    return (
        record.boot == processes.boot_id()
        and entry is not None
        and entry.start == record.start
        and not entry.zombie
    )


def kill_survivors(attempt: str, attempt_dir: Path | None = None) -> int:
    """Kill what an attempt left behind after its supervisor was lost; return how many.

    Finds processes by `AGENTCOM_ATTEMPT` in their environment and, given the folder, by what was
    recorded: its tag, the supervisor, the agent's session. Blocks (briefly) until they are gone.
    """
    record = read_record(attempt_dir) if attempt_dir else None
    killed: set[tuple[int, int]] = set()
    if record is not None and record.group and record.boot == processes.boot_id():
        members = map(processes.read_entry, guarding.members(record.group))
        killed |= {(entry.pid, entry.start) for entry in members if entry and not entry.zombie}
        guarding.end_group(record.group)  # all at once, whatever they did to hide
    for _ in range(_ROUNDS_MAX):
        found = _find(attempt, record)
        if not found:
            break
        killed |= {(entry.pid, entry.start) for entry in found if processes.kill(entry)}
        processes.wait_gone(found, timeout_ms=_PAUSE_MS)
    if record is not None and not processes.has_table():
        _kill_group(record)
    return len(killed)


def _find(attempt: str, record: Record | None) -> list[processes.Entry]:
    table = {pid: entry for pid, entry in processes.read_table().items() if not entry.zombie}
    names = {attempt} if record is None else {attempt, record.attempt}
    tags = {f"{supervise.ATTEMPT_VARIABLE}={name}".encode() for name in names}
    roots = {pid for pid in table if not tags.isdisjoint(processes.read_environment(pid))}
    if record is not None and record.boot == processes.boot_id():
        roots |= _recorded(table, record)
    found = {entry.pid: entry for entry in processes.descendants(table, roots)}
    found |= {pid: table[pid] for pid in roots}
    ours = processes.ancestors(table, os.getpid())
    return [entry for pid, entry in found.items() if pid not in ours]


def _recorded(table: dict[int, processes.Entry], record: Record) -> set[int]:
    supervisor = table.get(record.pid)
    roots = {record.pid} if supervisor is not None and supervisor.start == record.start else set()
    leader = table.get(record.leader or 0)
    if record.leader is None or (leader is not None and leader.start != record.leader_start):
        return roots  # the pid was taken over, which needs its session to be empty
    return roots | {pid for pid, entry in table.items() if entry.session == record.leader}


def _kill_group(record: Record) -> None:
    """End what can be found without a process table: the group the agent led."""
    for kill, pid in ((os.kill, record.pid), (os.killpg, record.leader)):
        with contextlib.suppress(OSError):
            if pid is not None:
                kill(pid, signal.SIGKILL)
