"""Who is there: listed with a filter, and followed as it changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from agentcom.client.follow import Follow
from agentcom.client.hub import HubClient
from agentcom.hub import presence_watch
from agentcom.model import limits
from agentcom.model.agent import AgentSpec
from agentcom.model.errors import InvalidInput
from agentcom.model.identity import Role
from agentcom.model.ids import AgentId
from agentcom.model.task import TaskSpec
from agentcom.protocol import calls, frames
from agentcom.protocol.live import PresenceFrame
from agentcom.protocol.told import PresencesShown
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import PATIENCE_S
from tests.transport.peers import Peer, peer

HOST = {"os": "Linux 6.1", "arch": "x86_64", "cpus": "8"}


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningHub]:
    monkeypatch.setattr(presence_watch, "PRESENCE_MS", 1)
    async with running_hub() as running:
        yield running


@pytest.fixture
async def client(hub: RunningHub) -> AsyncIterator[HubClient]:
    async with await HubClient.connect(hub.url, hub.admin_token, proxy=False) as it:
        yield it


@asynccontextmanager
async def machine(hub: RunningHub, name: str, **agents: tuple[str, ...]) -> AsyncIterator[Peer]:
    """Connect a machine whose agents have capabilities."""
    token = (await hub.machine(name)).token
    specs = tuple(
        AgentSpec(name=AgentId(agent), runtime="test", capabilities=has)
        for agent, has in agents.items()
    )
    async with peer(hub, token) as it:  # type: ignore[arg-type]  # it has a url, too
        await it.say(frames.MachineHello(agents=specs, host=HOST))
        await it.until(frames.Welcome)
        yield it


async def there(client: HubClient, **asked: Any) -> dict[str, str]:
    found = await client.http.do(calls.PresenceList(**asked), PresencesShown)
    return {one.address: one.state for one in found.present}


async def test_agents_and_people_are_listed_with_what_they_do(
    hub: RunningHub, client: HubClient
) -> None:
    await hub.user("eve", Role.VIEWER)
    async with machine(hub, "box", bob=("python=3.11",), kim=()):
        (task,) = (
            await client.submit([TaskSpec(title="look", prompt="p", needs=("agent=bob",))])
        ).tasks

        found = await client.http.do(calls.PresenceList(), PresencesShown)
        bob, kim, ann, eve = found.present
        assert (bob.address, bob.state, bob.task, bob.title) == (
            "agent:bob",
            "assigned",
            task,
            "look",
        )
        assert (bob.machine, bob.host) == ("box", HOST)
        assert [(one.address, one.state) for one in (kim, ann, eve)] == [
            ("agent:kim", "idle"),
            ("user:ann", "online"),
            ("user:eve", "offline"),
        ]
        assert await there(client, needs=("python>=3.11",)) == {"agent:bob": "assigned"}
        assert await there(client, states=("idle", "online")) == {
            "agent:kim": "idle",
            "user:ann": "online",
        }


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_a_listing_goes_on_where_it_ended(
    hub: RunningHub, client: HubClient, limit: int
) -> None:
    await hub.user("eve", Role.VIEWER)
    async with machine(hub, "box", bob=(), kim=()):
        names: list[str] = []
        after = None
        while True:
            call = calls.PresenceList(after=after, limit=limit)
            page = await client.http.do(call, PresencesShown)
            names += [one.address for one in page.present]
            after = page.next
            if after is None:
                break

    assert names == ["agent:bob", "agent:kim", "user:ann", "user:eve"]


async def test_what_nobody_can_be_is_refused(client: HubClient) -> None:
    for asked in ({"states": ("asleep",)}, {"needs": ("=",)}):
        with pytest.raises(InvalidInput):
            await there(client, **asked)
        with pytest.raises(InvalidInput):
            async with client.watching(**asked):
                pass


async def test_what_a_machine_says_too_much_of_is_left_out(
    hub: RunningHub, client: HubClient
) -> None:
    token = (await hub.machine("box")).token
    host = {f"fact{n}": "x" * 1_000 for n in range(100)}
    agents = (AgentSpec(name=AgentId("bob"), runtime="test"),)
    async with peer(hub, token) as it:  # type: ignore[arg-type]  # it has a url, too
        await it.say(frames.MachineHello(agents=agents, host=host))
        await it.until(frames.Welcome)

        found = await client.http.do(calls.PresenceList(), PresencesShown)
        (bob, _) = found.present
        assert len(bob.host) == limits.HOST_FACTS_MAX
        assert {len(value) for value in bob.host.values()} == {limits.HOST_CHARS}


# Following ----------------------------------------------------------------------------------------


async def news(watch: Follow[PresenceFrame]) -> PresenceFrame:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(watch)


async def until(watch: Follow[PresenceFrame], address: str, state: str) -> list[str]:
    """Return the states that someone was told to be in, up to the wanted one."""
    told: list[str] = []
    while not told or told[-1] != state:
        frame = await news(watch)
        told += [one.state for one in frame.present if one.address == address]
        told += ["gone" for who in frame.gone if who == address]
    return told


async def test_at_first_all_are_told_and_then_who_changes(
    hub: RunningHub, client: HubClient
) -> None:
    async with machine(hub, "first", kim=()), client.watching() as watch:
        frame = await news(watch)
        assert frame.first
        assert {one.address for one in frame.present} == {"agent:kim", "user:ann"}

        async with machine(hub, "box", bob=()) as box:
            frame = await news(watch)
            assert [(one.address, one.state) for one in frame.present] == [("agent:bob", "idle")]
            assert not frame.first
            await client.submit([TaskSpec(title="t", prompt="p", needs=("agent=bob",))])
            assign = (await box.until(frames.Assign)).assignment
            await box.say(frames.Accept(task=assign.task, fence=assign.fence))
            assert (await until(watch, "agent:bob", "working"))[-1] == "working"
        assert await until(watch, "agent:bob", "offline") == ["offline"]


async def test_people_come_and_go(hub: RunningHub, client: HubClient) -> None:
    token = (await hub.user("eve", Role.VIEWER)).token
    async with client.watching() as watch:
        await news(watch)
        async with await HubClient.connect(hub.url, token, proxy=False):
            assert await until(watch, "user:eve", "online") == ["online"]
        assert await until(watch, "user:eve", "offline") == ["offline"]


async def test_a_watcher_hears_only_of_those_it_asked_for(
    hub: RunningHub, client: HubClient
) -> None:
    async with AsyncExitStack() as stack:
        watch = await stack.enter_async_context(
            client.watching(needs=("python",), states=("idle",))
        )
        assert (await news(watch)).present == ()
        await stack.enter_async_context(machine(hub, "one", kim=()))
        box = await stack.enter_async_context(machine(hub, "two", bob=("python",)))
        frame = await news(watch)
        assert [one.address for one in frame.present] == ["agent:bob"]

        await client.submit([TaskSpec(title="t", prompt="p", needs=("agent=bob",))])
        await box.until(frames.Assign)
        assert (await news(watch)).gone == ("agent:bob",)


async def test_what_changes_between_two_looks_is_told_once(
    hub: RunningHub, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(hub, "box", bob=()) as box, client.watching() as watch:
        await news(watch)
        monkeypatch.setattr(presence_watch, "PRESENCE_MS", 500)
        await client.submit([TaskSpec(title="a", prompt="p")])
        await until(watch, "agent:bob", "assigned")  # from here on it is long until the next look
        assign = (await box.until(frames.Assign)).assignment
        await box.say(frames.Accept(task=assign.task, fence=assign.fence))
        await client.cancel(assign.task)
        await box.until(frames.StopFrame)
        await box.say(frames.StoppedFrame(task=assign.task, fence=assign.fence))
        await box.until(frames.Ack)

        assert await until(watch, "agent:bob", "idle") == ["idle"]


async def test_after_a_break_a_watcher_is_told_everything_anew(
    hub: RunningHub, client: HubClient
) -> None:
    async with machine(hub, "box", bob=()), client.watching() as watch:
        assert (await news(watch)).first
        assert client._connection is not None
        client._connection._socket.transport.abort()

        async with asyncio.timeout(PATIENCE_S):
            while not (frame := await anext(watch)).first:
                pass
        assert "agent:bob" in {one.address for one in frame.present}


async def test_a_slow_watcher_is_told_nothing_and_then_everything(
    hub: RunningHub, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client.watching() as watch:
        await news(watch)
        monkeypatch.setattr(presence_watch, "BEHIND_BYTES", -1)
        async with machine(hub, "box", bob=()):
            await there(client)
            monkeypatch.undo()
            monkeypatch.setattr(presence_watch, "PRESENCE_MS", 1)

            frame = await news(watch)
            assert {one.address for one in frame.present} >= {"agent:bob"}


async def test_an_event_stream_tells_the_same(hub: RunningHub) -> None:
    headers = {"Accept": "text/event-stream"}
    async with machine(hub, "box", bob=()), hub.client(hub.admin_token) as web:
        asked = {"states": "idle,working"}
        async with web.stream(
            "GET", "/api/v1/presence/events", params=asked, headers=headers
        ) as response:
            async with asyncio.timeout(PATIENCE_S):
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        break
            frame = msgspec.json.decode(line.removeprefix("data: "), type=PresenceFrame)
    assert (frame.first, [one.address for one in frame.present]) == (True, ["agent:bob"])
