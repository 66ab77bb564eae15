"""A hub from start to end: quick, alone on its store, and nothing lost in between."""

import asyncio
import contextlib
import os
import signal
import stat
import sys
from pathlib import Path

import httpx
import pytest

from agentcom import app
from agentcom.app import HubInfo
from agentcom.hub.config import ConfigInvalid, HubConfig, Tls
from agentcom.hub.supervisor import Escalated
from agentcom.model.batch import Batch
from agentcom.model.errors import StoreRefused
from agentcom.model.ids import DEFAULT_POOL
from agentcom.store.base import Verdict
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.hub import running_hub, serving
from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport.port import PortUnavailable

TASKS = "/api/v1/tasks"
SUBMITTED = {"title": "t", "prompt": "p"}
PROGRAM = """
import asyncio, pathlib, sys
from agentcom import app
from agentcom.hub.config import HubConfig
config = HubConfig(home=pathlib.Path(sys.argv[1]), port=0, drain_ms=8000)
asyncio.run(app.run_hub(config, ready=lambda hub: print(hub.url, hub.admin_token, flush=True)))
"""


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    async with running_hub(SqliteStore(path, options=SMALL), home=tmp_path) as first:
        token = first.admin_token
        made = await first.http.post(TASKS, json=SUBMITTED, headers={"Idempotency-Key": "k"})

    store = SqliteStore(path, options=SMALL)
    async with running_hub(store, home=tmp_path, token=token) as second:
        listed = (await second.http.get(TASKS)).json()["tasks"]
        again = await second.http.post(TASKS, json=SUBMITTED, headers={"Idempotency-Key": "k"})

    assert second.info.admin_token is None
    assert [row["id"] for row in listed] == made.json()["tasks"]
    assert again.json() == made.json()


async def test_a_second_hub_on_the_same_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    async with running_hub(SqliteStore(path, options=SMALL), home=tmp_path):
        with pytest.raises(StoreRefused, match=str(os.getpid())):
            async with running_hub(SqliteStore(path, options=SMALL), home=tmp_path):
                pass


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with running_hub() as hub:
        with pytest.raises(PortUnavailable, match=str(hub.info.port)):
            async with running_hub(port=hub.info.port):
                pass


async def test_a_start_that_failed_does_not_use_up_the_admins_token(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    async with running_hub() as other:
        with pytest.raises(PortUnavailable):
            async with running_hub(SqliteStore(path, options=SMALL), port=other.info.port):
                pass

    async with running_hub(SqliteStore(path, options=SMALL)) as hub:
        assert hub.admin_token


async def test_an_unknown_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="etched-in-stone"):
        async with serving(HubConfig(home=tmp_path, port=0, store="etched-in-stone")):
            pass


async def test_the_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    async with running_hub(home=home):
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


async def test_off_loopback_the_hub_is_pinned_by_its_certificate(tmp_path: Path) -> None:
    config = HubConfig(home=tmp_path, port=0, store="memory", tls=Tls.ON)
    async with (
        serving(config) as hub,
        httpx.AsyncClient(verify=False, trust_env=False) as client,
    ):
        response = await client.get(f"{hub.url}/healthz")

    assert hub.url.startswith("https://")
    assert len(hub.fingerprint or "") == 64
    assert response.status_code == 200


class FailingStore(MemoryStore):
    """Breaks at a commit, after some that went well."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    async def commit(self, batch: Batch) -> Verdict:
        if self.broken:
            raise OSError("the disk is gone")
        return await super().commit(batch)


async def test_a_broken_store_ends_the_hub() -> None:
    store = FailingStore()

    async def submit_while_it_breaks() -> None:
        async with running_hub(store) as hub:
            store.broken = True
            with contextlib.suppress(httpx.HTTPError):
                await hub.http.post(TASKS, json=SUBMITTED)

    with pytest.raises(Escalated):
        await submit_while_it_breaks()


async def test_drain_stops_the_hub_in_good_order(tmp_path: Path) -> None:
    ready: asyncio.Future[HubInfo] = asyncio.get_running_loop().create_future()
    config = HubConfig(home=tmp_path, port=0, store="memory")
    running = asyncio.create_task(app.run_hub(config, ready=ready.set_result, stop=asyncio.Event()))
    hub = await ready
    headers = {"Authorization": f"Bearer {hub.admin_token}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, trust_env=False) as client:
        response = await client.post("/api/v1/drain")

    async with asyncio.timeout(PATIENCE_S):
        assert await running == 0
    assert response.status_code == 202


async def start(home: Path) -> tuple[asyncio.subprocess.Process, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(home)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        url, token = (await process.stdout.readline()).decode().split()
    return process, url, token


async def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    process, url, token = await start(tmp_path)
    headers = {"Authorization": f"Bearer {token}"}
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:

        async def load() -> None:
            while True:
                try:
                    response = await client.post(TASKS, json=SUBMITTED)
                except httpx.HTTPError:
                    return
                if response.status_code == 201:
                    acknowledged.extend(response.json()["tasks"])
                if len(acknowledged) >= 20:
                    enough.set()

        workers = [asyncio.create_task(load()) for _ in range(4)]
        async with asyncio.timeout(PATIENCE_S):
            await enough.wait()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate()
            await asyncio.gather(*workers)

    store = SqliteStore(tmp_path / "hub.sqlite", options=SMALL)
    await store.open()
    tasks = {task.id for task in (await store.scan(DEFAULT_POOL)).tasks}
    await store.close()
    assert process.returncode == 0, errors.decode()
    assert set(acknowledged) <= tasks
    assert b"Traceback" not in errors


async def test_a_second_sigterm_ends_the_hub_at_once(tmp_path: Path) -> None:
    process, url, token = await start(tmp_path)
    assert process.stderr is not None
    writer = await upload_without_end(url, token)

    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        while b"hub.stopping" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    writer.close()
    assert process.returncode == 128 + signal.SIGTERM


async def upload_without_end(url: str, token: str) -> asyncio.StreamWriter:
    """Begin a request for whose body the hub then waits."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    head = (
        f"POST {TASKS} HTTP/1.1",
        f"Host: {url.rpartition('/')[2]}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        "Content-Length: 9",
        "Expect: 100-continue",
    )
    writer.write("\r\n".join((*head, "", "")).encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 100 " in await reader.readline()
    return writer
