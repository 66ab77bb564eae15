"""Assignments that are more than a socket may queue: none is lost, and the machine stays."""

import random

from agentcom.client.hub import HubClient
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.task import TaskSpec
from agentcom.sidecar.machine_values import Record
from agentcom.testing.hub import running_hub
from agentcom.testing.light_machine import LightMachine, Tally
from agentcom.testing.waiting import until

TASKS = 160
PROMPT = "x" * 60_000  # 9.6 MB, and a socket may queue 4
AGENTS = tuple(AgentSpec(name=AgentId(f"a{n}"), runtime="x", slots=TASKS // 4) for n in range(4))


async def test_a_machine_gets_more_work_than_one_socket_may_queue() -> None:
    started: list[Record] = []
    tally = Tally()

    async with running_hub() as hub, await HubClient.connect(hub.url, hub.admin_token) as client:
        admitted = await hub.machine("box")
        machine = LightMachine(
            hub.url,
            admitted.token,
            agents=AGENTS,
            start=lambda _machine, record: started.append(record),
            tally=tally,
            rng=random.Random(1),
            ttl_ms=1_000,
        )
        for number in range(TASKS):
            await client.submit([TaskSpec(title=f"t{number}", prompt=PROMPT)])
        machine.dial()
        await until(lambda: len(started) == TASKS)
        lost = dict(tally.lost)
        machine.end()

    assert len({record.key for record in started}) == TASKS
    assert tally.issued_again == 0
    assert lost == {}  # it read all the time, so nobody may call it slow
