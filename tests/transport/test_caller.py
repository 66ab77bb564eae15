"""A machine calls over HTTP for the agent of an attempt that it holds, and for nobody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from websockets import Subprotocol
from websockets.asyncio.client import connect

from agentcom.model.errors import InvalidInput
from agentcom.model.ids import Fence, TaskId
from agentcom.protocol import caller, frames
from agentcom.testing.hub import RunningHub, running_hub
from tests.transport.peers import Peer, hello

NOTE = {"name": "plan", "text": "first the parser"}


@dataclass
class Held:
    hub: RunningHub
    machine: Peer
    token: str
    task: TaskId
    fence: Fence

    async def write(self, headers: dict[str, str], token: str | None = None) -> httpx.Response:
        async with self.hub.client(token or self.token) as client:
            return await client.post("/api/v1/calls/note_write", json=NOTE, headers=headers)

    @property
    def headers(self) -> dict[str, str]:
        return caller.headers(self.task, self.fence)


@asynccontextmanager
async def holding(hub: RunningHub) -> AsyncIterator[Held]:
    token = (await hub.machine("box")).token
    headers = {"Authorization": f"Bearer {token}"}
    protocol = [Subprotocol(frames.SUBPROTOCOL)]
    async with connect(hub.ws_url, additional_headers=headers, subprotocols=protocol) as socket:
        machine = Peer(socket)
        await machine.say(hello("bob"))
        await machine.hear(frames.Welcome)
        await hub.http.post("/api/v1/tasks", json={"title": "t", "prompt": "p"})
        held = (await machine.until(frames.Assign)).assignment
        await machine.say(frames.Accept(task=held.task, fence=held.fence))
        yield Held(hub, machine, token, held.task, held.fence)


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    async with running_hub() as hub, holding(hub) as made:
        yield made


async def test_the_agent_of_a_held_attempt_speaks(held: Held) -> None:
    answer = await held.write(held.headers)

    assert answer.status_code == 200, answer.text
    assert answer.json()["note"]["author"] == "agent:bob"


async def test_a_machine_alone_is_nobody(held: Held) -> None:
    answer = await held.write({})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_an_attempt_of_another_machine_is_not_ones_own(held: Held) -> None:
    other = (await held.hub.machine("thief")).token
    person = held.hub.admin_token

    for token in (other, person):
        answer = await held.write(held.headers, token)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale")


async def test_an_older_or_ended_attempt_speaks_no_more(held: Held) -> None:
    older = caller.headers(held.task, Fence(held.fence.incarnation, held.fence.attempt - 1))
    before = await held.write(older)
    await held.machine.say(frames.StoppedFrame(task=held.task, fence=held.fence))
    await held.machine.until(frames.Ack)

    after = await held.write(held.headers)

    assert [before.json()["code"], after.json()["code"]] == ["stale", "stale"]


def test_headers_name_what_they_were_made_of() -> None:
    given = caller.headers(TaskId("t1"), Fence(7, 2))

    assert caller.named(given) == (TaskId("t1"), Fence(7, 2))
    assert caller.named({}) is None


@pytest.mark.parametrize(
    "given",
    [
        {caller.TASK: "t1"},
        {caller.FENCE: "7.2"},
        {caller.TASK: "", caller.FENCE: "7.2"},
        {caller.TASK: "t1", caller.FENCE: "7"},
        {caller.TASK: "t1", caller.FENCE: "7.-2"},
        {caller.TASK: "t1", caller.FENCE: "7.2.x"},
        {caller.TASK: "t1", caller.FENCE: "7." + "9" * 99},
    ],
)
def test_malformed_headers_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        caller.named(given)
