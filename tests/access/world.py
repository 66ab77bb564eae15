"""A hub with things in one project, and everyone who might want them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from agentcom.hub.config import Bounds
from agentcom.model.agent import AgentSpec
from agentcom.model.identity import Identity, Role, Scope
from agentcom.model.ids import DEFAULT_PROJECT, AccountId, AgentId, MachineId, ProjectId, UserId
from agentcom.protocol import frames
from agentcom.store.memory import MemoryStore
from agentcom.testing.hub import RunningHub, running_hub
from tests.access.plain_http import Answer, PlainHttp
from tests.defects.house import RawMachine, raw_machine

MARK: Final = "quokka"
"""In every name and text of the project, so that it is found where it should not be."""
SUE: Final = UserId(f"sue-{MARK}")
PAT: Final = UserId(f"pat-{MARK}")
AGENT: Final = f"agent-{MARK}"
ELSEWHERE: Final = ProjectId("elsewhere")
LEASE_MS: Final = 600_000
STANDING: Final = (
    *("task", "group", "agent", "account", "box", "machine", "limit", "schedule", "user", "token"),
    *("budget", "bulk", "project", "pool", "channel", "den", "blob", "letter", "note", "lock"),
    *("ask", "self", "rule", "destination", "silence"),
)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Someone who asks."""

    name: str
    token: str | None
    identity: Identity | None
    """None: nobody, as far as the hub should be concerned."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Which attempt an agent speaks for."""

    @property
    def is_foreign(self) -> bool:
        return self.identity is not None and self.identity.project == ELSEWHERE


@dataclass(kw_only=True)
class World:
    """What stands when the questions begin."""

    hub: RunningHub
    store: MemoryStore
    http: PlainHttp
    machine: RawMachine
    sue: str
    pat: str
    callers: list[Caller] = field(default_factory=list)
    standing: dict[str, str] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: count(1))

    def name(self) -> str:
        """Return a new name."""
        return f"{MARK}-{next(self._numbers)}"

    def word(self) -> str:
        """Return a new name for something of whoever asks."""
        return f"word-{next(self._numbers)}"

    async def post(self, path: str, body: Any, *, token: str | None = None) -> Any:
        """Do something as someone who may; by default as Sue."""
        answer = await self.http.ask("POST", path, token=token or self.sue, body=body)
        assert answer.status < 300, (path, answer)
        return answer.json

    async def call(self, name: str, body: Any, *, token: str | None = None) -> Any:
        return await self.post(f"/api/v1/calls/{name}", body, token=token)

    async def new(self, kind: str) -> str:
        """Make a thing of a kind; return the id by which it is asked for."""
        fixed = {
            "self": "self",
            "project": DEFAULT_PROJECT,
            "pool": "default",
            "agent": AGENT,
            "account": f"account-{MARK}",
            "box": f"box-{MARK}",
            "rule": "disk_low",
            "destination": "nowhere",  # one that is there would have to be reached
        }
        return fixed[kind] if kind in fixed else str(await getattr(self, f"_{kind}")())

    async def _task(self) -> str:
        task = {"title": MARK, "prompt": MARK, "needs": ["never"], "group": f"group-{MARK}"}
        return str((await self.post("/api/v1/tasks", task))["tasks"][0])

    async def _group(self) -> str:
        await self._task()
        return f"group-{MARK}"

    async def _bulk(self) -> str:
        task = await self._task()
        return str((await self.post("/api/v1/bulk/cancel", {"tasks": [task]}))["id"])

    async def _schedule(self) -> str:
        name = self.name()
        task = {"title": MARK, "prompt": MARK, "needs": ["never"]}
        await self.post("/api/v1/schedules", {"name": name, "cron": "0 0 1 1 *", "task": task})
        return name

    async def _machine(self) -> str:
        name = self.name()
        await self.hub.machine(name)
        return name

    async def _user(self) -> str:
        name = self.name()
        await self.hub.user(name, Role.VIEWER)
        return name

    async def _token(self) -> str:
        return str((await self.post("/api/v1/tokens", {}))["credential"]["id"])

    async def _limit(self) -> str:
        scope = f"key:{self.name()}"
        body = {"scope": scope, "concurrency": 5}
        await self.post("/api/v1/limits", body, token=self.hub.admin_token)
        return scope

    async def _budget(self) -> str:
        scope = f"submitter:{self.name()}"
        body = {"scope": scope, "limits": {"tokens": 1_000_000}}
        await self.post("/api/v1/budgets", body, token=self.hub.admin_token)
        return scope

    async def _channel(self) -> str:
        name = self.name()
        await self.call("channel_create", {"channel": name})
        await self.call("channel_post", {"channel": name, "body": MARK})
        return name

    async def _den(self) -> str:
        name = self.name()
        await self.call("channel_create", {"channel": name, "kind": "private"})
        return name

    async def _blob(self) -> str:
        return str((await self.post("/api/v1/blobs", self.name().encode()))["digest"])

    async def _letter(self) -> str:
        sent = await self.call("message_send", {"to": [SUE], "body": MARK}, token=self.pat)
        return str(sent["message"])

    async def _note(self) -> str:
        name = self.name()
        await self.call("note_write", {"name": name, "text": MARK})
        return name

    async def _lock(self) -> str:
        made = await self.call("lock_acquire", {"globs": [self.name()], "ttl_ms": 60_000})
        return str(made["lock"]["id"])

    async def _silence(self) -> str:
        body = {"rule": "disk_low", "ms": 60_000, "reason": MARK}
        path = "/api/v1/alerts/silences"
        return str((await self.post(path, body, token=self.hub.admin_token))["id"])

    async def _ask(self) -> str:
        made = await self.call("ask_put", {"question": MARK, "to": SUE}, token=self.pat)
        return str(made["ask"]["id"])


