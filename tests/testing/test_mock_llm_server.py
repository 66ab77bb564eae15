import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agentcom.model import errors
from agentcom.testing.mock_llm import server
from agentcom.testing.mock_llm.answers import Entry
from tests.testing.mock_requests import EDIT, PATHS, body_of, said_and_called

DEADLINE_S = 10


@pytest.fixture
def log() -> list[Entry]:
    return []


@pytest.fixture
async def client(log: list[Entry]) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        server.serve(log=log.append) as model,
        httpx.AsyncClient(base_url=model.url, timeout=DEADLINE_S, trust_env=False) as made,
    ):
        yield made


async def test_gzip_and_chunked_bodies_are_read(client: httpx.AsyncClient) -> None:
    raw = json.dumps(body_of("chat", "<<mock:say>>")).encode()

    async def parts() -> AsyncIterator[bytes]:
        yield raw[:10]
        yield raw[10:]

    packed = await client.post(
        PATHS["chat"], content=gzip.compress(raw), headers={"content-encoding": "gzip"}
    )
    chunked = await client.post(PATHS["chat"], content=parts())

    assert packed.json() == chunked.json()
    assert said_and_called("chat", packed.json())[0] == "Nothing to change."


async def test_unknown_paths_and_bad_bodies_are_refused_and_logged(
    client: httpx.AsyncClient, log: list[Entry]
) -> None:
    unknown = await client.post("/v1/elsewhere", json={})
    broken = await client.post(PATHS["chat"], content=b"{")
    packed = await client.post(PATHS["chat"], content=b"no", headers={"content-encoding": "gzip"})
    models = await client.get("/v1/models")

    assert [unknown.status_code, broken.status_code, packed.status_code] == [404, 400, 400]
    assert models.json()["data"][0]["id"] == "mock"
    assert [entry.status for entry in log] == [404, 400, 400, 200]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hang_says_nothing_and_notes_that_the_client_left(stream: bool) -> None:
    left = asyncio.Event()
    log: list[Entry] = []

    def note(entry: Entry) -> None:
        log.append(entry)
        if entry.note == "client left":
            left.set()

    body = {**body_of("chat", "<<mock:hang>>"), "stream": stream}
    async with (
        server.serve(log=note) as model,
        httpx.AsyncClient(base_url=model.url, trust_env=False) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(PATHS["chat"], json=body, timeout=0.2)
        await asyncio.wait_for(left.wait(), DEADLINE_S)

    assert [entry.scenario for entry in log] == ["hang", "hang"]


async def test_many_agents_at_once_are_served(client: httpx.AsyncClient, log: list[Entry]) -> None:
    body = {**body_of("responses", EDIT), "stream": True}
    async with httpx.AsyncClient(
        base_url=client.base_url,
        timeout=DEADLINE_S,
        trust_env=False,
        limits=httpx.Limits(max_connections=64),
    ) as many:
        replies = await asyncio.gather(
            *(many.post(PATHS["responses"], json=body) for _ in range(64))
        )

    assert len({reply.text for reply in replies}) == 1
    assert len(log) == 64


async def test_a_rate_limit_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    reply = await client.post(PATHS["chat"], json=body_of("chat", "<<mock:rate-limit>>"))

    assert reply.headers["retry-after"] == "1"


async def test_the_port_file_and_the_log_can_be_read_by_scripts(tmp_path: Path) -> None:
    port_file, lines = tmp_path / "port", list[bytes]()
    log = server.json_lines(lines.append)
    async with (
        server.serve(log=log, port_file=port_file, latency_ms=1) as model,
        httpx.AsyncClient(base_url=model.url, trust_env=False) as client,
    ):
        await client.post(PATHS["chat"], json=body_of("chat", EDIT))

    (entry,) = (json.loads(line) for line in lines)
    assert int(port_file.read_text()) == model.port
    assert (entry["dialect"], entry["scenario"], entry["step"]) == ("chat", "edit", 0)
    assert entry["tools"] == ["Bash", "Write"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
async def test_only_loopback_is_bound(host: str) -> None:
    with pytest.raises(errors.InvalidInput):
        async with server.serve(host, log=lambda _: None):
            pass
