"""Agents reach the hub through their machine: each as itself, while its attempt runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agentcom.model.ids import Fence, TaskId
from agentcom.sidecar import endpoint as module
from agentcom.sidecar import forwarding
from agentcom.sidecar.config import Config
from agentcom.sidecar.endpoint import Endpoint
from agentcom.sidecar.machine_values import Key
from agentcom.sidecar.runtime.base import Access
from agentcom.testing.waiting import PATIENCE_S, until
from agentcom.transport.port import Port
from tests.client.fake_hub import TOKEN
from tests.sidecar.sidecar_world import config

KEY = Key(TaskId("t1"), Fence(7, 1))
OTHER = Key(TaskId("t2"), Fence(7, 1))
CALL = "/api/v1/calls/whoami"


@dataclass
class Hub:
    """Says what it was asked; at `/mcp` GET it opens a stream that only its reader ends."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    open: int = 0
    url: str = ""
    status: int = 201

    async def app(self, scope: Any, receive: Callable[[], Any], send: Callable[..., Any]) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = await forwarding.body_of(receive)
        path = f"{scope['path']}?{scope['query_string'].decode()}"
        self.asked.append({"path": path, "headers": headers, "body": body.decode()})
        if scope["method"] == "GET":
            await self._stream(receive, send)
            return
        kind = [(b"content-type", b"application/json"), (b"mcp-session-id", b"s1")]
        start = {"type": "http.response.start", "status": self.status, "headers": kind}
        await send({**start, "headers": [*kind, (b"set-cookie", b"x=1")]})
        await send({"type": "http.response.body", "body": b'{"ok":true}'})

    async def _stream(self, receive: Callable[[], Any], send: Callable[..., Any]) -> None:
        self.open += 1
        try:
            kind = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": kind})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.open -= 1


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub()
    port = Port(made.app, {})
    made.url = f"http://127.0.0.1:{await port.start('127.0.0.1', 0)}"
    yield made
    await port.stop(1.0)


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Config:
    return config(tmp_path, hub.url)


@contextlib.asynccontextmanager
async def agent(access: Access, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {access.token if token is None else token}"}
    url = access.url.removesuffix("/mcp")
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield client


@contextlib.asynccontextmanager
async def calling(machine: Config, key: Key = KEY) -> AsyncIterator[httpx.AsyncClient]:
    endpoint, folder = Endpoint(machine), machine.home.attempt(key.text)
    async with (
        endpoint.listening(),
        endpoint.serving(key, folder) as access,
        agent(access) as client,
    ):
        yield client


async def test_a_call_goes_on_with_the_machines_token_for_its_attempt(
    hub: Hub, machine: Config
) -> None:
    async with calling(machine) as client:
        forged = {"agentcom-task": "t9", "agentcom-fence": "9.9", "x-forwarded-for": "1.2.3.4"}
        keyed = {"Idempotency-Key": "k1", "Mcp-Session-Id": "s1", **forged}
        answer = await client.post(f"{CALL}?a=1", json={"b": 2}, headers=keyed)

    assert (answer.status_code, answer.json()) == (201, {"ok": True})
    assert answer.headers["mcp-session-id"] == "s1"
    assert "set-cookie" not in answer.headers
    (asked,) = hub.asked
    assert (asked["path"], asked["body"]) == (f"{CALL}?a=1", '{"b":2}')
    told = asked["headers"]
    assert told["authorization"] == f"Bearer {TOKEN}"
    assert (told["agentcom-task"], told["agentcom-fence"]) == ("t1", "7.1")
    assert (told["idempotency-key"], told["mcp-session-id"]) == ("k1", "s1")
    assert "x-forwarded-for" not in told


async def test_only_the_token_of_a_running_attempt_opens(hub: Hub, machine: Config) -> None:
    endpoint = Endpoint(machine)
    async with endpoint.listening():
        async with endpoint.serving(KEY, machine.home.attempt("a")) as access:
            codes = []
            for token in ("x", "wrong" * 9, TOKEN):
                async with agent(access, token) as client:
                    codes.append((await client.post(CALL)).status_code)
        async with agent(access) as late:
            answer = await late.post(CALL)

    assert codes == [401, 401, 401]
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert hub.asked == []


async def test_each_attempt_has_its_own_token(hub: Hub, machine: Config) -> None:
    endpoint = Endpoint(machine)
    async with (
        endpoint.listening(),
        endpoint.serving(KEY, machine.home.attempt("a")) as one,
        endpoint.serving(OTHER, machine.home.attempt("b")) as two,
    ):
        assert one.token != two.token
        for access in (one, two):
            async with agent(access) as client:
                await client.post(CALL)

    assert [asked["headers"]["agentcom-task"] for asked in hub.asked] == ["t1", "t2"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CALL),
        ("POST", "/api/v1/tasks"),
        ("POST", "/api/v1/calls/../tasks"),
        ("POST", "/api/v1/calls/%2e%2e/tasks"),
        ("PUT", "/mcp"),
        ("GET", "/api/v1/blobs/x"),
        ("GET", "/ws"),
    ],
)
async def test_nothing_else_is_forwarded(hub: Hub, machine: Config, method: str, path: str) -> None:
    async with calling(machine) as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert hub.asked == []


