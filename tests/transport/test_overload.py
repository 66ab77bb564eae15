"""A hub whose store stands still: people are refused, machines are not, and it goes on after."""

import asyncio
import random
from collections.abc import Callable

import pytest

from agentcom.hub import services
from agentcom.hub.admission import Admission, Load
from agentcom.hub.clock import Clock
from agentcom.model import limits
from agentcom.model.agent import AgentSpec
from agentcom.model.batch import Batch
from agentcom.model.ids import AgentId
from agentcom.model.result import Result, ResultStatus
from agentcom.sidecar.machine_values import Record
from agentcom.store.base import Verdict
from agentcom.store.memory import MemoryStore
from agentcom.testing.hub import running_hub
from agentcom.testing.light_machine import LightMachine, Tally
from agentcom.testing.waiting import until

TASKS = "/api/v1/tasks"
TASK = {"title": "t", "prompt": "p"}


class HaltingStore(MemoryStore):
    """Commits only while `goes_on` is set, as a disk that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def commit(self, batch: Batch) -> Verdict:
        await self.goes_on.wait()
        return await super().commit(batch)


async def test_a_hub_that_stands_still_refuses_people_and_loses_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "OVERLOAD_QUIET_MS", 1)
    judges: list[Admission] = []  # looked at without a request, which costs of what is left

    class Noted(Admission):
        def __init__(self, clock: Clock, backlog: Callable[[], int]) -> None:
            super().__init__(clock, backlog)
            judges.append(self)

    monkeypatch.setattr(services, "Admission", Noted)
    store, started = HaltingStore(), asyncio.Queue[Record]()
    async with running_hub(store) as hub:
        machine = LightMachine(
            hub.url,
            (await hub.machine("box")).token,
            agents=(AgentSpec(name=AgentId("ann"), runtime="x"),),
            start=lambda _machine, record: started.put_nowait(record),
            tally=Tally(),
            rng=random.Random(1),
        )
        machine.dial()
        running = (await hub.http.post(TASKS, json=TASK)).json()["tasks"][0]
        record = await started.get()

        store.goes_on.clear()
        waiting = [asyncio.create_task(hub.http.post(TASKS, json=TASK)) for _ in range(2)]
        machine.finish(record.key, Result(status=ResultStatus.DONE, summary="did it"))
        await until(lambda: judges[0].load is Load.FULL)
        refused = [await hub.http.post(TASKS, json=TASK), await hub.http.get(TASKS)]
        held = machine.keys
        store.goes_on.set()

        assert [(one.status_code, one.json()["code"]) for one in refused] == [
            (429, "overloaded")
        ] * 2
        assert all(int(one.headers["Retry-After"]) > 0 for one in refused)
        assert held == [record.key], "it was told too early"
        assert [(await one).status_code for one in waiting] == [201, 201]
        await until(lambda: judges[0].load is Load.CALM)
        judges[0].bounded = False  # a busy computer may be late again, for another reason
        await until(lambda: record.key not in machine.keys)
        row = (await hub.http.get(f"{TASKS}/{running}")).json()["task"]
        assert (row["state"], row["attempt"]) == ("completed", 1)
        machine.end()
