"""Both doors of one hub: what comes in by one is seen through the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.result import Result, ResultStatus
from agentcom.protocol import codec, frames
from agentcom.testing.hub import RunningHub, running_hub

TASKS = "/api/v1/tasks"
SUBMITTED = {"title": "t", "command": ["true"]}


@asynccontextmanager
async def machine(hub: RunningHub, name: str = "box") -> AsyncIterator[ClientConnection]:
    """Connect a new machine with one agent that runs commands."""
    admitted = await hub.machine(name)
    headers = {"Authorization": f"Bearer {admitted.token}"}
    async with connect(
        hub.ws_url,
        subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        additional_headers=headers,
        proxy=None,
    ) as socket:
        spec = AgentSpec(name=AgentId(f"{name}-ada"), runtime="command")
        await socket.send(codec.encode(frames.MachineHello(agents=(spec,))), text=True)
        yield socket


async def received(socket: ClientConnection) -> frames.FromHub:
    data = await socket.recv(decode=False)
    assert isinstance(data, bytes)
    return codec.decode_from_hub(data)


async def test_a_task_goes_from_http_to_a_machine_and_its_result_back() -> None:
    async with running_hub() as hub, machine(hub) as socket:
        await received(socket)
        made = await hub.http.post(TASKS, json=SUBMITTED)
        assign = await received(socket)
        assert isinstance(assign, frames.Assign)
        fence = assign.assignment.fence
        task = assign.assignment.task
        await socket.send(codec.encode(frames.Accept(task=task, fence=fence)), text=True)
        log = frames.Progress(task=task, fence=fence, text="busy", tool="make", log="one\n")
        await socket.send(codec.encode(log), text=True)
        result = Result(status=ResultStatus.DONE, summary="done")
        await socket.send(
            codec.encode(frames.Finish(task=task, fence=fence, result=result)), text=True
        )
        acknowledged = await received(socket)

        shown = (await hub.http.get(f"{TASKS}/{task}")).json()
        results = (await hub.http.get(f"{TASKS}/{task}/results")).json()["results"]
        logs = (await hub.http.get(f"{TASKS}/{task}/logs")).json()

    assert made.json()["tasks"] == [task]
    assert isinstance(acknowledged, frames.Ack)
    assert shown["task"]["state"] == "completed"
    assert results == [shown["result"]]
    assert logs["text"] == "one\n"


async def test_machines_get_the_lease_that_the_hub_is_set_to() -> None:
    async with running_hub(lease_ttl_ms=3_000) as hub, machine(hub) as socket:
        welcome = await received(socket)

    assert isinstance(welcome, frames.Welcome)
    assert welcome.welcomed.ttl_ms == 3_000


async def test_agents_and_machines_are_shown_with_what_they_do() -> None:
    async with running_hub() as hub, machine(hub) as socket:
        await received(socket)
        await hub.http.post(TASKS, json=SUBMITTED)
        await received(socket)

        agent = (await hub.http.get("/api/v1/agents/box-ada")).json()
        shown = (await hub.http.get("/api/v1/machines/box")).json()
        status = (await hub.http.get("/api/v1/status")).json()

    assert (agent["state"], agent["slots_used"]) == ("assigned", 1)
    assert (shown["connected"], shown["agents"]) == (True, ["box-ada"])
    assert status["machines_connected"] == 1


async def test_removing_a_machine_closes_its_socket() -> None:
    async with running_hub() as hub, machine(hub) as socket:
        await received(socket)

        await hub.http.delete("/api/v1/machines/box")

        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4401


async def test_a_hub_that_stops_says_when_to_come_back() -> None:
    async with running_hub() as hub, machine(hub) as socket:
        await received(socket)

        await hub.http.post("/api/v1/drain")

        goodbye = await received(socket)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert isinstance(goodbye, frames.Drain)
        assert goodbye.retry_after_ms > 0
        assert socket.close_code == 1012
