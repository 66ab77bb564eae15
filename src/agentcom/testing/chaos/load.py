"""The load: an ordinary client that submits, asks again when in doubt, and follows what happens.

It writes down every task id that the hub has acknowledged, and every end that it heard of.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agentcom.client.dialling import NotReached
from agentcom.client.hub import HubClient
from agentcom.model import errors
from agentcom.model.graph import Dependency
from agentcom.model.ids import TaskId
from agentcom.model.task import LandPolicy, TaskSpec, TaskState
from agentcom.protocol import frames

ASK_AGAIN_S: Final = 6.0
"""Time for one answer; then the same is asked again with the same key."""
OUTSTANDING_MAX: Final = 30
"""Tasks that have not ended: enough to keep every slot busy, and a queue."""
_REPEATED: Final = 0.1
"""Share of submits that are sent once more though they were answered: nothing may happen twice."""


class Load:
    """What was asked, what was promised, and what was heard."""

    def __init__(self, rng: random.Random, origin: Path, *, git_share: float = 0.06) -> None:
        self.acknowledged: list[TaskId] = []
        self.merging: dict[TaskId, str] = {}
        """The files that must have come into the base, once, if these tasks complete."""
        self.ended: dict[TaskId, TaskState] = {}
        self.problems: list[str] = []
        self.retried = 0
        self.repeated = 0
        self._rng = rng
        self._origin = origin
        self._git_share = git_share
        self._made = 0
        self._room = asyncio.Event()

    @property
    def open(self) -> int:
        """How many acknowledged tasks have not ended."""
        return len(self.acknowledged) - len(self.ended.keys() & set(self.acknowledged))

    async def submit_forever(self, client: HubClient) -> None:
        """Keep the fleet busy until cancelled."""
        while True:
            while self.open >= OUTSTANDING_MAX:
                self._room.clear()
                await self._room.wait()
            specs = self._specs()
            key = f"chaos-{self._made}"
            tasks = await self._insist(client, specs, key)
            self.acknowledged += tasks
            self.merging |= {
                task: spec.labels["path"]
                for task, spec in zip(tasks, specs, strict=True)
                if spec.repo is not None
            }
            if self._rng.random() < _REPEATED:
                self.repeated += 1
                again = await self._insist(client, specs, key)
                if again != tasks:
                    self.problems.append(f"a repeated submit made {again} beside {tasks}")

    async def _insist(
        self, client: HubClient, specs: Sequence[TaskSpec], key: str
    ) -> Sequence[TaskId]:
        while True:
            try:
                return (await client.submit(specs, key, timeout_s=ASK_AGAIN_S)).tasks
            except (errors.Timeout, errors.Unavailable, errors.RateLimited):
                self.retried += 1

    async def follow(self, client: HubClient) -> None:
        """Hear of every end, across all breaks of the connection."""
        async with client.following() as news:
            async for one in news:
                if isinstance(one, frames.EventFrame) and one.event.state.terminal:
                    self.ended[one.event.task] = one.event.state
                    self._room.set()

    async def all_ended(self) -> None:
        """Return when every acknowledged task has ended."""
        while self.open:
            self._room.clear()
            await self._room.wait()

    # What is asked ------------------------------------------------------------------------------

    def _specs(self) -> Sequence[TaskSpec]:
        kind = self._rng.random()
        if kind < self._git_share:
            return [self._edit()]
        if kind < self._git_share + 0.12:
            return self._chain()
        if kind < self._git_share + 0.24:
            return [self._agent()]
        return [self._command() for _ in range(self._rng.randint(1, 3))]

    def _command(self, **fields: object) -> TaskSpec:
        self._made += 1
        work_s = self._rng.choice((0.05, 0.3, 0.8, 1.5, 5.0))
        return TaskSpec(
            title=f"Command {self._made}",
            command=("sleep", str(work_s)),
            needs=("run",),
            **fields,  # type: ignore[arg-type] # as TaskSpec has them
        )

    def _chain(self) -> Sequence[TaskSpec]:
        first = self._command(ref="first")
        second = self._command(ref="second", depends_on=(Dependency("first"),))
        return [first, second, self._command(depends_on=(Dependency("second"),))]

    def _agent(self) -> TaskSpec:
        self._made += 1
        steps: list[dict[str, object]] = [
            {"say": "I think"},
            {"sleep_ms": self._rng.randint(50, 2_000)},
        ]
        if self._rng.random() < 0.1:  # noqa: PLR2004 - a few fail by themselves
            steps.append({"error": "agent"})
        steps.append({"spawn_orphan": True} if self._rng.random() < 0.1 else {"say": "done"})  # noqa: PLR2004 - likewise
        return TaskSpec(title=f"Agent {self._made}", prompt=_prompt(steps), needs=("edit",))

    def _edit(self) -> TaskSpec:
        self._made += 1
        path = f"work/{self._made}.txt"
        steps: list[dict[str, object]] = [
            {"write": {"path": path, "text": f"{self._made}\n"}},
            {"sleep_ms": self._rng.randint(50, 1_000)},
        ]
        return TaskSpec(
            title=f"Edit {self._made}",
            prompt=_prompt(steps),
            needs=("edit",),
            repo=str(self._origin),
            base="main",
            verify=("true",),
            land=LandPolicy.MERGE,
            labels={"path": path},
        )


class Keen:
    """Chance that lets a client come back soon: a hub that is mostly down is seldom met else."""

    def random(self) -> float:
        return 0.03


async def connected(url: str, token: str) -> HubClient:
    """Return a client, however long the hub takes to be there."""
    while True:
        try:
            return await HubClient.connect(url, token, rng=Keen())
        except (NotReached, errors.Unavailable):
            await asyncio.sleep(0.1)


def _prompt(steps: Sequence[dict[str, object]]) -> str:
    lines = "\n".join(json.dumps(step) for step in steps)
    return f"<<mock:edit>>\n```steps\n{lines}\n```\n"
