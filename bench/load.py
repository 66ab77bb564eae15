"""The two processes that make load: a client with `HubClient`, and a machine with agents.

The client is the ordinary one. The machine speaks the protocol over an ordinary WebSocket, and its
agents accept and finish at once: whatever a real one does beyond that is not the hub's time.
"""

import asyncio
import contextlib
import gc
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from agentcom.client.hub import HubClient
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.protocol import codec, frames
from agentcom.testing.peers import Pipe, told

IN_FLIGHT: Final = 64
SPEC: Final = TaskSpec(title="bench", prompt="x" * 500)
RESULT: Final = Result(status=ResultStatus.DONE, summary="y" * 200)
BULK: Final = 300  # tasks of one frame: some 180 KB of the 256 KiB that a frame may have
BULKS_IN_FLIGHT: Final = 4


# The machine ----------------------------------------------------------------------------------


async def machine(pipe: Pipe, url: str, token: str, agents: int) -> None:
    """Be a machine with `agents` agents, each time from "work" until told something else.

    Then it says when each task began, and is gone until the next "work".
    """
    while await told(pipe) == "work":
        began: dict[str, int] = {}
        async with _connected(url, token, agents) as socket:
            pipe.send("ready")
            working = asyncio.create_task(_work(socket, began))
            await told(pipe)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        pipe.send(began)


async def _work(socket: ClientConnection, began: dict[str, int]) -> None:
    while True:
        frame = codec.decode_from_hub(await socket.recv(decode=False))
        if not isinstance(frame, frames.Assign):
            continue
        task, fence = frame.assignment.task, frame.assignment.fence
        began[task] = time.monotonic_ns()
        await socket.send(codec.encode(frames.Accept(task=task, fence=fence)), text=True)
        finish = frames.Finish(task=task, fence=fence, result=RESULT)
        await socket.send(codec.encode(finish), text=True)


@contextlib.asynccontextmanager
async def _connected(url: str, token: str, agents: int) -> AsyncIterator[ClientConnection]:
    specs = tuple(AgentSpec(name=AgentId(f"a{n}"), runtime="bench") for n in range(agents))
    async with connect(
        url.replace("http", "ws", 1) + "/ws",
        subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        ping_interval=None,
        max_queue=256,
        close_timeout=1,
    ) as socket:
        # A lease longer than any run: heartbeats are measured on their own, in `idle.py`.
        await socket.send(
            codec.encode(frames.MachineHello(agents=specs, ttl_ms=600_000)), text=True
        )
        welcome = codec.decode_from_hub(await socket.recv(decode=False))
        if not isinstance(welcome, frames.Welcome):
            raise TypeError(f"the hub did not welcome the machine: {welcome}")
        yield socket


# The client -----------------------------------------------------------------------------------


async def client(pipe: Pipe, url: str, token: str) -> None:
    """Do what the coordinator asks: `("run", count)`, `("hold", seconds)`, `("pace", ...)`."""
    async with await HubClient.connect(url, token) as hub, hub.following(live_only=True) as events:
        ends = Ends(hub)
        watching = asyncio.create_task(ends.watch(events))
        gc.freeze()
        pipe.send("ready")
        while (asked := await told(pipe)) is not None:
            what, *numbers = asked
            pipe.send(await getattr(ends, what)(*numbers))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


class Ends:
    """Submits tasks and sees how many have ended."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._ended = 0
        self._target = 0
        self._reached = asyncio.Event()
        self._room = asyncio.Semaphore(0)

    async def watch(self, events: AsyncIterator[Any]) -> None:
        """Count the tasks that this client saw end."""
        async for news in events:
            if isinstance(news, frames.EventFrame) and news.event.state.terminal:
                self._ended += 1
                self._room.release()
                if self._ended >= self._target:
                    self._reached.set()

    async def run(self, count: int) -> tuple[int, float]:
        """Submit `count` tasks, 64 in flight; return when all have ended, with the seconds."""
        self._reached.clear()
        self._target = self._ended + count
        numbers = iter(range(count))
        began = time.monotonic()
        await asyncio.gather(*(self._submit_each(numbers) for _ in range(IN_FLIGHT)))
        await self._reached.wait()
        return count, time.monotonic() - began

    async def hold(self, seconds: float) -> tuple[int, float]:
        """Submit one task for each that ends; return how many ended in some seconds."""
        self._room = asyncio.Semaphore(IN_FLIGHT)
        tasks = [asyncio.create_task(self._submit_on_end()) for _ in range(IN_FLIGHT)]
        before, began = self._ended, time.monotonic()
        await asyncio.sleep(seconds)
        ended, took = self._ended - before, time.monotonic() - began
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ended, took

    async def pace(self, per_s: float, count: int) -> dict[str, int]:
        """Submit at a steady pace; return when each submit was called, by task."""
        self._reached.clear()
        self._target = self._ended + count
        called: dict[str, int] = {}
        first = time.monotonic()
        tasks = []
        for number in range(count):
            await asyncio.sleep(max(0.0, first + number / per_s - time.monotonic()))
            tasks.append(asyncio.create_task(self._submit_timed(called)))
        await asyncio.gather(*tasks)
        await self._reached.wait()
        return called

    async def _submit_each(self, numbers: Iterator[int]) -> None:
        for _ in numbers:
            await self._hub.submit([SPEC])

    async def _submit_on_end(self) -> None:
        while True:
            await self._room.acquire()
            await self._hub.submit([SPEC])

    async def _submit_timed(self, called: dict[str, int]) -> None:
        now = time.monotonic_ns()
        (task,) = (await self._hub.submit([SPEC])).tasks
        called[task] = now


# Many tasks at once ---------------------------------------------------------------------------


async def fill(pipe: Pipe, url: str, tokens: list[str], count: int, seconds: float) -> None:
    """Put tasks into the queue by bulk submits of several people; say how many, in what time.

    It stops at `count`, or after some seconds on a machine that is too slow for that.
    """
    sizes = _sizes(count)
    async with contextlib.AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(await HubClient.connect(url, t)) for t in tokens]
        began = time.monotonic()
        works = [
            _bulks(hub, sizes, began + seconds) for hub in hubs for _ in range(BULKS_IN_FLIGHT)
        ]
        filled = await asyncio.gather(*works)
        pipe.send((sum(filled), time.monotonic() - began))


def _sizes(count: int) -> Iterator[int]:
    yield from itertools.repeat(BULK, count // BULK)
    if count % BULK:
        yield count % BULK


async def _bulks(hub: HubClient, sizes: Iterator[int], until: float) -> int:
    filled = 0
    for size in sizes:
        await hub.submit([SPEC] * size, timeout_s=120)
        filled += size
        if time.monotonic() > until:
            break
    return filled
