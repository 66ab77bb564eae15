"""Whether the agents of this machine can work: looked at before, so that no task has to find out.

An agent that cannot work is told to the hub with its problem and the fix, and gets nothing; the
machine and its other agents go on. Looks happen at the start, before an attempt, every ten minutes,
and when somebody says that the agents have changed. They ask files, never a model or the network.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
import structlog

from agentcom.model import errors
from agentcom.model.agent import AgentSpec
from agentcom.model.limit import repository_name
from agentcom.model.requirement import CAPABILITIES_MAX, parse_capability
from agentcom.sidecar import computer, settings, sleeping
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.runtime import accounts, base

FIRST_S: Final = 5.0
"""A start waits no longer: agents of before wait to be adopted, and leases run out."""
GLANCE_S: Final = 2.0
"""A new assignment waits no longer for a look; then what was known counts."""
AGAIN_S: Final = 600.0
"""Who installs a program or logs in is noticed within this, at a cost of some file dates."""
TROUBLED_S: Final = 60.0
"""... and within this, while an agent cannot work."""
SHUT_S: Final = 3_600.0
"""Then one more attempt may try to push there; nobody is asked in between."""
SHUT_MAX: Final = 8
"""Repositories that are told; each set of them is a class of its own at the hub."""
ASLEEP: Final = "its computer goes to sleep"
NO_PUSH: Final = "no-push"
_MIB: Final = 1 << 20

log = structlog.get_logger(__name__)
replace: Final = msgspec.structs.replace


class Preflight:
    """What is known of this machine's agents."""

    def __init__(self, config: Config, runtimes: Mapping[str, base.Runtime]) -> None:
        self._config = config
        self._runtimes = runtimes
        self._agents = config.machine.agents
        self._boxes = Boxes(config.home.root)
        self._told: tuple[AgentSpec, ...] = ()
        self._disk_gb = 0
        self._low = False
        self._asleep = False
        self._shut: dict[str, float] = {}
        self._asked = asyncio.Event()
        self._looking = asyncio.Lock()

    async def first(self) -> tuple[AgentSpec, ...]:
        """Return the agents as they are; as they are configured, if finding out takes long."""
        try:
            async with asyncio.timeout(FIRST_S):
                self._told = await self._look()
        except TimeoutError:
            log.warning("preflight.slow", seconds=FIRST_S)
            self._told = tuple(agent.spec for agent in self._agents if not agent.leaving)
            self._asked.set()
        return self._told

    async def _follow_sleep(self, tell: Callable[[values.Fact], Awaitable[None]]) -> None:
        """Hand over what runs before this computer sleeps, and let its agents work again after."""

        async def told(sleeps: bool) -> None:
            self._asleep = sleeps
            if not sleeps:
                self._asked.set()
                return
            self._told = tuple(replace(spec, problem=ASLEEP) for spec in self._told)
            await tell(values.Sleeps())
            await tell(values.Described(self._told))

        await sleeping.follow(told)

    async def glance(self, tell: Callable[[values.Described], Awaitable[None]]) -> None:
        """Look before an attempt begins, so that what broke since is told instead of met."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GLANCE_S):
                await self._again(tell)

    async def watch(self, tell: Callable[[values.Fact], Awaitable[None]]) -> None:
        """Look again and again; tell what has changed, and what a sleep changes."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_sleep(tell))
            group.create_task(self._look_again(tell))

    async def _look_again(self, tell: Callable[[values.Described], Awaitable[None]]) -> None:
        while True:
            troubled = any(spec.problem for spec in self._told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TROUBLED_S if troubled else AGAIN_S):
                    await self._asked.wait()
            self._asked.clear()
            await self._again(tell)

    def reload(self) -> None:
        """Take up the agents and settings that the machine's files name now; what runs is kept."""
        settings.reload(self._config)
        try:
            agents = self._config.home.load().machine.agents
        except (errors.AgentComError, OSError) as error:
            log.warning("agents.not_read", reason=str(error))
            return
        self._agents = agents
        self._config.later.update({agent.name: agent for agent in agents})
        self._asked.set()

    def shut_out(self, repository: str) -> None:
        """Note that origin does not let this machine push: its agents get no such tasks now."""
        name = f"{NO_PUSH}={repository_name(repository).lower()}"
        with contextlib.suppress(errors.InvalidInput):
            parse_capability(name)
            self._shut[name] = time.monotonic() + SHUT_S
            for older in list(self._shut)[:-SHUT_MAX]:
                del self._shut[older]
            self._asked.set()

    async def _again(self, tell: Callable[[values.Described], Awaitable[None]]) -> None:
        async with self._looking:
            found = await self._look()
            if found == self._told or self._asleep:
                return
            self._told = found
        for spec in found:
            log.info("agent.described", agent=spec.name, problem=spec.problem)
        await tell(values.Described(found))

    async def _look(self) -> tuple[AgentSpec, ...]:
        return await asyncio.to_thread(self.look)

    def look(self) -> tuple[AgentSpec, ...]:
        """Return every agent with what it offers, and what keeps it from working."""
        agents = [agent for agent in self._agents if not agent.leaving]
        free = computer.free_bytes(self._config.home.root)
        self._disk_gb = computer.disk_step(free, self._disk_gb)
        room = self._no_room(free)
        disk = (f"disk_gb={self._disk_gb}",) if self._disk_gb else ()
        now = time.monotonic()
        shut = [name for name, until in self._shut.items() if until > now]
        found = (*shut, *computer.capabilities(), *disk)
        with ThreadPoolExecutor(computer.ASKED_AT_ONCE) as pool:
            checks = list(pool.map(self._check, agents))
        # One fewer than may be: the hub adds one.
        return tuple(
            self._spec(agent, check, found, room)
            for agent, check in zip(agents, checks, strict=True)
        )

    def _no_room(self, free: int) -> str:
        """Return why nothing new is begun on this disk; "" if it has room."""
        least = self._config.machine.settings.disk_free_min_mb
        needed = least * (computer.STEADY if self._low else 1)
        self._low = free < needed * _MIB
        if not self._low:
            return ""
        return (
            f"the disk of {self._config.home.root} is nearly full, and new work needs "
            f"{least} MiB: free some space"  # without the figure, which changes at each look
        )

    def _check(self, agent: AgentConfig) -> base.Preflight:
        runtime = self._runtimes.get(agent.runtime)
        if runtime is None:
            fix = f"install it, or: agentcom agent rm {agent.name}"
            problem = f"there is no runtime {agent.runtime} here"
            return base.Preflight(runtime=agent.runtime, ready=False, problem=problem, fix=fix)
        return runtime.preflight(self._settings(agent))

    def _settings(self, agent: AgentConfig) -> dict[str, str]:
        return {"home": str(self._config.home.agent(agent.name)), **agent.settings}

    def _spec(
        self, agent: AgentConfig, check: base.Preflight, found: Sequence[str], room: str
    ) -> AgentSpec:
        runtime = self._runtimes.get(agent.runtime)
        own = {name.partition("=")[0] for name in agent.capabilities}
        more = [name for name in found if name.partition("=")[0] not in own]
        lacks = self._boxes.lacks(agent) or room
        problem = lacks if check.ready else f"{check.problem}: {check.fix}"
        account = accounts.of_agent(agent.runtime, self._settings(agent), agent.environment)
        return replace(
            self._boxes.told(agent),
            capabilities=(*agent.capabilities, *more)[: CAPABILITIES_MAX - 1],
            version=check.version or agent.version,
            prompts=runtime is not None and runtime.takes_prompts(agent.settings),
            account=agent.account or account,
            problem=problem,
        )
