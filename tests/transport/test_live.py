"""Following mailboxes and channels live, over the socket and over event streams."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest

from agentcom.client.hub import HubClient
from agentcom.hub import feeds, followers
from agentcom.model.channel import ChannelKind, ChannelRole
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.identity import Role
from agentcom.model.message import Delivery
from agentcom.model.replies import Done
from agentcom.protocol import calls, frames, told
from agentcom.protocol.live import LetterFrame, LogLevelFrame, LogWanted
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import PATIENCE_S, until

PRIVATE = ChannelKind.PRIVATE


@dataclass
class Person:
    """Someone with a client."""

    name: str
    token: str
    client: HubClient

    async def do(self, call: calls.Call, kind: Any = told.ChannelShown) -> Any:
        return await self.client.http.do(call, kind)

    async def post(self, channel: str, *texts: str) -> None:
        for text in texts:
            await self.do(calls.ChannelPost(channel=channel, body=text), told.Sent)


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


@pytest.fixture
async def ann(hub: RunningHub) -> AsyncIterator[Person]:
    async with await HubClient.connect(hub.url, hub.admin_token, proxy=False) as client:
        yield Person("ann", hub.admin_token, client)


@pytest.fixture
async def eve(hub: RunningHub) -> AsyncIterator[Person]:
    token = (await hub.user("eve", Role.SUBMITTER)).token
    async with await HubClient.connect(hub.url, token, proxy=False) as client:
        yield Person("eve", token, client)


async def take(letters: AsyncIterator[LetterFrame], count: int) -> list[tuple[int, str]]:
    async with asyncio.timeout(PATIENCE_S):
        found = [(await anext(letters)).letter for _ in range(count)]
    return [(letter.seq, letter.message.body) for letter in found]


async def test_what_is_stored_comes_first_and_then_what_is_posted(ann: Person, eve: Person) -> None:
    await ann.do(calls.ChannelCreate(channel="dev"))
    await ann.post("dev", "a", "b")

    async with eve.client.listening("channel/dev") as letters:
        assert await take(letters, 2) == [(1, "a"), (2, "b")]
        await ann.post("dev", "c")
        assert await take(letters, 1) == [(3, "c")]


async def test_who_wants_only_what_is_new_gets_nothing_older(ann: Person, eve: Person) -> None:
    await ann.post("project", "old")

    async with eve.client.listening("channel/project", live_only=True) as letters:
        await ann.post("project", "new")
        assert await take(letters, 1) == [(2, "new")]


async def test_ones_own_mailbox_is_followed_and_no_other(ann: Person, eve: Person) -> None:
    async with eve.client.listening("mail") as letters:
        await ann.do(calls.MessageSend(to=("eve",), body="for eve"), told.Sent)
        await eve.do(calls.MessageSend(to=("ann",), body="for ann"), told.Sent)
        await ann.post("project", "@eve look")

        assert await take(letters, 2) == [(1, "for eve"), (2, "@eve look")]


async def test_a_letter_is_delivered_once_a_program_that_follows_the_mailbox_has_it(
    ann: Person, eve: Person
) -> None:
    send = calls.MessageSend(to=("user:eve",), body="hello")
    early = await ann.do(send, told.Sent)

    async with eve.client.listening("mail") as letters:
        await take(letters, 1)
        late = await ann.do(send, told.Sent)
        await take(letters, 1)

        for sent in (early, late):
            show = calls.MessageShow(message=sent.message)
            await until(partial(_is_delivered, ann, show))


async def _is_delivered(ann: Person, show: calls.MessageShow) -> bool:
    (place,) = (await ann.do(show, told.MessageShown)).to
    return place.state is Delivery.DELIVERED


async def test_whoever_is_removed_from_a_private_channel_hears_no_more_of_it(
    ann: Person, eve: Person
) -> None:
    await ann.do(calls.ChannelCreate(channel="den", kind=PRIVATE))
    await ann.do(calls.ChannelMember(channel="den", name="eve"))
    async with eve.client.listening("channel/den") as letters:
        await ann.post("den", "a")
        assert await take(letters, 1) == [(1, "a")]

        await ann.do(calls.ChannelMember(channel="den", name="eve", role=None))
        await ann.post("den", "secret")

        with pytest.raises(NotFound):
            await take(letters, 1)


async def test_who_was_made_a_member_again_can_follow_again(ann: Person, eve: Person) -> None:
    await ann.do(calls.ChannelCreate(channel="den", kind=PRIVATE))
    for role in (ChannelRole.MEMBER, None, ChannelRole.MEMBER):
        await ann.do(calls.ChannelMember(channel="den", name="eve", role=role))

    async with eve.client.listening("channel/den") as letters:
        await ann.post("den", "a")
        assert await take(letters, 1) == [(1, "a")]


async def test_a_deleted_channel_ends_for_all_who_follow_it(ann: Person, eve: Person) -> None:
    await ann.do(calls.ChannelCreate(channel="dev"))
    await ann.do(calls.ChannelChange(channel="dev", archived=True))
    async with eve.client.listening("channel/dev") as letters:
        await ann.do(calls.ChannelDelete(channel="dev"), Done)

        with pytest.raises(NotFound):
            await take(letters, 1)


async def test_what_cannot_be_followed_is_refused_by_its_code(ann: Person, eve: Person) -> None:
    await ann.do(calls.ChannelCreate(channel="den", kind=PRIVATE))
    await ann.post("project", "a")

    for log, after, wrong in (
        ("channel/den", 0, NotFound),
        ("channel/nope", 0, NotFound),
        ("channel/", 0, InvalidInput),
        ("mailbox", 0, InvalidInput),
    ):
        with pytest.raises(wrong):
            async with eve.client.listening(log, after):
                pass


async def test_a_reader_of_a_restored_hub_starts_over(ann: Person, eve: Person) -> None:
    await ann.post("project", "a")

    async with eve.client.listening("channel/project", 7) as letters:
        assert await take(letters, 1) == [(1, "a")]


async def test_after_a_break_it_goes_on_behind_the_last_letter(ann: Person, eve: Person) -> None:
    async with eve.client.listening("channel/project") as letters:
        await ann.post("project", "a")
        assert await take(letters, 1) == [(1, "a")]
        connection = eve.client._connection
        assert connection is not None
        connection._socket.transport.abort()
        await ann.post("project", "b", "c")

        assert await take(letters, 2) == [(2, "b"), (3, "c")]


async def test_who_begins_at_the_newest_misses_nothing_by_a_break(ann: Person, eve: Person) -> None:
    await ann.post("project", "old")
    async with eve.client.listening("channel/project", live_only=True) as letters:
        connection = eve.client._connection
        assert connection is not None
        connection._socket.transport.abort()
        await ann.post("project", "while away")

        assert await take(letters, 1) == [(2, "while away")]


async def test_a_slow_reader_is_let_go_and_misses_nothing(
    ann: Person, eve: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with eve.client.listening("channel/project") as letters:
        await ann.post("project", "a")
        assert await take(letters, 1) == [(1, "a")]
        first = eve.client._connection
        monkeypatch.setattr(followers, "SLOW_BYTES", -1)
        await ann.post("project", "b")
        monkeypatch.setattr(followers, "SLOW_BYTES", feeds.SLOW_BYTES)
        await ann.post("project", "c")

        assert await take(letters, 2) == [(2, "b"), (3, "c")]
        assert eve.client._connection is not first


async def test_many_letters_are_read_page_by_page_while_more_are_posted(
    ann: Person, eve: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "PAGE", 2)
    await ann.post("project", *map(str, range(1, 8)))

    async with eve.client.listening("channel/project") as letters:
        await ann.post("project", *map(str, range(8, 12)))
        assert await take(letters, 11) == [(n, str(n)) for n in range(1, 12)]


async def test_who_follows_twice_gets_each_once(ann: Person, eve: Person) -> None:
    async with (
        eve.client.listening("channel/project") as first,
        eve.client.listening("channel/project") as second,
    ):
        await ann.post("project", "a", "b")
        for letters in (first, second):
            assert await take(letters, 2) == [(1, "a"), (2, "b")]


# Event streams ------------------------------------------------------------------------------------


class Stream:
    """An event stream, event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def event(self) -> dict[str, str]:
        """Return the next event's fields; an empty one if the stream is over."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                if not line and fields:
                    return fields
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
        return fields

    async def letter(self) -> tuple[str, str]:
        found = await self.event()
        assert found["event"] == "letter"
        frame = msgspec.json.decode(found["data"], type=LetterFrame)
        return found["id"], frame.letter.message.body


@pytest.fixture
async def web(hub: RunningHub, eve: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with hub.client(eve.token) as client:
        client.headers["Accept"] = "text/event-stream"
        yield client


async def test_a_stream_says_where_it_begins_and_goes_on_from_there(
    ann: Person, web: httpx.AsyncClient
) -> None:
    await ann.post("project", "old")

    async with web.stream("GET", "/api/v1/channels/project/events") as response:
        stream = Stream(response)
        assert "retry" in await stream.event()
        assert await stream.event() == {"id": "1"}
        await ann.post("project", "new")
        assert await stream.letter() == ("2", "new")

    await ann.post("project", "newer")
    again = {"Last-Event-ID": "1"}
    async with web.stream("GET", "/api/v1/channels/project/events", headers=again) as response:
        stream = Stream(response)
        found = [await stream.event() for _ in range(2)]
        assert found[1] == {"id": "1"}
        assert [await stream.letter() for _ in range(2)] == [("2", "new"), ("3", "newer")]


async def test_a_mailbox_is_a_stream_too(ann: Person, web: httpx.AsyncClient) -> None:
    await ann.do(calls.MessageSend(to=("eve",), body="hello"), told.Sent)

    async with web.stream("GET", "/api/v1/mail/events", params={"after": 0}) as response:
        stream = Stream(response)
        await stream.event()
        await stream.event()
        assert await stream.letter() == ("1", "hello")


async def test_a_stream_of_a_private_channel_ends_with_membership(
    ann: Person, web: httpx.AsyncClient
) -> None:
    await ann.do(calls.ChannelCreate(channel="den", kind=PRIVATE))
    await ann.do(calls.ChannelMember(channel="den", name="eve"))

    async with web.stream("GET", "/api/v1/channels/den/events") as response:
        stream = Stream(response)
        await stream.event()
        await stream.event()
        await ann.do(calls.ChannelMember(channel="den", name="eve", role=None))
        await ann.post("den", "secret")
        ended = await stream.event()
        assert (ended["event"], await stream.event()) == ("ended", {})


@pytest.mark.parametrize(
    ("path", "accept", "status", "code"),
    [
        ("channels/nope/events", "text/event-stream", 404, "not_found"),
        ("channels/project/events?after=1", "text/event-stream", 422, "cursor_ahead"),
        ("channels/project/events?after=x", "text/event-stream", 422, "invalid_input"),
        ("mail/events", "application/json", 400, "unsupported"),
    ],
)
async def test_what_is_no_stream_is_refused(
    web: httpx.AsyncClient, path: str, accept: str, status: int, code: str
) -> None:
    response = await web.get(f"/api/v1/{path}", headers={"Accept": accept})

    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_machine_follows_no_mailbox_of_its_own(hub: RunningHub) -> None:
    token = (await hub.machine("box")).token

    async with hub.client(token) as box:
        response = await box.get("/api/v1/mail/events", headers={"Accept": "text/event-stream"})

    assert response.json()["code"] == "invalid_input"


def test_frames_of_what_is_followed_say_which_log() -> None:
    kinds = [kind for kind in frames.FromHub.__args__ if kind.__module__.endswith("live")]

    asks = (LogWanted, LogLevelFrame)  # of a machine
    assert all("log" in kind.__struct_fields__ for kind in kinds if kind not in asks)
    assert len(kinds) == 5
