"""Who breaks things: actors for the hub, the machines, the agents and the lines, and what they did.

All moments and victims come from one seed; what runs at that moment is up to the computer.
"""

import asyncio
import contextlib
import json
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agentcom.model.ids import Instant
from agentcom.sidecar import processes
from agentcom.testing.chaos.fleet import LEASE_MS, MACHINES, Fleet
from agentcom.testing.chaos.lines import LineFault, Lines

UP_S: Final = (0.1, 2.2)
"""How long a hub may work between two kills."""
START_KILLED: Final = 0.12
"""Share of hubs that are killed while they start."""
STARTING_S: Final = (0.02, 0.9)
SIDECAR_EVERY_S: Final = (0.3, 1.7)
AGENT_EVERY_S: Final = (0.3, 1.6)
DOWN_S: Final = (0.0, 1.5)
PAUSE_S: Final = (0.2, 2.5)
HUB_PAUSED_SHARE: Final = 0.25
"""Share of the hub's lives in which it is stopped for a moment, as by a busy host."""
HUB_PAUSE_S: Final = (0.2, 4.5)
"""Some of them are longer than lease and margin."""
TWIN_S: Final = 1.5
"""A twin is pushed out, and comes back; four times within a minute, and one of both gives up."""
INSPECT_EVERY: Final = 10
"""Hub kills between two looks into the store that the killed hub left."""
SILENCE_EVERY: Final = 10
"""Hub kills between two machines that are silent for longer than their lease."""
SILENCE_S: Final = LEASE_MS * 1.25 / 1_000 + 1.5
"""Lease, margin, and time for the hub to give the tasks to others."""
SETTLE_S: Final = 2.5
"""Time for all machines to come back to a hub that has just started."""

HUB: Final = "hub killed"
HUB_STARTING: Final = "hub killed while it starts"
HUB_PAUSED: Final = "hub stopped for a moment"
TWIN: Final = "second sidecar with the same identity"
SIDECAR: Final = "sidecar killed"
MACHINE: Final = "machine killed, agents too"
PAUSED: Final = "sidecar stopped for a moment"
SILENT: Final = "machine silent beyond its lease"
AGENT: Final = "agent killed"
SUPERVISOR: Final = "supervisor killed"

ACTORS: Final = ("hub", "box", "agent", "line")
"""Each draws its moments and victims from a stream of its own."""

Inspect = Callable[[], Awaitable[None]]


