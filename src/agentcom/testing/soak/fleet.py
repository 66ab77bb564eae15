"""A process that is thousands of machines: opened, cut, sent away, and told to finish.

What an agent does with a task is written in the task's title, so that whoever submits it knows
what must become of it: `work`, `hold` (until `finish`), `long MS`, `slip` (fails once), `fail`,
`stay` (until it is stopped).
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from agentcom.model.agent import AgentSpec
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId
from agentcom.model.result import Result, ResultStatus
from agentcom.sidecar.machine_values import Key, Record
from agentcom.testing.light_machine import LightMachine, Tally
from agentcom.testing.peers import Pipe, told

OPENING_MAX: Final = 64
"""Machines that come in at a time, before any storm: as they would over a day."""
DONE: Final = Result(status=ResultStatus.DONE, summary="y" * 200)
FAILED: Final = Result(
    status=ResultStatus.FAILED, failure=FailureClass.CRASHED, message="as its title says"
)
_LOOK_S: Final = 0.05


async def fleet(pipe: Pipe, /, url: str, tokens: Sequence[str], **shape: Any) -> None:
    """Do what the coordinator asks, each time a method's name and its arguments, until None."""
    machines = Fleet(url, tokens, **shape)
    try:
        while (asked := await told(pipe)) is not None:
            what, *rest = asked
            pipe.send(await getattr(machines, what)(*rest))
    finally:
        machines.end()


class Fleet:
    """All machines of one process."""

    def __init__(
        self,
        url: str,
        tokens: Sequence[str],
        *,
        agents: int = 2,
        slots: int = 1,
        ttl_ms: int = 0,
        name: str = "m",
        capabilities: tuple[str, ...] = (),
    ) -> None:
        self.tally = Tally()
        self._rng = random.Random(name)  # noqa: S311 - a seed repeats it
        self._held: dict[Key, LightMachine] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._machines = [
            LightMachine(
                url,
                token,
                agents=tuple(
                    AgentSpec(
                        name=AgentId(f"{name}{number}-{n}"),
                        runtime="soak",
                        capabilities=capabilities,
                        slots=slots,
                    )
                    for n in range(agents)
                ),
                start=self._begin,
                tally=self.tally,
                rng=self._rng,
                ttl_ms=ttl_ms,
                changed=self._changed.set,
            )
            for number, token in enumerate(tokens)
        ]

    def end(self) -> None:
        """Let go of everything."""
        for machine in self._machines:
            machine.end()
        for task in self._tasks:
            task.cancel()

    async def open(self) -> int:
        """Bring all in, some at a time; return how many are."""
        waiting, coming = deque(self._machines), list[LightMachine]()
        while waiting:
            coming = [m for m in coming if not (m.welcomed_at or m.away)]
            for _ in range(min(OPENING_MAX - len(coming), len(waiting))):
                coming.append(waiting.popleft())
                coming[-1].dial()
            self._changed.clear()
            await self._changed.wait()
        await self._until_all_are_in()
        return sum(m.welcomed_at > 0 for m in self._machines)

    async def cut(self, share: float) -> float:
        """Break a share of the connections at one moment, and return that moment."""
        at = asyncio.get_running_loop().time()
        for machine in self._some(share):
            machine.cut()
        return at

    async def roll(self, share: float, every_s: float, seconds: float) -> None:
        """Break a share of the connections again and again for some time, and return at once."""
        self._spawn(self._roll(share, every_s, seconds))

    async def away(self, share: float, seconds: float) -> None:
        """Send a share of the machines away for some time, and return at once."""
        self._spawn(self._away(share, seconds))

    async def checkpoints(self, per_s: float, seconds: float) -> None:
        """Let all held attempts report checkpoints for some time, and return at once."""
        self._spawn(self._checkpoints(per_s, seconds))

    async def pause(self) -> None:
        """Let all stop reading."""
        for machine in self._machines:
            machine.pause()

    async def resume(self) -> None:
        """Let all read on."""
        for machine in self._machines:
            machine.resume()

    async def look(self) -> dict[str, Any]:
        """Return how it stands."""
        welcomed = [m.welcomed_at for m in self._machines if m.welcomed_at]
        # Not `asdict`: it copies all that was ever issued, twice a second.
        tally = {field.name: getattr(self.tally, field.name) for field in fields(self.tally)}
        tally["issued"] = len(self.tally.issued)
        return {
            "welcomed": len(welcomed),
            "welcomed_at": sorted(welcomed),
            "held": len(self._held),
            "open": sum(len(m.keys) for m in self._machines),
            **tally,
        }

    async def finish(self) -> int:
        """Let all attempts that are held end; return how many, once the hub has them."""
        held, self._held = self._held, {}
        for key, machine in held.items():
            machine.finish(key, DONE)
        while any(m.keys for m in self._machines):  # noqa: ASYNC110 - acknowledgements empty them
            await asyncio.sleep(_LOOK_S)
        return len(held)

    # What agents do -----------------------------------------------------------------------------

    def _begin(self, machine: LightMachine, record: Record) -> None:
        kind, _, detail = record.body.spec.title.partition(" ")
        key = record.key
        match kind:
            case "hold":
                self._held[key] = machine
            case "stay":
                return  # somebody cancels it
            case "long":
                loop = asyncio.get_running_loop()
                loop.call_later(int(detail) / 1_000, machine.finish, key, DONE)
            case "fail":
                machine.finish(key, FAILED)
            case "slip" if record.assignment.failures == 0:
                machine.finish(key, FAILED)
            case _:
                machine.finish(key, DONE)

    # What happens to them -----------------------------------------------------------------------

    async def _roll(self, share: float, every_s: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            await self.cut(share)
            await asyncio.sleep(every_s)

    async def _checkpoints(self, per_s: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        first = loop.time()
        for number in range(round(per_s * seconds)):
            await asyncio.sleep(max(0.0, first + number / per_s - loop.time()))
            for key, machine in self._held.items():
                machine.save(key, f"{number:040x}")

    async def _away(self, share: float, seconds: float) -> None:
        gone = [machine for machine in self._some(share) if not machine.away]
        for machine in gone:
            machine.leave()
        await asyncio.sleep(seconds)
        for machine in gone:
            machine.dial()

    async def _until_all_are_in(self) -> None:
        while not all(m.welcomed_at or m.away for m in self._machines):
            self._changed.clear()
            await self._changed.wait()

    def _some(self, share: float) -> Sequence[LightMachine]:
        count = round(share * len(self._machines))
        return self._rng.sample(self._machines, count)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
