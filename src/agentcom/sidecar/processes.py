"""The process table: who runs, who descends from whom, and how to kill exactly one of them.

Standard library only, since the supervisor imports it. Linux only: elsewhere the table is empty.
"""

import contextlib
import os
import select
import signal
from typing import Final, NamedTuple

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Entry(NamedTuple):
    """One process; the pair of pid and start time never repeats on one boot."""

    pid: int
    ppid: int
    session: int
    start: int
    zombie: bool
    group: int


def read_entry(pid: int) -> Entry | None:
    """Return the process `pid`, or None if there is none (or no /proc, as on macOS)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
            stat = file.read()
        fields = stat[stat.rindex(b")") + 2 :].split()
        ppid, group, session = map(int, fields[1:4])
        return Entry(pid, ppid, session, int(fields[19]), fields[0] in b"ZX", group)
    except (OSError, ValueError, IndexError):
        return None


def read_table() -> dict[int, Entry]:
    """Return all processes by pid."""
    with contextlib.suppress(OSError):
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - fast
        return {entry.pid: entry for entry in map(read_entry, pids) if entry is not None}
    return {}


def descendants(table: dict[int, Entry], roots: set[int]) -> list[Entry]:
    """Return all processes below `roots`, parents before children."""
    children: dict[int, list[Entry]] = {}
    for entry in table.values():
        children.setdefault(entry.ppid, []).append(entry)
    found = [entry for root in roots for entry in children.get(root, [])]
    for entry in found:
        found.extend(children.get(entry.pid, []))
    return found


def ancestors(table: dict[int, Entry], pid: int) -> set[int]:
    """Return `pid` and all processes above it."""
    found: set[int] = set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid].ppid
    return found


def read_environment(pid: int) -> list[bytes]:
    """Return the NAME=value entries a process was started with; [] if they may not be read."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
        return file.read().split(b"\0")
    return []


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in use, shared pages included; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - as above
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def own_bytes(pid: int) -> int:
    """Return the same, of what several processes share only this one's part; dearer to ask for."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123 - as above
            shares = [line.split()[1] for line in file if line.startswith(b"Pss:")]
        return sum(map(int, shares)) << 10
    return resident_bytes(pid)


def wait_gone(entries: list[Entry], *, timeout_ms: int) -> None:
    """Return when one of `entries` has ended (a zombie counts as ended), or after the time-out."""
    handles: list[int] = []
    try:
        for entry in entries:
            with contextlib.suppress(OSError):
                handles.append(os.pidfd_open(entry.pid))
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        poll.poll(timeout_ms)
    finally:
        for handle in handles:
            os.close(handle)


def kill(entry: Entry) -> bool:
    """SIGKILL exactly this process; False if it is gone."""
    return send(entry, signal.SIGKILL)


def send(entry: Entry, number: signal.Signals) -> bool:
    """Signal exactly this process, never one that took over its pid; False if it is gone."""
    try:
        handle = os.pidfd_open(entry.pid)
    except OSError:
        return False
    try:
        current = read_entry(entry.pid)
        if current is None or current.start != entry.start or current.zombie:
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def has_table() -> bool:
    """Whether this system shows its processes as files."""
    return read_entry(os.getpid()) is not None


def boot_id() -> str:
    """Return what tells this boot from all others; start times compare within one boot only."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 - as above
        return file.read().strip()
    return ""
