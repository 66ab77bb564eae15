"""What this machine can do at best: no hub is faster than its disk and its scheduler.

Every figure of a hub is read against these, taken in the same minute.
"""

import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

BLOCK: Final = b"\0" * 4_096
IDLE_S: Final = 0.02
_DOCUMENT: Final = json.dumps({"type": "submit", "tasks": [{"prompt": "x" * 500}]}).encode()


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "filesystem": _filesystem(tempfile.gettempdir()),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "commit": _commit(),
    }


def load_average() -> float:
    """Return how many processes wanted a core during the last minute."""
    return os.getloadavg()[0]


def floors(*, rounds: int = 300) -> dict[str, float]:
    """Return the times of the smallest steps that a lifecycle is made of."""
    with tempfile.TemporaryFile() as file:
        number = file.fileno()
        os.pwrite(number, BLOCK * 16, 0)
        os.fdatasync(number)
        overwrite = _times(lambda: _sync(number, 0), rounds)
        idle = _times(lambda: _sync(number, 0), max(10, rounds // 6), pause_s=IDLE_S)
    return {
        "fdatasync_4k_p50_ms": statistics.median(overwrite) * 1_000,
        "fdatasync_4k_p99_ms": _p99(overwrite) * 1_000,
        "fdatasync_4k_after_idle_p50_ms": statistics.median(idle) * 1_000,
        **_round_trips(rounds),
        "json_decode_us": _cpu_us(lambda: msgspec.json.decode(_DOCUMENT)),
        "load_average": load_average(),
    }


def _sync(number: int, offset: int) -> None:
    os.pwrite(number, BLOCK, offset)
    os.fdatasync(number)


def _times(action: Callable[[], None], rounds: int, *, pause_s: float = 0.0) -> list[float]:
    taken = []
    for _ in range(rounds):
        if pause_s:
            time.sleep(pause_s)
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return taken


def _round_trips(rounds: int) -> dict[str, float]:
    here, there = socket.socketpair()
    with here, there:
        echo = threading.Thread(target=_echo, args=(there,), daemon=True)
        echo.start()
        busy = _times(lambda: _ping(here), rounds)
        idle = _times(lambda: _ping(here), max(10, rounds // 6), pause_s=IDLE_S)
        here.shutdown(socket.SHUT_WR)
        echo.join()
    return {
        "socketpair_p50_us": statistics.median(busy) * 1e6,
        "socketpair_after_idle_p50_us": statistics.median(idle) * 1e6,
        "socketpair_after_idle_p99_us": _p99(idle) * 1e6,
    }


def _ping(here: socket.socket) -> None:
    here.send(b"x")
    here.recv(1)


def _echo(there: socket.socket) -> None:
    while there.recv(1):
        there.send(b"x")


def _cpu_us(action: Callable[[], object], *, count: int = 20_000) -> float:
    """A yardstick of the processor: on a shared one it tells how much a microsecond is worth."""
    began = time.process_time()
    for _ in range(count):
        action()
    return (time.process_time() - began) / count * 1e6


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(folder: str) -> str:
    """Return the kind of file system under a folder; on tmpfs nothing would be durable."""
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or sys.platform


def _commit() -> str:
    here = Path(__file__).parent
    words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
