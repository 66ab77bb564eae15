"""A real hub and machines of one account: all park, others work on, one tries, then all."""

import random
import time
from collections.abc import AsyncIterator

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.agent import AccountState, AgentSpec
from agentcom.model.failure import FailureClass, OnQuota
from agentcom.model.ids import AccountId, AgentId, WallTime
from agentcom.model.replies import Done, Explanation
from agentcom.model.result import Result, ResultStatus, TokenUsage
from agentcom.model.task import TaskSpec
from agentcom.protocol.shown import AccountList, AccountShown, AgentShown
from agentcom.sidecar.machine_values import Key
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.light_machine import LightMachine, Tally
from agentcom.testing.waiting import until

ANN, BOB = AccountId("anthropic:ann@example.org"), AccountId("openai:bob")
DONE = Result(status=ResultStatus.DONE)
SOON_MS = 1_500


class Fleet:
    """Three machines with Ann's account, and one with Bob's."""

    def __init__(self, hub: RunningHub, client: HubClient) -> None:
        self.hub = hub
        self.client = client
        self.tally = Tally()
        self.started: list[tuple[AccountId, LightMachine, Key]] = []
        self.started_at: dict[Key, int] = {}
        self.machines: list[LightMachine] = []

    async def machine(self, name: str, account: AccountId) -> None:
        made = LightMachine(
            self.hub.url,
            (await self.hub.machine(name)).token,
            agents=(AgentSpec(name=AgentId(f"a-{name}"), runtime="x", account=account),),
            start=lambda machine, record: self.start(account, machine, record.key),
            tally=self.tally,
            rng=random.Random(1),
        )
        made.dial()
        self.machines.append(made)
        await until(lambda: made.welcomed_at)

    def start(self, account: AccountId, machine: LightMachine, key: Key) -> None:
        self.started.append((account, machine, key))
        self.started_at[key] = wall_ms()

    def of(self, account: AccountId) -> list[tuple[LightMachine, Key]]:
        return [(machine, key) for whose, machine, key in self.started if whose == account]

    async def submit(self, count: int) -> None:
        spec = TaskSpec(title="t", prompt="p", on_quota=OnQuota.WAIT)
        await self.client.submit([spec] * count)

    async def account(self) -> AccountShown:
        found = await self.client.get("/api/v1/accounts", AccountList)
        return next(row for row in found.accounts if row.id == ANN)

    async def exhausted(self, in_ms: int) -> int:
        """Let Ann's quota run out while three of her attempts work; return when it resets."""
        await self.submit(4)
        await until(lambda: len(self.started) == 4)
        resets_at = wall_ms() + in_ms
        gone = Result(
            status=ResultStatus.PARKED,
            failure=FailureClass.QUOTA,
            message="usage limit reached",
            resets_at=WallTime(resets_at),
        )
        for result, (machine, key) in zip((gone, DONE, DONE), self.of(ANN), strict=True):
            machine.finish(key, result)
            await until(lambda machine=machine, key=key: key not in machine.keys)
        return resets_at


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with running_hub() as hub, await HubClient.connect(hub.url, hub.admin_token) as client:
        fleet = Fleet(hub, client)
        for name, account in (("m1", ANN), ("m2", ANN), ("m3", ANN), ("m4", BOB)):
            await fleet.machine(name, account)
        yield fleet
        for machine in fleet.machines:
            machine.end()


async def test_all_park_others_work_on_one_tries_and_then_all_work(fleet: Fleet) -> None:
    resets_at = await fleet.exhausted(SOON_MS)
    await fleet.submit(6)
    ((other, key),) = fleet.of(BOB)
    other.finish(key, DONE)
    await until(lambda: len(fleet.of(BOB)) == 2)

    await until(lambda: len(fleet.of(ANN)) > 3)
    trying = await fleet.account()
    machine, canary = fleet.of(ANN)[-1]
    assert (trying.state, trying.canary) == (AccountState.TRYING, canary.task)
    assert fleet.started_at[canary] >= resets_at
    machine.spend(canary, TokenUsage(input=100))
    await fleet.account()
    assert len(fleet.of(ANN)) == 3 + 1

    machine.spend(canary, TokenUsage(input=100, output=1))
    await until(lambda: len(fleet.of(ANN)) == 3 + 3)
    assert (await fleet.account()).state is AccountState.OPEN


async def test_a_person_sees_why_and_opens_it(fleet: Fleet) -> None:
    resets_at = await fleet.exhausted(3_600_000)
    await fleet.submit(2)
    (task,) = (await fleet.client.submit([TaskSpec(title="t", prompt="p")])).tasks

    parked = await fleet.account()
    assert (parked.state, parked.until) == (AccountState.PARKED, resets_at)
    assert (parked.machines, parked.agents) == (("m1", "m2", "m3"), ("a-m1", "a-m2", "a-m3"))
    why = await fleet.client.get(f"/api/v1/tasks/{task}/why", Explanation)
    rules = {rule.agent: rule.rule for rule in why.agents}
    assert rules == {"a-m1": "quota", "a-m2": "quota", "a-m3": "quota", "a-m4": "busy"}
    agent = await fleet.client.get("/api/v1/agents/a-m1", AgentShown)
    assert (agent.state, agent.account) == ("blocked", ANN)
    assert len(fleet.of(ANN)) == 3

    assert await fleet.client.post("/api/v1/accounts/ann%40example/resume", Done) == Done("resumed")
    await until(lambda: len(fleet.of(ANN)) == 3 + 3)


async def test_an_account_that_nobody_has_is_missing(fleet: Fleet) -> None:
    answer = await fleet.hub.http.post("/api/v1/accounts/nobody/resume")

    assert answer.status_code == 404
