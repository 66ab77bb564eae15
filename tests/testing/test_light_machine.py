"""The machine that costs a socket: it returns as the real one does, and counts what it is given."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentcom.client.hub import HubClient
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec, TaskState
from agentcom.sidecar.machine_values import Record
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.light_machine import LightMachine, Tally
from agentcom.testing.waiting import until

DONE = Result(status=ResultStatus.DONE)
LEASE_MS = 1_000


class Shop:
    """A hub, a client, and machines that only collect what they are given."""

    def __init__(self, hub: RunningHub, client: HubClient) -> None:
        self.hub = hub
        self.client = client
        self.tally = Tally()
        self.started: list[tuple[LightMachine, Record]] = []

    async def machine(self, name: str) -> LightMachine:
        made = LightMachine(
            self.hub.url,
            (await self.hub.machine(name)).token,
            agents=(AgentSpec(name=AgentId(f"a-{name}"), runtime="x"),),
            start=lambda machine, record: self.started.append((machine, record)),
            tally=self.tally,
            rng=random.Random(1),
            ttl_ms=LEASE_MS,
        )
        made.dial()
        await until(lambda: made.welcomed_at)
        return made


@asynccontextmanager
async def shop() -> AsyncIterator[Shop]:
    async with running_hub() as hub, await HubClient.connect(hub.url, hub.admin_token) as client:
        yield Shop(hub, client)


async def test_an_attempt_survives_a_cut_and_ends_once() -> None:
    async with shop() as here:
        machine = await here.machine("box")
        (task,) = (await here.client.submit([TaskSpec(title="t", prompt="p")])).tasks
        await until(lambda: here.started)
        ((_, record),) = here.started
        first = machine.welcomed_at

        machine.cut()
        await until(lambda: machine.welcomed_at > first)
        machine.finish(record.key, DONE)

        assert (await here.client.wait(task)).state is TaskState.COMPLETED
        await until(lambda: not machine.keys)
        assert here.tally.issued_again == 0
        assert here.tally.not_applied == 0
        machine.end()


async def test_what_is_issued_again_is_counted() -> None:
    async with shop() as here:
        first = await here.machine("box")
        await here.client.submit([TaskSpec(title="t", prompt="p")])
        await until(lambda: here.started)
        other = await here.machine("elm")

        first.leave()  # for longer than its lease
        await until(lambda: len(here.started) > 1)

        assert here.started[1][0] is other
        assert here.tally.issued_again == 1
        first.dial()
        await until(lambda: here.tally.stale)
        first.end()
        other.end()


async def test_a_machine_that_is_refused_for_good_stays_away() -> None:
    async with shop() as here:
        machine = await here.machine("box")
        machines = (await here.hub.http.get("/api/v1/machines")).json()["machines"]

        await here.hub.http.delete(f"/api/v1/machines/{machines[0]['id']}")
        await until(lambda: here.tally.refused)

        assert machine.away
        machine.end()