class Faults:
    """All faults of one run."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        seed: int,
        kills: int,
        inspect: Inspect,
        lines: Lines,
        silence_every: int = SILENCE_EVERY,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.starts_ms: list[int] = []
        self.last_at = Instant(0)
        self._fleet = fleet
        self._kills = kills
        self._inspect = inspect
        self._lines = lines
        self._silence_every = silence_every
        self._rngs = {name: random.Random(f"{seed}/{name}") for name in ACTORS}  # noqa: S311 - a seed repeats it
        self._mine = {name: asyncio.Lock() for name in MACHINES}
        self._diary = (fleet.folder / "faults.jsonl").open("w", encoding="utf-8", buffering=1)

    async def run(self, *, seconds_max: float) -> None:
        """Break things until all were killed often enough, and leave everything running."""
        lines = self._lines.hurt_forever(self._rngs["line"], self._note)
        others = [asyncio.create_task(actor) for actor in (self._machines(), self._agents(), lines)]
        try:
            hubs = asyncio.create_task(self._hubs())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(hubs), seconds_max)
            self._kills = 0  # a run that is out of time ends after the kill that is under way
            await hubs
        finally:
            for other in others:
                other.cancel()
            ends = await asyncio.gather(*others, return_exceptions=True)
            self._lines.heal()
            self.last_at = self._fleet.now()
            self._diary.close()
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end

    @property
    def hub_kills(self) -> int:
        """How often the hub was killed."""
        return self.counts[HUB] + self.counts[HUB_STARTING]

    @property
    def sidecar_kills(self) -> int:
        """How often a sidecar was killed, with or without what it ran."""
        return self.counts[SIDECAR] + self.counts[MACHINE]

    @property
    def fewest_kills(self) -> int:
        """How often that was killed which was killed least."""
        return min(self.hub_kills, self.sidecar_kills, self.counts[AGENT])

    @property
    def _enough(self) -> bool:
        return self.fewest_kills >= self._kills

    # The hub ------------------------------------------------------------------------------------

    async def _hubs(self) -> None:
        fleet, rng = self._fleet, self._rngs["hub"]
        rounds = 0
        while not self._enough:
            rounds += 1
            await asyncio.sleep(rng.uniform(*UP_S))
            if rng.random() < HUB_PAUSED_SHARE:
                await self._pause_hub(rng)
            await self._kill_hub(HUB)
            while rng.random() < START_KILLED and not self._enough:
                fleet.launch_hub()
                await asyncio.sleep(rng.uniform(*STARTING_S))
                await self._kill_hub(HUB_STARTING)
            if rounds % INSPECT_EVERY == 0:
                await self._inspect()
            began = fleet.now()
            fleet.launch_hub()
            await fleet.hub_ready()
            self.starts_ms.append(fleet.now() - began)
            if rounds % self._silence_every == 0:
                await self._silence(rng)
            elif rounds % self._silence_every == self._silence_every // 2:
                await self._twin(MACHINES[rounds // self._silence_every % len(MACHINES)])

    async def _pause_hub(self, rng: random.Random) -> None:
        assert self._fleet.hub is not None
        self._note(HUB_PAUSED, "hub")
        self._fleet.hub.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(rng.uniform(*HUB_PAUSE_S))
        finally:
            self._fleet.hub.send_signal(signal.SIGCONT)
        await asyncio.sleep(rng.uniform(*UP_S))

    async def _kill_hub(self, kind: str) -> None:
        await self._fleet.kill_hub()
        self._note(kind, "hub")

    # Machines -----------------------------------------------------------------------------------

    async def _silence(self, rng: random.Random) -> None:
        """Have one machine say nothing until its tasks are others', and then come back."""
        await asyncio.sleep(SETTLE_S)
        name = max(MACHINES, key=lambda machine: len(self._fleet.attempts(machine)))
        async with self._mine[name]:
            killed = rng.random() < 0.5  # noqa: PLR2004 - one way or the other
            if killed:
                await self._fleet.kill_sidecar(name)
            else:
                self._fleet.sidecars[name].send_signal(signal.SIGSTOP)
            self._note(SILENT, name)
            await asyncio.sleep(SILENCE_S)
            if killed:
                self._fleet.start(name)
            else:
                self._fleet.sidecars[name].send_signal(signal.SIGCONT)

    async def _twin(self, name: str) -> None:
        """Let a clone of a machine push it out, while the machine itself is left alone."""
        await asyncio.sleep(SETTLE_S)
        async with self._mine[name]:
            self._note(TWIN, name)
            await asyncio.shield(asyncio.ensure_future(self._fleet.twin(name, TWIN_S)))

    async def _machines(self) -> None:
        rng = self._rngs["box"]
        while True:
            await asyncio.sleep(rng.uniform(*SIDECAR_EVERY_S))
            name = rng.choice(MACHINES)
            async with self._mine[name]:
                await asyncio.shield(asyncio.ensure_future(self._hurt(name, rng)))

    async def _hurt(self, name: str, rng: random.Random) -> None:
        kind = rng.choices((SIDECAR, MACHINE, PAUSED), (6, 1, 2))[0]
        self._note(kind, name)
        if kind == PAUSED:
            self._fleet.sidecars[name].send_signal(signal.SIGSTOP)
            await asyncio.sleep(rng.uniform(*PAUSE_S))
            self._fleet.sidecars[name].send_signal(signal.SIGCONT)
            return
        await self._fleet.kill_sidecar(name)
        if kind == MACHINE:
            for record in self._fleet.attempts(name):
                _kill((record.pid, record.start), (record.leader, record.leader_start))
        await asyncio.sleep(rng.uniform(*DOWN_S))
        self._fleet.start(name)

    # Agents -------------------------------------------------------------------------------------

    async def _agents(self) -> None:
        rng = self._rngs["agent"]
        while True:
            await asyncio.sleep(rng.uniform(*AGENT_EVERY_S))
            running = self._fleet.attempts(rng.choice(MACHINES))
            if not running:
                continue
            record = rng.choice(running)
            kind = rng.choices((AGENT, SUPERVISOR), (3, 2))[0]
            agent = (record.leader, record.leader_start)
            if _kill((record.pid, record.start) if kind == SUPERVISOR else agent):
                self._note(kind, record.attempt)

    def _note(self, kind: str, whom: str) -> None:
        self.counts[kind] += 1
        self.last_at = self._fleet.now()
        self._diary.write(json.dumps({"at": self.last_at, "fault": kind, "whom": whom}) + "\n")


def _kill(*victims: tuple[int | None, int]) -> int:
    """SIGKILL exactly these processes; return how many there were."""
    killed = 0
    for pid, start in victims:
        entry = processes.read_entry(pid) if pid else None
        if entry is not None and entry.start == start:
            killed += processes.kill(entry)
    return killed


def rows(counts: Counter[str]) -> Sequence[tuple[str, int]]:
    """Return what was done, in a fixed order."""
    kinds = (HUB, HUB_STARTING, HUB_PAUSED, SIDECAR, MACHINE, PAUSED, SILENT, TWIN)
    return [(kind, counts[kind]) for kind in (*kinds, AGENT, SUPERVISOR, *LineFault)]
