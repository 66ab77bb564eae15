"""Measure whole task lifecycles: submit, assign, accept, finish, and the client sees the end.

Run `python bench/lifecycle.py [--store memory|sqlite] [--agents 1,16,64] [--seconds 4]
[--loop uvloop|asyncio] [--parts] [--profile]`. The hub is one process; the client and the agents
are another, so the CPU figures are the hub's alone. The client keeps 64 submits in flight over
the ordinary `HubClient`; one machine's connection carries all agents, which accept and finish at
once. `--parts` tells how the time is spread, at the price of a few microseconds.
"""

import argparse
import asyncio
import cProfile
import gc
import importlib
import multiprocessing
import pstats
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import structlog
from websockets import Subprotocol
from websockets.asyncio.client import connect

from agentcom.client.hub import HubClient
from agentcom.core import pool
from agentcom.hub.bodies import Bodies
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.rates import Rate
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.protocol import codec, frames
from agentcom.store.base import Store
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite_writer import Writer
from agentcom.testing.hub_site import HubSite
from agentcom.transport.ws_session import Session

IN_FLIGHT = 64
WARM_UP_S = 0.5
SPEC = TaskSpec(title="bench", prompt="x" * 500)
RESULT = Result(status=ResultStatus.DONE, summary="y" * 200)
FREE = {traffic: Rate(10**6, 1, 10**6) for traffic in Traffic}


# The client's process -----------------------------------------------------------------------------


async def work(url: str, token: str, agents: int) -> None:
    """Be a machine with `agents` agents that accept and finish at once."""
    specs = tuple(AgentSpec(name=AgentId(f"a{n}"), runtime="bench") for n in range(agents))
    async with connect(
        url.replace("http", "ws") + "/ws",
        subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        ping_interval=None,
        max_queue=256,
    ) as socket:
        hello = frames.MachineHello(agents=specs, ttl_ms=600_000)
        await socket.send(codec.encode(hello), text=True)
        while True:
            frame = codec.decode_from_hub(await socket.recv(decode=False))
            if isinstance(frame, frames.Assign):
                task, fence = frame.assignment.task, frame.assignment.fence
                accept = frames.Accept(task=task, fence=fence)
                await socket.send(codec.encode(accept), text=True)
                finish = frames.Finish(task=task, fence=fence, result=RESULT)
                await socket.send(codec.encode(finish), text=True)


class Load:
    """Keeps submits in flight; each waits until its task has ended."""

    def __init__(self, client: HubClient) -> None:
        self.done = 0
        self._client = client
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._ended: set[str] = set()

    async def watch(self, following: asyncio.Event) -> None:
        """Note which tasks have ended."""
        async with self._client.following(live_only=True) as events:
            following.set()
            async for news in events:
                if isinstance(news, frames.EventFrame) and news.event.state.terminal:
                    self.done += 1
                    future = self._waiting.pop(news.event.task, None)
                    if future is None:
                        self._ended.add(news.event.task)
                    else:
                        future.set_result(None)

    async def submit(self) -> None:
        """Submit one task after the other."""
        while True:
            (task,) = (await self._client.submit([SPEC])).tasks
            if task in self._ended:
                self._ended.discard(task)
                continue
            self._waiting[task] = asyncio.get_running_loop().create_future()
            await self._waiting[task]


async def drive(pipe: Pipe, url: str, user: str, machine: str, agents: int, seconds: float) -> None:
    """Make load, and send the count of lifecycles with the time that they took."""
    following = asyncio.Event()
    async with await HubClient.connect(url, user) as client:
        load = Load(client)
        tasks = [
            asyncio.create_task(work(url, machine, agents)),
            asyncio.create_task(load.watch(following)),
        ]
        await following.wait()
        tasks += [asyncio.create_task(load.submit()) for _ in range(IN_FLIGHT)]
        await asyncio.sleep(WARM_UP_S)
        pipe.send("go")
        before, began = load.done, time.perf_counter()
        await asyncio.sleep(seconds)
        pipe.send((load.done - before, time.perf_counter() - began))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def client_process(pipe: Pipe, *args: Any) -> None:
    """Run the load."""
    quiet()
    importlib.import_module("uvloop").run(drive(pipe, *args))


