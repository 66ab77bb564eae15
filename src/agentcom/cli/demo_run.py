"""The demo's driver: an ordinary client of the hub that follows what happens, and acts on it.

It waits for events only. What it does to the fleet: it kills the machine that works on the parser
once that has an acknowledged checkpoint, and starts it again once the task went to another.
"""

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import click

from agentcom.cli import demo_checks, demo_project, output, scratch
from agentcom.cli.demo_fleet import AGENTS, Fleet
from agentcom.cli.errors import Exit
from agentcom.client.hub import HubClient
from agentcom.model.errors import AgentComError
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.ids import TaskId
from agentcom.model.task import TaskState
from agentcom.protocol import frames, shown

TEST_S: Final = 60.0
REAL_S: Final = 300.0
"""Real programs start slowly; with a scripted model nothing else takes time."""


class Failed(Exception):
    """What is wrong, for the last line."""


def main(*, runtime: str, keep: bool, folder: Path | None, began: float) -> int:
    """Run the demo and return the exit code."""
    root = scratch.folder(folder, "agentcom-demo-")
    fleet = Fleet(root)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    problem: str | None = "interrupted"
    try:
        problem = asyncio.run(_run(fleet, runtime, began))
    finally:
        fleet.end()
        if problem is None and not keep:
            shutil.rmtree(root, ignore_errors=True)
        else:
            output.talk(f"kept: {root} (hub.log, a log per machine, origin.git)")
    return Exit.DONE if problem is None else Exit.FAILED


async def _run(fleet: Fleet, runtime: str, began: float) -> str | None:
    say = Speaker(began)
    bound_s = TEST_S if runtime == "test" else REAL_S
    try:
        async with asyncio.timeout(bound_s), _model(runtime) as settings:
            story = await _Driver(fleet, say).run(runtime, settings)
        summary = await asyncio.to_thread(demo_checks.check, fleet.folder, story)
    except TimeoutError:
        problem = f"not done in {bound_s:.0f} s"
    except (Failed, AgentComError, demo_checks.Wrong) as error:
        problem = str(error)
    else:
        say("PASS", summary)
        return None
    say("FAIL", problem)
    return problem


class Speaker:
    """Prints lines with the time since the start."""

    def __init__(self, began: float) -> None:
        self._began = began

    def __call__(self, *words: str) -> None:
        """Print one line: who, which task, what."""
        spent = f"{time.monotonic() - self._began:4.1f}s"
        *heads, text = words
        click.echo(f"{spent} {''.join(f'{output.paint(head):<5}' for head in heads)}{text}")


