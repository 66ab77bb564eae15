"""The client keeps its promises over lost answers, broken connections and restarts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.client import follow as follow_module
from agentcom.client.connection import ConnectionLost
from agentcom.client.dialling import Dial, NotReached
from agentcom.client.http import HttpCalls
from agentcom.client.hub import HubClient
from agentcom.core.facts import Cancel, Fact, Submit
from agentcom.hub import certificate
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.model import errors
from agentcom.model.rates import Rate
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec, TaskState
from agentcom.protocol import frames
from agentcom.testing.hub_site import HubSite, hub_site
from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport.problem import problem_bytes
from tests.transport.peers import machine

SPEC = TaskSpec(title="t", prompt="p")


class AtOnce:
    """Redials without a pause."""

    def random(self) -> float:
        return 0.0


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


@pytest.fixture
async def client(hub: HubSite) -> AsyncIterator[HubClient]:
    async with await connected(hub) as it:
        yield it


async def connected(hub: HubSite) -> HubClient:
    return await HubClient.connect(hub.url, await hub.token(), rng=AtOnce(), proxy=False)


async def kinds(events: AsyncIterator[Any], count: int) -> list[str]:
    async with asyncio.timeout(PATIENCE_S):
        return [(await anext(events)).event.kind.value for _ in range(count)]


async def work(hub: HubSite, count: int) -> None:
    """Be a machine that finishes `count` tasks."""
    done = Result(status=ResultStatus.DONE)
    async with machine(hub) as it:
        for _ in range(count):
            held = (await it.until(frames.Assign)).assignment
            finish = frames.Finish(task=held.task, fence=held.fence, result=done)
            await it.say(frames.Accept(task=held.task, fence=held.fence), finish)
            await it.until(frames.Ack)


async def test_a_task_is_submitted_followed_and_waited_for(hub: HubSite, client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks
    working = asyncio.create_task(work(hub, 1))

    end = await client.wait(task, timeout_s=PATIENCE_S)

    assert end.state is TaskState.COMPLETED
    async with client.following(task) as events:
        seen = await kinds(events, 4)
    assert seen == ["submitted", "assigned", "accepted", "completed"]
    await working


async def test_a_task_is_cancelled(client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks

    assert (await client.cancel(task, "no longer needed")).state is TaskState.CANCELLED
    end = await client.wait(task, timeout_s=PATIENCE_S)
    assert end.detail == "no longer needed"


async def test_the_same_key_happens_once(client: HubClient) -> None:
    first = await client.submit([SPEC], "k1")

    assert await client.submit([SPEC], "k1") == first
    with pytest.raises(errors.KeyReused):
        await client.submit([SPEC, SPEC], "k1")


async def test_what_was_not_answered_is_asked_again_on_the_next_connection(
    hub: HubSite, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Fact] = []
    put = hub.engine.put

    def no_answer(fact: Fact) -> int:
        if not isinstance(fact.body, Submit):
            return put(fact)
        asked.append(fact)
        if len(asked) > 1:
            return put(fact)
        # The hub has it, but the answer never leaves.
        hub.switchboard.after_turn(_cut(hub))
        return put(msgspec.structs.replace(fact, reply_to=None))

    monkeypatch.setattr(hub.engine, "put", no_answer)

    (task,) = (await client.submit([SPEC])).tasks

    assert [type(fact.body) for fact in asked] == [Submit, Submit]
    assert asked[0].key == asked[1].key
    assert list(hub.engine.view.tasks) == [task]


def _cut(hub: HubSite) -> Any:
    def cut() -> bool:
        for line in hub.switchboard._connections.values():
            line._socket.abort()  # type: ignore[attr-defined]  # it is a session
        return True

    return cut


async def test_following_goes_on_after_the_hub_was_away(hub: HubSite, client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks
    async with client.following(task) as events, client.following() as everything:
        assert await kinds(events, 1) == await kinds(everything, 1) == ["submitted"]
        await hub.unlisten()
        await hub.engine.ask(Fact(body=Cancel(task)))
        await hub.listen()

        assert await kinds(events, 1) == await kinds(everything, 1) == ["cancelled"]
        assert events.cursor == everything.cursor == 2


async def test_a_reader_ahead_of_a_restored_hub_starts_over(client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks

    async with client.following(task, after=1_000) as events:
        assert await kinds(events, 1) == ["submitted"]


async def test_a_hub_that_was_restored_meanwhile_is_read_from_its_start(
    hub: HubSite, client: HubClient
) -> None:
    await client.submit([SPEC])
    async with client.following() as events:
        await kinds(events, 1)
        await hub.unlisten()
        hub.engine.view.incarnation += 1  # its event 1 is another one than that which was read
        await hub.listen()

        assert await kinds(events, 1) == ["submitted"]


async def test_a_reader_that_started_over_while_it_subscribed_misses_nothing(
    client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.submit([SPEC])
    async with client.following() as events:
        await kinds(events, 1)
        request = client._request

        async def late(*asked: Any) -> Any:
            monkeypatch.undo()
            events.restart()
            return await request(*asked)

        monkeypatch.setattr(client, "_request", late)
        await client._follows._subscribe("*")

        assert await kinds(events, 1) == ["submitted"]


async def test_a_live_reader_of_a_restored_hub_starts_over_live(
    hub: HubSite, client: HubClient
) -> None:
    async with client.following(live_only=True) as events:
        await client.submit([SPEC])
        await kinds(events, 1)
        events.cursor = 1_000  # what it has seen was lost

        hub.switchboard.drain(AtOnce())
        await hub.until(lambda: hub.feeds.follower_count == 0)
        await hub.until(lambda: hub.feeds.follower_count == 1)
        (task,) = (await client.submit([SPEC])).tasks

        async with asyncio.timeout(PATIENCE_S):
            assert (await anext(events)).event.task == task  # type: ignore[union-attr]


async def test_a_drained_client_comes_back(hub: HubSite, client: HubClient) -> None:
    hub.switchboard.drain(AtOnce())

    assert (await client.submit([SPEC])).tasks


async def test_a_reader_that_is_behind_misses_nothing(
    hub: HubSite, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "EVENTS_MAX", 3)
    async with client.following() as events:
        for _ in range(10):
            await client.submit([SPEC, SPEC])

        sequences: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(sequences) < 20:
                news = await anext(events)
                assert isinstance(news, frames.EventFrame)
                sequences.append(news.seq)

    assert sequences == list(range(1, 21))


async def test_a_second_reader_starts_from_its_own_place(client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks
    async with client.following(task) as first:
        assert await kinds(first, 1) == ["submitted"]
        async with client.following(task) as second, client.following() as third:
            await client.cancel(task)

            assert await kinds(first, 1) == ["cancelled"]
            assert await kinds(second, 2) == ["submitted", "cancelled"]
            assert await kinds(third, 2) == ["submitted", "cancelled"]


async def test_a_live_reader_sees_only_what_comes(client: HubClient) -> None:
    await client.submit([SPEC])
    async with client.following(live_only=True) as events:
        (task,) = (await client.submit([SPEC])).tasks

        async with asyncio.timeout(PATIENCE_S):
            news = await anext(events)

        assert isinstance(news, frames.EventFrame)
        assert news.event.task == task


async def test_a_generator_follows_too(client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks
    events = client.follow(task)

    assert await kinds(events, 1) == ["submitted"]
    await events.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_following_what_is_not_there_is_an_error(client: HubClient) -> None:
    with pytest.raises(errors.NotFound):
        async with client.following("none"):
            pass


async def test_waiting_has_an_end(client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks

    with pytest.raises(errors.Timeout):
        await client.wait(task, timeout_s=0.02)


async def test_an_answer_that_does_not_come_is_a_timeout(hub: HubSite, client: HubClient) -> None:
    assert hub._running is not None
    hub._running.cancel()

    with pytest.raises(errors.Timeout):
        await client.submit([SPEC], timeout_s=0.02)


async def test_a_client_that_is_too_fast_waits_by_itself() -> None:
    rates = {traffic: Rate(1, 20, 1) for traffic in Traffic}
    async with hub_site(budgets=Budgets(rates)) as hub, await connected(hub) as client:
        replies = await asyncio.gather(*(client.submit([SPEC]) for _ in range(3)))

    assert len({reply.tasks for reply in replies}) == 3


async def test_a_token_that_ends_fails_what_waits(hub: HubSite, client: HubClient) -> None:
    (task,) = (await client.submit([SPEC])).tasks
    waiting = asyncio.create_task(client.wait(task))
    await hub.until(lambda: hub.feeds.follower_count > 0)
    (line,) = hub.switchboard._connections.values()

    hub.switchboard.revoke(line.identity.credential)

    with pytest.raises(errors.NotAuthenticated):
        await waiting
    with pytest.raises(errors.NotAuthenticated):
        await client.submit([SPEC])


async def test_a_closed_client_fails_what_waits(hub: HubSite) -> None:
    client = await connected(hub)
    (task,) = (await client.submit([SPEC])).tasks
    waiting = asyncio.create_task(client.wait(task))
    await asyncio.sleep(0)

    await client.close()

    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(ConnectionLost):
        await client.submit([SPEC])


async def test_no_hub_is_told_at_once(hub: HubSite) -> None:
    await hub.unlisten()

    with pytest.raises(NotReached):
        await connected(hub)


# HTTP ---------------------------------------------------------------------------------------------


class Echoed(msgspec.Struct):
    method: str
    path: str
    query: str
    key: str
    body: str


def header(scope: Any, name: bytes) -> str:
    return next((value.decode() for key, value in scope["headers"] if key == name), "")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was asked; say no to `/api/v1/no`."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    status, payload = 200, b""
    if scope["path"].endswith("/no"):
        status, payload = 409, problem_bytes(errors.NameTaken("that is mine"))
    elif scope["path"].endswith("/odd"):
        payload = b"<html>"
    else:
        assert header(scope, b"authorization").startswith("Bearer acm_usr_")
        echoed = Echoed(
            scope["method"],
            scope["path"],
            scope["query_string"].decode(),
            header(scope, b"idempotency-key"),
            body.decode(),
        )
        payload = msgspec.json.encode(echoed)
    headers: Sequence[Any] = [(b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


@pytest.fixture
async def web(hub: HubSite) -> AsyncIterator[HubClient]:
    await hub.unlisten()
    await hub.listen(app=echo)
    async with await connected(hub) as it:
        yield it


async def test_a_page_is_read_and_decoded(web: HubClient) -> None:
    echoed = await web.get("/tasks", Echoed, {"state": "queued", "after": None, "limit": 5})

    assert (echoed.method, echoed.path, echoed.query) == (
        "GET",
        "/api/v1/tasks",
        "state=queued&limit=5",
    )


async def test_what_is_posted_has_a_key(web: HubClient) -> None:
    echoed = await web.post("/tasks", Echoed, {"a": 1}, key="k1")
    other = await web.post("/tasks", Echoed)

    assert (echoed.method, echoed.key, echoed.body) == ("POST", "k1", '{"a":1}')
    assert other.key
    assert other.body == ""


async def test_what_is_patched_has_a_key(web: HubClient) -> None:
    echoed = await web.patch("/tasks/t1", Echoed, {"version": 1})

    assert (echoed.method, echoed.body) == ("PATCH", '{"version":1}')
    assert echoed.key


async def test_a_problem_is_an_exception_of_its_class(web: HubClient) -> None:
    with pytest.raises(errors.NameTaken, match="that is mine"):
        await web.get("/no", Echoed)
    with pytest.raises(errors.MalformedInput):
        await web.get("/odd", Echoed)


async def test_a_hub_that_is_away_is_not_reached(hub: HubSite, web: HubClient) -> None:
    await hub.unlisten()

    with pytest.raises(NotReached):
        await web.get("/tasks", Echoed)
    with contextlib.suppress(NotReached, ConnectionLost):
        await web.close()


async def test_http_trusts_only_the_pinned_certificate(hub: HubSite, tmp_path: Path) -> None:
    made = certificate.ensure_certificate(tmp_path, ["127.0.0.1"])
    await hub.unlisten()
    await hub.listen(app=echo, tls=certificate.server_context(made))
    token = await hub.token()

    right = HttpCalls(Dial(url=hub.url, token=token, fingerprint=made.fingerprint, proxy=False))
    assert (await right.get("/tasks", Echoed)).method == "GET"
    await right.close()
    for wrong in ("00" * 32, None):
        other = HttpCalls(Dial(url=hub.url, token=token, fingerprint=wrong, proxy=False))
        with pytest.raises(NotReached):
            await other.get("/tasks", Echoed)
        await other.close()
