"""A hub for a test: the real one, on loopback and a free port, with all doors open.

async with running_hub() as hub:
    machine = await hub.machine("box")
    ...  # hub.url, hub.admin_token, machine.token
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec

from agentcom import app
from agentcom.app import HubInfo
from agentcom.hub.config import HubConfig
from agentcom.model.identity import Role
from agentcom.model.ids import UserId
from agentcom.protocol.asked import CodeRedeemed, MachineInvited, UserInvited
from agentcom.protocol.shown import Admitted, Invitation
from agentcom.store.base import Store

READY_S: Final = 60.0
STOP_S: Final = 60.0
ADMIN: Final = UserId("ann")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that answers."""

    info: HubInfo
    http: httpx.AsyncClient
    """Calls as the admin."""

    @property
    def url(self) -> str:
        """Where it is, such as `http://127.0.0.1:40000`."""
        return self.info.url

    @property
    def ws_url(self) -> str:
        """Where its socket is."""
        return self.info.url.replace("http", "ws", 1) + "/ws"

    @property
    def admin_token(self) -> str:
        """The first admin's token; a store that had an admin before gives none."""
        assert self.info.admin_token is not None
        return self.info.admin_token

    async def invite_machine(self, name: str | None = None, *, uses: int = 1) -> Invitation:
        """Return a join code."""
        asked = MachineInvited(name=name, uses=uses)
        return await self._post("/api/v1/machines/invite", asked, Invitation)

    async def machine(self, name: str) -> Admitted:
        """Enrol a machine; its `token` and `machine` (id) are what a sidecar needs."""
        invited = await self.invite_machine(name)
        return await self._post("/api/v1/enrol", CodeRedeemed(code=invited.code), Admitted)

    async def user(self, name: str, role: Role) -> Admitted:
        """Let a person in; their `token` is what a client needs."""
        asked = UserInvited(name=UserId(name), role=role)
        invited = await self._post("/api/v1/users", asked, Invitation)
        return await self._post("/api/v1/enrol", CodeRedeemed(code=invited.code), Admitted)

    def client(self, token: str | None) -> httpx.AsyncClient:
        """Return an HTTP client with another token, or with none."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    async def _post(self, path: str, asked: Any, kind: type[T]) -> T:
        response = await self.http.post(path, json=msgspec.to_builtins(asked))
        assert response.is_success, response.text
        return msgspec.json.decode(response.content, type=kind)


@contextlib.asynccontextmanager
async def running_hub(
    store: Store | None = None, *, token: str | None = None, **config: Any
) -> AsyncIterator[RunningHub]:
    """Run a hub on a free port; by default it keeps everything in memory.

    `config` are fields of `HubConfig`. A hub on a store that has an admin already needs that
    admin's `token`.
    """
    with contextlib.ExitStack() as stack:
        home = config.pop("home", None) or stack.enter_context(tempfile.TemporaryDirectory())
        settings = {"port": 0, "store": "memory", "admin": ADMIN, "drain_ms": 1_000, **config}
        async with serving(HubConfig(home=Path(home), **settings), store) as info:
            headers = {"Authorization": f"Bearer {token or info.admin_token}"}
            async with httpx.AsyncClient(
                base_url=info.url, headers=headers, trust_env=False, timeout=30
            ) as http:
                yield RunningHub(info, http)


@contextlib.asynccontextmanager
async def serving(config: HubConfig, store: Store | None = None) -> AsyncIterator[HubInfo]:
    """Run a hub in this process; its failure is raised here."""
    ready: asyncio.Future[HubInfo] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    running = asyncio.create_task(
        app.run_hub(config, ready=ready.set_result, stop=stop, store=store), name="hub"
    )
    try:
        either: set[asyncio.Future[Any]] = {running, ready}
        await asyncio.wait(either, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield ready.result()
    finally:
        stop.set()
        async with asyncio.timeout(STOP_S):
            await running
