"""What a hub feels of a copy: many queued tasks, steady work, and `agentcom backup now` beside it.

The tasks in the queue ask for what no agent has, so they only make the data large. The same steady
work goes through the hub alone and beside a copy, in turns; somebody asks it a small thing ten
times a second, which shows for how long it answers nobody.

Run: python -m bench.backup [--tasks N] [--per-s N]
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.client.hub import HubClient
from agentcom.testing import peers
from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import Peer, Pipe, peer
from agentcom.testing.soak.bars import quantile
from agentcom.testing.soak.probe import Probe
from bench.load import BULK, SPEC, client, machine

TASKS: Final = 1_000_000
PER_S: Final = 500.0
SECONDS: Final = 20.0
"""Of work without a copy; beside one it goes on until the copy is made."""
ROUNDS: Final = 3
WORKERS: Final = 16
BULKS_IN_FLIGHT: Final = 8
FILL_S_MAX: Final = 1_800.0
_MIB: Final = 1 << 20


async def fill(pipe: Pipe, url: str, token: str, count: int) -> None:
    """Put tasks into the queue that no agent can do."""
    spec = msgspec.structs.replace(SPEC, needs=("nothing-has-this",))
    sizes = iter([BULK] * (count // BULK) + [count % BULK] * bool(count % BULK))

    async def some(hub: HubClient) -> None:
        for size in sizes:
            await hub.submit([spec] * size)

    async with await HubClient.connect(url, token) as hub:
        await asyncio.gather(*(some(hub) for _ in range(BULKS_IN_FLIGHT)))
    pipe.send("full")


def measure(tasks: int, per_s: float, seconds: float, rounds: int) -> dict[str, Any]:
    """Return how fast work went alone and beside a copy, and the longest silence."""
    with tempfile.TemporaryDirectory() as folder, HubProcess() as hub:
        if tasks:
            with peer(fill, hub.url, hub.user("filler"), tasks) as filler:
                filler.hear(FILL_S_MAX)
        with (
            peer(client, hub.url, hub.user("ada")) as submitter,
            peer(machine, hub.url, hub.machine("w"), WORKERS) as far,
        ):
            submitter.hear(60)
            _work(submitter, far, per_s, int(per_s))  # it warms up
            rows = []
            for _ in range(rounds):
                alone = _beside(hub, submitter, far, per_s, seconds, None)
                rows.append((alone, _beside(hub, submitter, far, per_s, seconds, Path(folder))))
            submitter.tell(None)
        size = sum(path.stat().st_size for path in hub.home.glob("hub.sqlite"))
    pairs = [row["done_per_s"] / alone["done_per_s"] for alone, row in rows]
    return {
        "tasks": tasks,
        "asked_per_s": per_s,
        "database_mib": round(size / _MIB, 1),
        "throughput_beside": round(sorted(pairs)[len(pairs) // 2], 3),
        "longest_silence_ms": max(row["longest_ms"] for _, row in rows),
        "rounds": [{"alone": alone, "beside": row} for alone, row in rows],
    }


def _beside(
    hub: HubProcess, submitter: Peer, far: Peer, per_s: float, seconds: float, to: Path | None
) -> dict[str, Any]:
    """Work for some seconds, at least until a copy `to` a folder is made."""
    before = hub.cpu_s()
    with Probe(hub) as probe:
        began = time.monotonic()
        copying = None if to is None else _copy(hub, to)
        done, took_s, copied_s = 0, 0.0, 0.0
        while took_s < seconds or (copying is not None and copying.poll() is None):
            count = int(per_s * 2)
            took_s += _work(submitter, far, per_s, count)
            done += count
            if copying is not None and copying.poll() is not None and not copied_s:
                copied_s = time.monotonic() - began
    if copying is not None and copying.wait():
        raise RuntimeError("the copy failed")
    return {
        "done_per_s": round(done / took_s, 1),
        "seconds": round(took_s, 1),
        "copy_s": round(copied_s, 1),
        "hub_cpu_us": round((hub.cpu_s() - before) / done * 1e6),
        "p99_ms": round(quantile(probe.waits_s, 0.99) * 1_000, 1),
        "longest_ms": round(max(probe.waits_s) * 1_000, 1),
    }


def _work(submitter: Peer, far: Peer, per_s: float, count: int) -> float:
    """Let so many tasks be done at a steady pace; return the seconds that it took."""
    far.ask("work")
    began = time.monotonic()
    submitter.tell(("pace", per_s, count))
    submitter.hear(count / per_s + 120)
    took_s = time.monotonic() - began
    far.tell("stop")
    far.hear()
    return took_s


def _copy(hub: HubProcess, folder: Path) -> "subprocess.Popen[bytes]":
    words = ["backup", "now", "--hub-home", str(hub.home), "--folder", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "agentcom.cli.main", *words],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "AGENTCOM_HOME": str(folder)},
    )


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--per-s", type=float, default=PER_S)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    peers.more_files()
    found = measure(asked.tasks, asked.per_s, asked.seconds, asked.rounds)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