class _Driver:
    """One run of the story."""

    def __init__(self, fleet: Fleet, say: Speaker) -> None:
        self._fleet = fleet
        self._say = say
        self._go = fleet.folder / "go"
        self._refs: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._ended: dict[str, TaskEvent] = {}
        self._victim: str | None = None
        self._checkpoint = ""
        self._restarted = False
        self._kept = False

    async def run(self, runtime: str, settings: Mapping[str, str]) -> demo_checks.Story:
        """Run the graph to its end, through the disaster."""
        fleet = self._fleet
        fleet.launch_hub()
        origin = await asyncio.to_thread(demo_project.make_origin, fleet.folder)
        hub = await asyncio.to_thread(fleet.hub_ready)
        async with await HubClient.connect(hub["url"], hub["token"]) as client:
            await self._enrol(client, hub["url"], runtime, settings)
            specs = demo_project.tasks(origin, self._go)
            async with client.following() as news:
                submitted = await client.submit(specs)
                pairs = zip(submitted.tasks, specs, strict=True)
                self._refs = {task: str(spec.ref) for task, spec in pairs}
                self._say("hub", f"{len(specs)} tasks submitted, tests of main fail")
                async for one in news:
                    if isinstance(one, frames.EventFrame):
                        await self._take(client, one.event)
                    if self._kept and len(self._ended) == len(specs):
                        break
            return await self._story(client)

    async def _enrol(
        self, client: HubClient, url: str, runtime: str, settings: Mapping[str, str]
    ) -> None:
        body = {"uses": len(AGENTS)}
        code = (await client.post("/machines/invite", shown.Invitation, body)).code
        driver = "testagent" if runtime == "test" else runtime
        for name in AGENTS:
            asked = {"code": code, "name": name}
            admitted = await client.post("/enrol", shown.Admitted, asked)
            self._names[str(admitted.machine)] = name
            self._fleet.enrol(name, admitted, url=url, runtime=driver, **settings)
            self._fleet.start(name)

    async def _take(self, client: HubClient, event: TaskEvent) -> None:
        ref = self._refs[event.task]
        who = event.agent or self._names.get(event.machine or "", "hub")
        match event.kind:
            case EventKind.ASSIGNED:
                self._say(who, ref, self._beginning(ref, event.attempt or 1))
            case EventKind.COMPLETED:
                self._ended[ref] = event
                self._say(who, ref, f"merged as {(event.commit or '')[:10]}")
            case EventKind.FAILED | EventKind.CANCELLED:
                raise Failed(f"{ref} {event.state}: {event.detail}")
            case _:
                pass
        if ref == demo_project.VICTIM:
            await self._act(client, event)

    def _beginning(self, ref: str, attempt: int) -> str:
        if attempt == 1:
            return "starts"
        handed = ref == demo_project.VICTIM and self._victim is not None
        return f"attempt {attempt}" + (f", from {self._victim}'s checkpoint" if handed else "")

    async def _act(self, client: HubClient, event: TaskEvent) -> None:
        """Kill, and bring back, the machine that works on the victim's task."""
        if event.kind is EventKind.CHECKPOINT and self._victim is None:
            await self._kill(client, event)
        elif event.kind is EventKind.RETURNED:
            self._say("hub", demo_project.VICTIM, "lease ended, back in the queue")
        elif event.kind is EventKind.ASSIGNED and self._victim and not self._restarted:
            self._restarted = True
            self._go.touch()
            self._fleet.start(self._victim)
        elif event.kind is EventKind.RESULT_KEPT and self._victim:
            self._kept = True
            self._say(self._victim, demo_project.VICTIM, "attempt 1 REFUSED, kept")

    async def _kill(self, client: HubClient, event: TaskEvent) -> None:
        task = (await client.get(f"/tasks/{event.task}", shown.TaskShown)).task
        origin, commit = self._fleet.folder / "origin.git", task.checkpoint or ""
        begun = await asyncio.to_thread(demo_checks.read, origin, commit, demo_project.BEGUN)
        if not begun or task.state is not TaskState.RUNNING:
            return  # the agent had not begun yet: the next checkpoint will do
        self._victim, self._checkpoint = self._names[str(event.machine)], commit
        await asyncio.to_thread(self._fleet.kill, self._victim)
        self._say(self._victim, demo_project.VICTIM, "SIGKILL agent + sidecar, on purpose")

    async def _story(self, client: HubClient) -> demo_checks.Story:
        victim = next(task for task, ref in self._refs.items() if ref == demo_project.VICTIM)
        results = await client.get(f"/tasks/{victim}/results", shown.ResultList)
        tasks = [(await client.get(f"/tasks/{task}", shown.TaskShown)).task for task in self._refs]
        return demo_checks.Story(
            victim=TaskId(victim),
            checkpoint=self._checkpoint,
            tasks=tuple(tasks),
            results=results.results,
            dead=tuple(self._fleet.dead()),
        )


@contextlib.asynccontextmanager
async def _model(runtime: str) -> AsyncIterator[Mapping[str, str]]:
    """Give the settings of the agents; for real programs, with a model server beside them."""
    if runtime == "test":
        yield {}
        return
    from agentcom.cli import agent_doctor
    from agentcom.testing.mock_llm import server

    binary = await asyncio.to_thread(agent_doctor.program_of, runtime)
    if binary is None:
        where = f"neither on PATH nor in {agent_doctor.CLI_FOLDER} of this folder"
        raise Failed(f"{runtime} is {where}: install it, or run `make clis` in the checkout")
    async with server.serve(log=lambda _entry: None) as model:
        yield {"binary": binary, "base_url": model.url, "model": "scripted"}


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)
