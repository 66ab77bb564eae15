"""A hub as it runs, a real sidecar on it, and a machine that says exactly what it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from agentcom.client.hub import HubClient
from agentcom.model.agent import AgentSpec, Held
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Task, TaskSpec
from agentcom.protocol import codec, frames, shown
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig, Settings
from agentcom.sidecar.confines import OPEN
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.command import PlainCommand
from agentcom.sidecar.runtime.testagent import TestAgent
from agentcom.sidecar.shell import Sidecar
from agentcom.testing.waiting import PATIENCE_S

F = TypeVar("F", bound=frames.Frame)
TTL_MS = 2_000
RUNTIMES: Mapping[str, base.Runtime] = {"testagent": TestAgent(), "command": PlainCommand()}


class Quick:
    """No pause before the next dial."""

    def random(self) -> float:
        return 0.05


def machine_config(root: Path, *, hub: str, admitted: shown.Admitted) -> Home:
    """Write a machine's home with an agent for commands and one for scenarios."""
    home = Home(root / "machine")
    agents = (
        AgentConfig(name=AgentId("cmd"), runtime="command", capabilities=("run",), confines=OPEN),
        AgentConfig(
            name=AgentId("mock"), runtime="testagent", capabilities=("edit",), confines=OPEN
        ),
    )
    settings = Settings(ttl_ms=TTL_MS, checkpoint_interval_ms=60_000, stop_grace_ms=300)
    machine = MachineConfig(
        hub=hub,
        machine=MachineId(str(admitted.machine)),
        agents=agents,
        settings=settings,
    )
    home.save(machine, admitted.token)
    return home


@asynccontextmanager
async def sidecar_on(home: Home) -> AsyncIterator[Sidecar]:
    """Run a machine in this process."""
    sidecar = Sidecar(home.load(), runtimes=RUNTIMES, rng=Quick())
    running = asyncio.create_task(sidecar.run(handle_signals=False))
    try:
        yield sidecar
    finally:
        sidecar.stop()
        async with asyncio.timeout(PATIENCE_S):
            await running


async def shown_task(client: HubClient, task: TaskId) -> Task:
    """Return a task as the hub shows it."""
    return (await client.get(f"/tasks/{task}", shown.TaskShown)).task


async def reaches(client: HubClient, task: TaskId, holds: Callable[[Task], bool]) -> Task:
    """Return a task once something is true of it."""
    async with asyncio.timeout(PATIENCE_S):
        async for _ in client.follow(task, progress=True):
            row = await shown_task(client, task)
            if holds(row):
                return row
    raise AssertionError


async def ended(client: HubClient, task: TaskId) -> Task:
    """Return a task that has ended."""
    await client.wait(task, timeout_s=PATIENCE_S)
    return await shown_task(client, task)


def command(*argv: str, **fields: Any) -> TaskSpec:
    return TaskSpec(title="A command", command=argv, needs=("run",), **fields)


def wait_for(path: Path, **fields: Any) -> TaskSpec:
    """Return a task that writes down each of its starts, and runs until `path` exists."""
    script = 'echo start >> "$1"; while [ ! -e "$0" ]; do sleep 0.05; done'
    return command("sh", "-c", script, str(path), f"{path}.starts", **fields)


def starts(path: Path) -> int:
    log = Path(f"{path}.starts")
    return len(log.read_text().splitlines()) if log.exists() else 0


def edit(repo: Path | str, *steps: Mapping[str, object], **fields: Any) -> TaskSpec:
    lines = "\n".join(json.dumps(step) for step in steps)
    prompt = f"<<mock:edit>>\n```steps\n{lines}\n```\n"
    made = TaskSpec(title="An edit", prompt=prompt, repo=str(repo), needs=("edit",))
    return msgspec.structs.replace(made, **fields)


WRITE = {"write": {"path": "hello.txt", "text": "hello\n"}}


class RawMachine:
    """A machine's end of the wire, spoken by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.session = 0

    async def hello(self, *, held: Sequence[Held] = (), ttl_ms: int = 30_000) -> frames.Welcome:
        spec = AgentSpec(name=AgentId("raw"), runtime="command", capabilities=("raw",))
        await self.send(frames.MachineHello(agents=(spec,), held=tuple(held), ttl_ms=ttl_ms))
        welcome = await self.get(frames.Welcome)
        self.session = welcome.welcomed.session
        return welcome

    async def send(self, frame: frames.Frame) -> None:
        await self.socket.send(codec.encode(frame), text=True)

    async def say(self, payload: bytes | str) -> None:
        """Send whatever it is, as a text frame."""
        await self.socket.send(payload, text=True)

    async def get(self, kind: type[F]) -> F:
        """Return the next frame of a kind; others are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = codec.decode_from_hub(await self.socket.recv(decode=False))
                if isinstance(frame, kind):
                    return frame

    async def accept(self) -> frames.Assign:
        """Take the next assignment, and start it as far as the hub can tell."""
        assign = await self.get(frames.Assign)
        given = assign.assignment
        await self.send(frames.Accept(task=given.task, fence=given.fence))
        return assign


def done(summary: str = "done") -> Result:
    return Result(status=ResultStatus.DONE, summary=summary)


def finish(task: TaskId, fence: Fence, result: Result | None = None) -> frames.Finish:
    return frames.Finish(task=task, fence=fence, result=result or done())


@asynccontextmanager
async def raw_machine(url: str, token: str) -> AsyncIterator[RawMachine]:
    """Open a machine's socket without saying anything on it."""
    async with connect(
        url.replace("http", "ws", 1) + "/ws",
        subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
        compression=None,
    ) as socket:
        yield RawMachine(socket)


def raw_task(**fields: Any) -> TaskSpec:
    """Return a task that only the raw machine can take."""
    return TaskSpec(title="By hand", command=("true",), needs=("raw",), **fields)
