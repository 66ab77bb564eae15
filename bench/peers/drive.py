"""One round of one system, in the peers' environment: `python -m bench.peers.drive NAME SERVER`.

It starts the worker as a process of its own, warms both up, measures lifecycles a second and then
the time from submit to the first line of the body, and prints one line of JSON.
"""

import argparse
import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.peers import job

WARM: Final = 200
WARM_S: Final = 45.0
PART_S: Final = 60.0
COUNT_MIN: Final = 100
COUNT_MAX: Final = 20_000


def drive(system: job.System, options: argparse.Namespace) -> Any:
    """Return what one round found."""
    with asyncio.Runner() as runner:
        runner.run(system.open())  # the worker finds an empty queue
        words = [sys.executable, "-m", "bench.peers.drive", options.name, options.server]
        with subprocess.Popen([*words, "--worker"], stdin=subprocess.DEVNULL) as worker:
            try:
                row, called = runner.run(measure(system, options))
            finally:
                worker.terminate()
                try:
                    worker.wait(5)
                except subprocess.TimeoutExpired:
                    worker.kill()
        runner.run(system.close())
    began = dict(_began(Path(os.environ[job.BEGAN])))
    return row | {
        "latencies_ms": [round((began[number] - at) / 1e6, 3) for number, at in called.items()]
    }


async def measure(system: job.System, options: argparse.Namespace) -> tuple[Any, dict[int, int]]:
    """Warm up, then return what a lifecycle costs, and when each paced submit was called."""
    few = WARM // 4
    await asyncio.wait_for(timed(system, 0, few), WARM_S)  # until the worker is there
    took_s = await asyncio.wait_for(timed(system, few, WARM), WARM_S)
    done = few + WARM
    count = int(min(COUNT_MAX, max(COUNT_MIN, WARM / took_s * options.seconds)))
    roots = {os.getpid(), options.pid}
    before_s = job.cpu_s(roots)
    took_s = await asyncio.wait_for(timed(system, done, count), PART_S)
    cpu_us = (job.cpu_s(roots) - before_s) / count * 1e6
    called = await asyncio.wait_for(pace(system, done + count, options), PART_S)
    return {"per_s": count / took_s, "count": count, "cpu_us": cpu_us}, called


async def timed(system: job.System, first: int, count: int) -> float:
    """Submit `count` tasks, 64 in flight; return the seconds until all have ended."""
    numbers = iter(range(first, first + count))

    async def some() -> None:
        for number in numbers:
            await system.submit(number)

    started = time.monotonic()
    await asyncio.gather(*(some() for _ in range(job.IN_FLIGHT)), system.ended(first + count))
    return time.monotonic() - started


async def pace(system: job.System, first: int, options: argparse.Namespace) -> dict[int, int]:
    """Submit at a steady pace; return when each submit was called."""
    called: dict[int, int] = {}

    async def one(number: int) -> None:
        called[number] = time.monotonic_ns()
        await system.submit(number)

    started, calls = time.monotonic(), []
    for index in range(options.dispatches):
        await asyncio.sleep(max(0.0, started + index / options.per_s - time.monotonic()))
        calls.append(asyncio.create_task(one(first + index)))
    await asyncio.gather(*calls)
    await system.ended(first + options.dispatches)
    return called


def _began(path: Path) -> Iterator[tuple[int, int]]:
    for line in path.read_text("ascii").splitlines():
        number, at = line.split()
        yield int(number), int(at)


def main() -> None:
    """Be the client with its worker, or the worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("server")
    parser.add_argument("--pid", type=int, default=0, help="the server's process")
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--dispatches", type=int, default=100)
    parser.add_argument("--per-s", type=float, default=50.0)
    options = parser.parse_args()
    os.environ["BENCH_PEERS_SERVER"] = options.server
    module = importlib.import_module(f"bench.peers.{options.name}")
    if options.worker:
        module.work(options.server)
        return
    print(json.dumps(drive(module.System(options.server), options)))


if __name__ == "__main__":
    main()
