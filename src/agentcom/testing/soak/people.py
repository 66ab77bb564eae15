"""A process that is the people of a fleet: it submits, follows, and counts what it hears."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from agentcom.client.follows import ALL
from agentcom.client.hub import HubClient
from agentcom.model.event import BESIDE
from agentcom.model.graph import Dependency
from agentcom.model.ids import TaskId
from agentcom.model.limits import FRAME_BYTES
from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.protocol.shown import TaskPage
from agentcom.testing.peers import Pipe, told

PROMPT: Final = "x" * 500
BULK: Final = 250
IN_FLIGHT: Final = 64
BACKLOG: Final = 1_000
"""Tasks that may be open when the next quarter of an hour begins."""
LONG_MS: Final = (500, 3_000)
PATIENCE_S: Final = 120.0
"""For one answer, reconnects included; a hub that restarts under a storm is slow for a while."""


async def people(pipe: Pipe, url: str, token: str) -> None:
    """Do what the coordinator asks, each time a method's name and its arguments, until None."""
    rng = random.Random(1)  # noqa: S311 - pauses of a load
    async with await HubClient.connect(url, token, rng=rng) as hub, hub.following() as events:
        crowd = People(hub)
        watching = asyncio.create_task(crowd.watch(events))
        try:
            while (asked := await told(pipe)) is not None:
                what, *rest = asked
                pipe.send(await getattr(crowd, what)(*rest))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


class People:
    """What was accepted, and what was heard of it."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._rng = random.Random(2)  # noqa: S311 - a seed repeats it
        self.accepted: dict[TaskId, float] = {}
        """When each accepted task was asked for, on the loop's clock."""
        self.ended: dict[TaskId, float] = {}
        self.twice = 0
        self._newest: dict[str, int] = {}
        self._news = asyncio.Event()

    async def watch(self, events: AsyncIterator[Any]) -> None:
        """Note the end of each task."""
        loop = asyncio.get_running_loop()
        async for news in events:
            if not isinstance(news, frames.EventFrame):
                continue
            self._newest[ALL] = news.seq
            event = news.event
            if not event.state.terminal:
                self._newest[event.task] = news.seq
            elif event.kind not in BESIDE:
                self._newest.pop(event.task, None)
                self.twice += event.task in self.ended
                self.ended[event.task] = loop.time()
                self._news.set()

    async def submit(
        self, title: str, count: int, needs: tuple[str, ...] = (), prompt_bytes: int = 500
    ) -> list[TaskId]:
        """Ask for tasks of one title, many at a time; return them."""
        size = max(1, min(BULK, FRAME_BYTES // (prompt_bytes + 500)))
        prompt = "x" * prompt_bytes
        tasks: list[TaskId] = []
        while len(tasks) < count:
            some = [title] * min(size, count - len(tasks))
            tasks += await self.ask(some, needs=needs, prompt=prompt)
        return tasks

    async def pace(self, per_s: float, seconds: float, needs: tuple[str, ...] = ()) -> list[float]:
        """Ask for tasks on a steady clock; return, in order, how long each took to its end."""
        loop = asyncio.get_running_loop()
        first, asked = loop.time(), []
        for number in range(round(per_s * seconds)):
            await asyncio.sleep(max(0.0, first + number / per_s - loop.time()))
            asked.append(asyncio.create_task(self.ask(["work"], needs=needs)))
        tasks = [task for group in await asyncio.gather(*asked) for task in group]
        await self._all_ended(tasks)
        return [self.ended[task] - self.accepted[task] for task in tasks]

    async def live(self, counts: dict[str, int], bulk: int) -> int:
        """Let tasks of some kinds arrive, in any order; return how many are accepted in all.

        It returns when no more than a backlog is open, so that a day is as long as its work.
        """
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        self._rng.shuffle(kinds)
        arriving = iter(kinds)
        await asyncio.gather(
            self.submit("work", bulk), *(self._arrive(arriving) for _ in range(IN_FLIGHT))
        )
        await self._hub.get("/tasks", TaskPage)
        await self.settle(BACKLOG)
        return len(self.accepted)

    async def settle(self, open_tasks: int = 0) -> tuple[int, int]:
        """Wait until all but some have ended; return how many, and how often one ended twice."""
        while len(self.accepted) - len(self.ended) > open_tasks:
            self._news.clear()
            await self._news.wait()
        return len(self.accepted), self.twice

    async def newest(self, task: TaskId) -> tuple[int, int]:
        """Return the newest sequence that was heard, of all logs and of a live task's."""
        return self._newest.get(ALL, 0), self._newest.get(task, 0)

    async def tasks(self) -> list[TaskId]:
        """Return every task that was accepted."""
        return list(self.accepted)

    async def ask(
        self, titles: list[str], *, needs: tuple[str, ...] = (), prompt: str = PROMPT
    ) -> tuple[TaskId, ...]:
        """Submit some tasks, and return them."""
        specs = [
            TaskSpec(title=title, prompt=prompt, needs=needs, failures_max=2) for title in titles
        ]
        return await self._accept(specs)

    async def _arrive(self, kinds: Iterator[str]) -> None:
        for kind in kinds:
            if kind == "chain":
                await self._chain()
            elif kind == "long":
                await self.ask([f"long {self._rng.randrange(*LONG_MS)}"])
            elif kind == "stay":
                (task,) = await self.ask([kind])
                await self._hub.cancel(task, timeout_s=PATIENCE_S)
            else:
                await self.ask([kind])

    async def _chain(self) -> None:
        """Ask for two tasks, of which one waits for the other."""
        first = TaskSpec(title="work", prompt=PROMPT, ref="first")
        then = TaskSpec(title="work", prompt=PROMPT, depends_on=(Dependency("first"),))
        await self._accept([first, then])

    async def _accept(self, specs: list[TaskSpec]) -> tuple[TaskId, ...]:
        at = asyncio.get_running_loop().time()
        tasks = (await self._hub.submit(specs, timeout_s=PATIENCE_S)).tasks
        self.accepted.update(dict.fromkeys(tasks, at))
        return tasks

    async def _all_ended(self, tasks: list[TaskId]) -> None:
        for task in tasks:
            while task not in self.ended:
                self._news.clear()
                await self._news.wait()
