"""Measure whole task lifecycles: submit, assign, accept, finish, and the client sees the end.

Run `python bench/lifecycle.py [--store memory|sqlite] [--agents 1,16,64] [--seconds 4] [--profile]
[--loop uvloop|asyncio]`. The hub is one process; the client and the agents are another, so the
CPU figures are the hub's alone. The client keeps 64 submits in flight over the ordinary
`HubClient`; one machine's connection carries all agents, which accept and finish at once.
"""

import argparse
import asyncio
import cProfile
import gc
import importlib
import io
import multiprocessing
import pstats
import resource
import tempfile
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import structlog
from websockets import Subprotocol
from websockets.asyncio.client import connect

from agentcom.client.hub import HubClient
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.rates import Rate
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.protocol import codec, frames
from agentcom.store.base import Store
from agentcom.store.memory import MemoryStore
from agentcom.testing.hub_site import HubSite

IN_FLIGHT = 64
WARM_UP_S = 0.5
PROMPT = "x" * 500
RESULT = Result(status=ResultStatus.DONE, summary="y" * 200)
FREE = {traffic: Rate(10**6, 1, 10**6) for traffic in Traffic}


async def _work(url: str, token: str, agents: int) -> None:
    """Be a machine with `agents` agents that accept and finish at once."""
    async with connect(
        url.replace("http", "ws") + "/ws",
        subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        ping_interval=None,
        max_queue=256,
    ) as socket:
        specs = tuple(AgentSpec(name=AgentId(f"a{n}"), runtime="bench") for n in range(agents))
        await socket.send(
            codec.encode(frames.MachineHello(agents=specs, ttl_ms=600_000)), text=True
        )
        while True:
            frame = codec.decode_from_hub(await socket.recv(decode=False))
            if isinstance(frame, frames.Assign):
                task, fence = frame.assignment.task, frame.assignment.fence
                accept = frames.Accept(task=task, fence=fence)
                await socket.send(codec.encode(accept), text=True)
                finish = frames.Finish(task=task, fence=fence, result=RESULT)
                await socket.send(codec.encode(finish), text=True)


async def _drive(
    pipe: Pipe, url: str, user: str, machine: str, agents: int, seconds: float
) -> None:
    worker = asyncio.create_task(_work(url, machine, agents))
    spec = TaskSpec(title="bench", prompt=PROMPT)
    done = 0
    waiting: dict[str, asyncio.Future[None]] = {}
    ended: set[str] = set()

    async with await HubClient.connect(url, user) as client:

        async def watch() -> None:
            nonlocal done
            async with client.following(live_only=True) as events:
                pipe.send("ready")
                async for news in events:
                    if isinstance(news, frames.EventFrame) and news.event.state.terminal:
                        done += 1
                        future = waiting.pop(news.event.task, None)
                        if future is None:
                            ended.add(news.event.task)
                        else:
                            future.set_result(None)

        async def submit() -> None:
            while True:
                (task,) = (await client.submit([spec])).tasks
                if task in ended:
                    ended.discard(task)
                    continue
                waiting[task] = asyncio.get_running_loop().create_future()
                await waiting[task]

        watcher = asyncio.create_task(watch())
        await asyncio.to_thread(pipe.recv)
        submitters = [asyncio.create_task(submit()) for _ in range(IN_FLIGHT)]
        await asyncio.sleep(WARM_UP_S)
        pipe.send("go")
        before, began = done, time.perf_counter()
        await asyncio.sleep(seconds)
        count, took = done - before, time.perf_counter() - began
        pipe.send((count, took))
        for task in (*submitters, watcher, worker):
            task.cancel()
        await asyncio.gather(*submitters, watcher, worker, return_exceptions=True)


def _client(pipe: Pipe, *args: Any) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    importlib.import_module("uvloop").run(_drive(pipe, *args))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _store(kind: str, folder: str) -> Store:
    if kind == "memory":
        return MemoryStore()
    module = importlib.import_module("agentcom.store.sqlite")
    store: Store = module.SqliteStore(Path(folder) / "hub.db")
    return store


async def _measure(options: argparse.Namespace, agents: int, folder: str) -> str:
    site = HubSite(_store(options.store, folder), budgets=Budgets(FREE))
    turns = facts = 0

    def on_turn(count: int, _seconds: float) -> None:
        nonlocal turns, facts
        turns, facts = turns + 1, facts + count

    site.engine.on_turn = on_turn
    await site.start()
    await site.listen()
    user, machine = await site.token(), await site.machine("bench")
    ours, theirs = multiprocessing.Pipe()
    args = (theirs, site.url, user, machine, agents, options.seconds)
    process = multiprocessing.get_context("spawn").Process(target=_client, args=args, daemon=True)
    process.start()
    await asyncio.to_thread(ours.recv)
    gc.freeze()
    ours.send("start")
    await asyncio.to_thread(ours.recv)
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    cpu, turns, facts = _cpu(), 0, 0
    count, took = await asyncio.to_thread(ours.recv)
    cpu = _cpu() - cpu
    if options.profile:
        profile.disable()
        out = io.StringIO()
        pstats.Stats(profile, stream=out).sort_stats("cumtime").print_stats(60)
        print(out.getvalue())
    await site.stop()
    await asyncio.to_thread(process.join)
    size = facts / max(1, turns)
    return (
        f"W={agents:<3} {count / took:8.0f} lifecycles/s   hub {cpu / count * 1e6:6.1f} us CPU "
        f"per lifecycle ({cpu / took:.0%} of a core)   {size:5.1f} facts per turn"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("memory", "sqlite"), default="sqlite")
    parser.add_argument("--agents", default="1,16,64")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    run = importlib.import_module(options.loop).run
    for agents in map(int, options.agents.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            print(run(_measure(options, agents, folder)), flush=True)


if __name__ == "__main__":
    main()
