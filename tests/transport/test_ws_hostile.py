"""Hostile input on the socket, slow readers, and a hub that goes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentcom.hub import feeds
from agentcom.model.identity import Role
from agentcom.model.limits import FRAME_BYTES, PROMPT_BYTES
from agentcom.model.task import TaskSpec
from agentcom.protocol import codec, frames
from agentcom.testing.hub_site import HubSite, hub_site
from tests.transport.peers import client, hello, machine, peer
from tests.transport.ws_acts import submit


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b'{"type":"dance"}', "unsupported"),
        (b"{}", "invalid_input"),
        (b"[]", "invalid_input"),
        (b"not json", "malformed"),
        (b"", "malformed"),
        (b'{"type":"submit","key":"k"}', "invalid_input"),
        (b'{"type":"submit","key":"k","tasks":[]}', "invalid_input"),
        (b'{"type":"submit","key":"k","tasks":"x"}', "invalid_input"),
        (b'{"type":"cancel","key":5,"task":"t"}', "invalid_input"),
        (b'{"type":"hello"}', "malformed"),
        (b'{"type":"subscribe","key":"k","log":"*","after":1e400}', None),
        (b"[" * 5_000, None),
        (b'{"type":"submit","key":"k","tasks":[' + b'{"title":' * 3_000, None),
    ],
)
async def test_a_frame_that_makes_no_sense_is_refused_and_forgotten(
    hub: HubSite, payload: bytes, code: str | None
) -> None:
    async with client(hub) as it:
        error = await it.refusal(payload)

        assert code in (None, error.code)
        await it.ask(submit())


async def test_unknown_fields_are_ignored(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(
            b'{"type":"submit","key":"k","tasks":[{"title":"t","prompt":"p","x":1}],"y":2}'
        )

        await it.hear(frames.ReplyFrame)


async def test_twenty_senseless_frames_in_a_row_are_enough(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(*[b"nonsense"] * 19)
        await it.say(submit())  # sense in between counts anew
        await it.say(*[b"nonsense"] * 20)

        assert await it.close_code() == 1008


async def test_unknown_types_are_no_offence(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(*[b'{"type":"from_the_future"}'] * 40)
        for _ in range(40):
            await it.hear(frames.ErrorFrame)

        await it.ask(submit())


async def test_a_frame_over_the_limit_closes_with_1009(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(b"x" * (FRAME_BYTES + 1))

        assert await it.close_code() == 1009


async def test_the_largest_greeting_is_taken(hub: HubSite) -> None:
    async with machine(hub, agents=tuple(f"a{n}" for n in range(64))) as it:
        await it.hear(frames.Welcome)
    token = await hub.machine("other")
    async with peer(hub, token) as it:
        labels = {f"{n}": "x" * 1_000 for n in range(200)}
        frame = codec.encode(hello("z"))
        big = frame.replace(b'"runtime"', b'"labels":' + str(labels).replace("'", '"').encode()
                            + b',"runtime"')  # fmt: skip
        assert 200_000 < len(big) < FRAME_BYTES
        await it.say(big)
        await it.hear(frames.Welcome)


async def test_text_that_is_no_utf8_closes_with_1007(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(b'{"type":"\xff\xfe"}')

        assert await it.close_code() == 1007


async def test_binary_messages_are_not_spoken_here(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.socket.send(codec.encode(submit()))

        assert await it.close_code() == 1003


async def test_a_prompt_over_its_bound_is_refused(hub: HubSite) -> None:
    async with client(hub) as it:
        error = await it.refusal(submit("k", TaskSpec(title="t", prompt="x" * (PROMPT_BYTES + 1))))

    assert (error.code, error.key) == ("invalid_input", "k")


async def test_a_reader_that_is_too_slow_is_closed_and_resumes(
    hub: HubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await hub.token()
    async with client(hub, token) as slow:
        await slow.ask(frames.Subscribe(key="s", log="*"))
        monkeypatch.setattr(feeds, "SLOW_BYTES", -1)  # whatever is on its way is too much

        await slow.say(submit())

        assert await slow.close_code() == 4408
    monkeypatch.undo()
    async with client(hub, token) as again:
        await again.ask(frames.Subscribe(key="s", log="*"))
        assert (await again.hear(frames.EventFrame)).seq == 1


async def test_a_hub_that_stops_says_when_to_come_back(hub: HubSite) -> None:
    async with client(hub) as it:
        hub.switchboard.drain(hub.engine._rng)

        assert (await it.hear(frames.Drain)).retry_after_ms >= 1_000
        assert await it.close_code() == 1012


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    sqlite = pytest.importorskip("agentcom.store.sqlite")
    path = tmp_path / "hub.db"
    async with hub_site(sqlite.SqliteStore(path)) as hub, client(hub) as it:
        (task,) = (await it.ask(submit()))["tasks"]
        token = await hub.token("bob", Role.VIEWER)

    async with hub_site(sqlite.SqliteStore(path)) as hub, client(hub, token) as it:
        await it.ask(frames.Subscribe(key="s", log=f"task/{task}"))
        assert (await it.hear(frames.EventFrame)).event.kind == "submitted"