@asynccontextmanager
async def whole_world() -> AsyncIterator[World]:
    """Run a hub with all of it."""
    store = MemoryStore()
    async with (
        running_hub(store, limits=Bounds(rates=False)) as hub,
        PlainHttp.connect(hub.info.port) as http,
    ):
        box = await hub.machine(f"box-{MARK}")
        sue = (await hub.user(SUE, Role.SUBMITTER)).token
        pat = (await hub.user(PAT, Role.SUBMITTER)).token
        async with raw_machine(hub.url, box.token) as machine:
            world = World(hub=hub, store=store, http=http, machine=machine, sue=sue, pat=pat)
            await _people(world)
            await _agent(world, box.token, MachineId(str(box.machine)))
            for kind in STANDING:
                world.standing[kind] = await world.new(kind)
            await _nobodies(world)
            yield world


async def _people(world: World) -> None:
    hub = world.hub
    for role in (Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN):
        user = UserId(f"a-{role.value}-{MARK}")
        _let_in(world, role.value, (await hub.user(user, role)).token, role, user)
    _let_in(world, "sue", world.sue, Role.SUBMITTER, SUE)
    admin = UserId(f"a-admin-{MARK}")
    token = next(one.token for one in world.callers if one.name == "admin")
    for scope in Scope:
        made = await world.post("/api/v1/tokens", {"scopes": [scope.value]}, token=token)
        _let_in(world, f"scope {scope.value}", made["token"], Role.ADMIN, admin, scopes=(scope,))
    service = {"name": f"service-{MARK}", "role": "operator"}
    made = await world.post("/api/v1/service-accounts", service, token=hub.admin_token)
    name = UserId(service["name"])
    _let_in(world, "service", made["token"], Role.OPERATOR, name, service=True)
    for role in (Role.ADMIN, Role.SUBMITTER):
        user = UserId(f"foreign-{role.value}")
        asked = {"name": user, "role": role.value, "project": ELSEWHERE}
        code = (await world.post("/api/v1/users", asked, token=hub.admin_token))["code"]
        token = (await world.post("/api/v1/enrol", {"code": code}))["token"]
        _let_in(world, f"foreign {role.value}", token, role, user, project=ELSEWHERE)


def _let_in(world: World, name: str, token: str, role: Role, user: UserId, **more: Any) -> None:
    identity = Identity(role=role, user=user, credential="", **more)
    world.callers.append(Caller(name=name, token=token, identity=identity))


async def _agent(world: World, token: str, machine: MachineId) -> None:
    """Bring a machine to work: its agent holds an attempt."""
    account = AccountId(f"account-{MARK}")
    spec = AgentSpec(name=AgentId(AGENT), runtime="command", capabilities=("raw",), account=account)
    await world.machine.send(frames.MachineHello(agents=(spec,), ttl_ms=LEASE_MS))
    await world.machine.get(frames.Welcome)
    work = {"title": MARK, "command": ["true"], "needs": ["raw"]}
    await world.post("/api/v1/tasks", work, token=world.hub.admin_token)
    given = (await world.machine.accept()).assignment
    fence = f"{given.fence.incarnation}.{given.fence.attempt}"
    headers = {"agentcom-task": given.task, "agentcom-fence": fence}
    identity = Identity(role=Role.AGENT, user=world.hub.info.admin, credential="", machine=machine)
    agent = Caller(name="agent", token=token, identity=identity, headers=headers)
    world.callers.append(agent)
    for _ in range(200):  # the hub has to hear of its start
        if (await world.http.ask("POST", "/api/v1/calls/whoami", token=token, body={},
                                 headers=headers)).status == 200:  # fmt: skip
            return
        await asyncio.sleep(0)
    raise AssertionError


async def _nobodies(world: World) -> None:
    admin = world.hub.admin_token
    expired = await world.post("/api/v1/tokens", {"ttl_ms": 1}, token=admin)
    revoked = await world.post("/api/v1/tokens", {}, token=admin)
    path = f"/api/v1/tokens/{revoked['credential']['id']}"
    assert (await world.http.ask("DELETE", path, token=admin)).status == 200
    tokens = {"nobody": None, "expired": expired["token"], "revoked": revoked["token"]}
    world.callers += [Caller(name=name, token=it, identity=None) for name, it in tokens.items()]


def rows(store: MemoryStore) -> dict[str, Any]:
    """Return all that is stored, but what the audit log says of refusals."""
    return {
        f"{table.value}/{key}": row
        for table, found in store._rows.items()
        if not table.value.startswith("audit")
        for key, row in found.items()
    }


def filled(body: Any, thing: str, name: str) -> Any:
    """Return a body with a thing's id and a new name in their places."""
    if isinstance(body, bytes):
        return body
    text = json.dumps(body).replace("{id}", thing).replace("{new}", name)
    return json.loads(text)


def code_of(answer: Answer) -> str:
    """Return the code of a refusal; `yes` if it is none."""
    return "yes" if answer.status < 400 else str(answer.json["code"])