# The hub's process --------------------------------------------------------------------------------


class Parts:
    """Where the CPU of the loop's thread goes: seconds in a few functions that do not overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.turns = 0
        self.facts = 0

    def turn(self, count: int, _seconds: float) -> None:
        """Count a turn."""
        self.turns += 1
        self.facts += count

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Measure a function from now on."""
        function: Callable[..., Any] = getattr(owner, name)
        if hasattr(function, "measured"):
            return
        self.seconds[label] = 0.0
        seconds, clock = self.seconds, time.thread_time

        def timed(*args: Any, **options: Any) -> Any:
            began = clock()
            try:
                return function(*args, **options)
            finally:
                seconds[label] += clock() - began

        timed.measured = True  # type: ignore[attr-defined]  # a mark of our own
        setattr(owner, name, timed)

    def watch_all(self, site: HubSite) -> None:
        """Measure the steps of a frame's way through the hub."""
        self.watch(Session, "on_text", "frames in")
        self.watch(pool, "decide", "decide")
        self.watch(Writer, "at_once", "commits at once")
        self.watch(Bodies, "remember", "bodies")
        self.watch(site.switchboard, "perform", "effects")
        self.watch(site.switchboard, "publish", "feeds")
        self.watch(Session, "answer", "replies")
        self.watch(Session, "_flush", "sockets out")

    def reset(self) -> None:
        """Start from zero."""
        self.turns = self.facts = 0
        for label in self.seconds:
            self.seconds[label] = 0.0


def quiet() -> None:
    """Log nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def cpu_s() -> float:
    """Return the CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def make_store(kind: str, folder: str) -> Store:
    """Return an empty store."""
    if kind == "memory":
        return MemoryStore()
    module = importlib.import_module("agentcom.store.sqlite")
    store: Store = module.SqliteStore(Path(folder) / "hub.db")
    return store


async def measure(options: argparse.Namespace, agents: int, folder: str, parts: Parts) -> str:
    """Run one hub under load and return a line about it."""
    site = HubSite(make_store(options.store, folder), budgets=Budgets(FREE))
    site.engine.on_turn = parts.turn
    if options.parts:
        parts.watch_all(site)
    await site.start()
    await site.listen()
    user, machine = await site.token(), await site.machine("bench")
    ours, theirs = multiprocessing.Pipe()
    args = (theirs, site.url, user, machine, agents, options.seconds)
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=client_process, args=args, daemon=True)
    process.start()
    await asyncio.to_thread(ours.recv)
    gc.freeze()
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    parts.reset()
    cpu = cpu_s()
    count, took = await asyncio.to_thread(ours.recv)
    cpu = cpu_s() - cpu
    profile.disable()
    await site.stop()
    await asyncio.to_thread(process.join)
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    return report(parts, agents, count, took, cpu)


def report(parts: Parts, agents: int, count: int, took: float, cpu: float) -> str:
    """Return what was measured, in words."""
    each = 1e6 / max(1, count)
    line = (
        f"W={agents:<3} {count / took:7.0f} lifecycles/s   hub {cpu * each:5.0f} us CPU each "
        f"({cpu / took:.0%} of a core)   {parts.facts / max(1, parts.turns):4.1f} facts per turn"
    )
    shares = ", ".join(f"{label} {spent * each:.0f}" for label, spent in parts.seconds.items())
    return f"{line}\n      us each: {shares}" if shares else line


def main() -> None:
    """Measure for each number of agents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("memory", "sqlite"), default="sqlite")
    parser.add_argument("--agents", default="1,16,64")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options = parser.parse_args()
    quiet()
    run = importlib.import_module(options.loop).run
    parts = Parts()
    for agents in map(int, options.agents.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            print(run(measure(options, agents, folder, parts)), flush=True)


if __name__ == "__main__":
    main()