async def test_a_large_body_is_refused(hub: Hub, machine: Config) -> None:
    async with calling(machine) as client:
        answer = await client.post(CALL, content=b"x" * (forwarding.BODY_BYTES_MAX + 1))

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert hub.asked == []


async def test_a_large_answer_is_refused(
    hub: Hub, machine: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "ANSWER_BYTES_MAX", 4)
    async with calling(machine) as client:
        answer = await client.post(CALL)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_stream_is_passed_on_as_it_comes_and_ends_with_its_reader(
    hub: Hub, machine: Config
) -> None:
    async with calling(machine) as client:
        async with client.stream("GET", "/mcp") as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert await anext(response.aiter_bytes()) == b"data: 1\n\n"
            assert hub.open == 1
        await until(lambda: hub.open == 0)


async def test_a_stream_ends_with_its_attempt(hub: Hub, machine: Config) -> None:
    endpoint = Endpoint(machine)
    async with endpoint.listening(), contextlib.AsyncExitStack() as stack:
        async with endpoint.serving(KEY, machine.home.attempt("a")) as access:
            client = await stack.enter_async_context(agent(access))
            response = await stack.enter_async_context(client.stream("GET", "/mcp"))
        rest = [part async for part in response.aiter_bytes()]
        await until(lambda: hub.open == 0)

    assert rest == [b"data: 1\n\n"]


async def test_too_many_requests_at_once_are_refused(
    hub: Hub, machine: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUESTS_MAX", 1)
    async with calling(machine) as client, client.stream("GET", "/mcp"):
        answer = await client.post(CALL)

        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert answer.json()["retry_after"] == 1


async def test_a_hub_is_asked_whether_it_has_tools(hub: Hub, machine: Config) -> None:
    nowhere = msgspec.structs.replace(machine.machine, hub="http://127.0.0.1:9")
    away = Endpoint(msgspec.structs.replace(machine, machine=nowhere))
    here = Endpoint(machine)
    async with here.listening(), away.listening():
        with_tools = await here.has_tools(KEY)
        hub.status = 501
        found = (with_tools, await here.has_tools(KEY), await away.has_tools(KEY))

    assert found == (True, False, False)
    assert hub.asked[0]["headers"]["agentcom-task"] == "t1"


async def test_a_hub_that_is_away_is_said_to_be(hub: Hub, machine: Config) -> None:
    nowhere = msgspec.structs.replace(machine.machine, hub="http://127.0.0.1:9")
    async with calling(msgspec.structs.replace(machine, machine=nowhere)) as client:
        answer = await client.post(CALL)

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_sidecar_that_starts_again_is_where_it_was(hub: Hub, machine: Config) -> None:
    folder, found = machine.home.attempt("a"), []
    for _ in range(2):
        endpoint = Endpoint(machine)
        async with endpoint.listening(), endpoint.serving(KEY, folder) as access:
            found.append(access)

    assert found[0] == found[1]
    assert (folder / "hub.token").stat().st_mode & 0o777 == 0o600


async def test_a_port_that_others_took_is_left_to_them(hub: Hub, machine: Config) -> None:
    machine.home.endpoint.write_text(hub.url.rpartition(":")[2])

    async with calling(machine) as client:
        assert (await client.post(CALL)).status_code == 201
        assert str(client.base_url) != hub.url


@pytest.mark.parametrize("text", ["", "many", "-1", "99999"])
async def test_a_damaged_note_of_the_port_is_no_port(hub: Hub, machine: Config, text: str) -> None:
    machine.home.endpoint.write_text(text)

    async with calling(machine) as client:
        assert (await client.post(CALL)).status_code == 201


async def test_what_an_agent_puts_in_place_of_its_token_counts_for_nothing(
    hub: Hub, machine: Config, tmp_path: Path
) -> None:
    folder = machine.home.attempt("a")
    folder.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("s" * 43)
    (folder / "hub.token").symlink_to(secret)
    endpoint = Endpoint(machine)

    async with endpoint.listening(), endpoint.serving(KEY, folder) as access:
        assert access.token != "s" * 43
    assert secret.read_text() == "s" * 43


async def test_the_end_of_the_sidecar_ends_requests_in_order(
    hub: Hub, machine: Config, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(machine)
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(PATIENCE_S), endpoint.listening():
            access = await stack.enter_async_context(
                endpoint.serving(KEY, machine.home.attempt("a"))
            )
            client = await stack.enter_async_context(agent(access))
            await stack.enter_async_context(client.stream("GET", "/mcp"))
        await until(lambda: hub.open == 0)
    assert caplog.records == []
