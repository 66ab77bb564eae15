"""The sidecar against the product's own hub: nothing of either side is imitated."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.graph import Dependency
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import TaskId, UserId
from agentcom.model.replies import Submitted
from agentcom.model.task import LandPolicy, Task, TaskSpec, TaskState
from agentcom.sidecar import processes
from agentcom.sidecar.config import Config
from agentcom.sidecar.shell import EXIT_DONE, Sidecar
from agentcom.testing.hub_site import HubSite, hub_site
from agentcom.testing.waiting import until
from tests.sidecar.git_origin import Origin, git
from tests.sidecar.sidecar_world import RUNTIMES, WRITE, config, prompt

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

EVE = Identity(role=Role.ADMIN, user=UserId("eve"), credential="c")


class Quick:
    """No pause before the next dial."""

    def random(self) -> float:
        return 0.0


class Fleet:
    """A hub, a repository and one machine that can be stopped and started."""

    def __init__(self, site: HubSite, machine: Config, origin: Origin) -> None:
        self.site = site
        self.machine = machine
        self.origin = origin
        self.ended: dict[TaskId, Task] = {}
        self._sidecar: Sidecar | None = None
        self._running: asyncio.Task[int] | None = None

    def start(self) -> None:
        self._sidecar = Sidecar(self.machine, runtimes=RUNTIMES, rng=Quick())
        self._running = asyncio.create_task(self._sidecar.run(handle_signals=False))

    async def stop(self) -> int:
        assert self._sidecar is not None
        assert self._running is not None
        self._sidecar.stop()
        return await self._running

    async def submit(self, *specs: TaskSpec) -> tuple[TaskId, ...]:
        reply = await self.site.engine.ask(Fact(body=facts.Submit(specs), actor=EVE))
        assert isinstance(reply, Submitted)
        return reply.tasks

    async def cancel(self, task: TaskId) -> None:
        await self.site.engine.ask(Fact(body=facts.Cancel(task), actor=EVE))

    async def task(self, task: TaskId) -> Task:
        live = self.site.engine.view.tasks.get(task)
        if live is not None:
            return live
        rows = await self.site.store.get([(Table.TASK, task)])
        row = rows[0]
        assert isinstance(row, Task)
        return row

    async def reaches(self, task: TaskId, true: Callable[[Task], bool]) -> Task:
        async def reached() -> bool:
            return true(await self.task(task))

        await until(reached, patience_s=40)
        return await self.task(task)

    def spec(self, *steps: object, **fields: object) -> TaskSpec:
        made = TaskSpec(title="A task", prompt=prompt(*steps), repo=self.origin.url)  # type: ignore[arg-type] # as the scenario has them
        return msgspec.structs.replace(made, **fields)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    origin = Origin(tmp_path / "forge")
    origin.push({".agentcom.toml": 'verify = "true"\nland = "merge"\n'})
    async with hub_site() as site:
        token = await site.machine("m1", "eve")
        machine = msgspec.structs.replace(config(tmp_path, site.url), token=token)
        only_ada = msgspec.structs.replace(machine.machine, agents=machine.machine.agents[:1])
        machine = msgspec.structs.replace(machine, machine=only_ada)
        made = Fleet(site, machine, origin)
        made.start()
        yield made
        assert await made.stop() == EXIT_DONE


def _over(task: Task) -> bool:
    return task.state.terminal


async def test_a_task_is_worked_verified_and_landed(fleet: Fleet) -> None:
    (task,) = await fleet.submit(fleet.spec(WRITE))

    row = await fleet.reaches(task, _over)

    assert (row.state, row.verified) == (TaskState.COMPLETED, True)
    assert git(fleet.origin.path, "show", "main:hello.txt") == "hello"


async def test_a_graph_lands_in_order(fleet: Fleet) -> None:
    first = fleet.spec(WRITE, ref="first")
    more = {"write": {"path": "more.txt", "text": "more\n"}}
    needs_it = fleet.spec(
        {"shell": ["test", "-f", "hello.txt"]}, more, depends_on=(Dependency("first"),)
    )
    _, last = await fleet.submit(first, needs_it)

    row = await fleet.reaches(last, _over)

    assert row.state is TaskState.COMPLETED
    assert git(fleet.origin.path, "show", "main:more.txt") == "more"
    assert git(fleet.origin.path, "show", "main:hello.txt") == "hello"


async def test_a_cancelled_task_ends_and_its_agent_takes_the_next(fleet: Fleet) -> None:
    (task,) = await fleet.submit(fleet.spec({"say": "working"}, {"hang": True}))
    await fleet.reaches(task, lambda row: row.state is TaskState.RUNNING)
    await fleet.cancel(task)

    row = await fleet.reaches(task, _over)
    (second,) = await fleet.submit(fleet.spec(WRITE, land=LandPolicy.BRANCH))
    then = await fleet.reaches(second, _over)

    assert row.state is TaskState.CANCELLED
    assert then.state is TaskState.COMPLETED


async def test_a_restart_of_the_sidecar_and_a_blip_of_the_hub_cost_no_attempt(
    fleet: Fleet, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    (task,) = await fleet.submit(fleet.spec(WRITE, {"wait_for": str(go)}))
    await fleet.reaches(task, lambda row: row.phase is not None and row.phase.value == "working")

    await fleet.stop()
    await fleet.site.unlisten()
    go.touch()
    await fleet.site.listen()
    fleet.start()

    row = await fleet.reaches(task, _over)
    assert (row.state, row.attempt) == (TaskState.COMPLETED, 1)


async def test_the_next_attempt_reads_the_last_words_of_the_one_before(
    fleet: Fleet, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    script = (
        f'n=$(ls {seen} | wc -l); cp "$AGENTCOM_TASK_FILE" {seen}/$n.json; '
        "echo x > work.txt; echo the parser is next; test $n = 1"
    )
    spec = fleet.spec(command=("sh", "-c", script), land=LandPolicy.BRANCH)
    (task,) = await fleet.submit(msgspec.structs.replace(spec, prompt=""))
    failed = await fleet.reaches(task, lambda row: row.failures == 1)
    await fleet.site.engine.ask(Fact(body=facts.Retry(task), actor=EVE))

    row = await fleet.reaches(task, _over)

    assert failed.note == "the parser is next"
    assert (row.state, row.attempt, row.note) == (TaskState.COMPLETED, 2, None)
    first, second = (msgspec.json.decode((seen / f"{n}.json").read_bytes()) for n in (0, 1))
    assert first["earlier"] is None
    told = second["earlier"]
    assert (told["attempts"], told["note"], told["kept"]) == (1, "the parser is next", True)


async def test_two_agents_that_change_the_same_file_hear_of_each_other(
    fleet: Fleet, tmp_path: Path
) -> None:
    await fleet.stop()
    (ada,) = fleet.machine.machine.agents
    quick = msgspec.structs.replace(fleet.machine.machine.settings, checkpoint_interval_ms=50)
    roomy = msgspec.structs.replace(
        fleet.machine.machine, agents=(msgspec.structs.replace(ada, slots=2),), settings=quick
    )
    fleet.machine = msgspec.structs.replace(fleet.machine, machine=roomy)
    fleet.start()
    script = (
        "echo $AGENTCOM_TASK > same.txt; n=0; "
        'while ! test -s "$AGENTCOM_NOTICES" && test $n -lt 600; do n=$((n+1)); sleep 0.05; done; '
        f'cp "$AGENTCOM_NOTICES" {tmp_path}/$AGENTCOM_TASK'
    )
    spec = fleet.spec(command=("sh", "-c", script), land=LandPolicy.BRANCH)
    one, two = await fleet.submit(*[msgspec.structs.replace(spec, prompt="")] * 2)

    rows = [await fleet.reaches(task, _over) for task in (one, two)]

    assert [row.state for row in rows] == [TaskState.COMPLETED] * 2
    for task, other in ((one, two), (two, one)):
        said = (tmp_path / task).read_text("utf-8")
        assert said.splitlines()[0] == f"also touches same.txt: task {other}"
        more = {f"would conflict in same.txt: task {other}"}  # if a trial merge came in time
        assert set(said.splitlines()[1:]) <= more


async def test_a_failure_is_tried_again_and_ends_as_a_failure(fleet: Fleet) -> None:
    (task,) = await fleet.submit(fleet.spec(WRITE, {"error": "agent"}, failures_max=1))

    row = await fleet.reaches(task, _over)

    assert row.state is TaskState.FAILED
    assert row.checkpoint == fleet.origin.ref(
        f"refs/agentcom/checkpoint/{task}/{row.incarnation}.1"
    )


def _asks(name: str, tasks: Sequence[object]) -> dict[str, object]:
    """Return the step of an agent that drops a request; a prompt in a prompt would be its own."""
    text = base64.b64encode(json.dumps(tasks).encode()).decode()
    script = f"mkdir -p .agentcom/submit && echo {text} | base64 -d > .agentcom/x"
    return {"shell": ["sh", "-c", f"{script} && mv .agentcom/x .agentcom/submit/{name}.json"]}


async def test_an_agent_fans_out_and_in_and_its_sub_tasks_land(fleet: Fleet) -> None:
    def child(name: str) -> dict[str, object]:
        steps = prompt({"write": {"path": f"{name}.txt", "text": "x\n"}})
        return {"title": name, "prompt": steps, "ref": name}

    both: list[object] = [{"task": "one"}, {"task": "two"}]
    last = {**child("three"), "depends_on": both}
    asks = _asks("more", [child("one"), child("two"), last])
    spec = fleet.spec(asks, {"wait_for": ".agentcom/submitted/more.json"}, WRITE)

    (task,) = await fleet.submit(spec)
    await until(lambda: fleet.site.engine.view.books.below.get(task), patience_s=40)
    *_, newest = fleet.site.engine.view.books.below[task]
    row = await fleet.reaches(newest, _over)

    assert row.state is TaskState.COMPLETED
    assert row.parents == (task,)
    assert row.submitter == "eve"
    for name in ("one", "two", "three"):
        assert git(fleet.origin.path, "show", f"main:{name}.txt") == "x"
    assert ".agentcom/" not in git(fleet.origin.path, "ls-tree", "-r", "--name-only", "main")


async def test_the_cancel_of_a_task_ends_what_its_agent_asked_for(fleet: Fleet) -> None:
    child = {"title": "child", "prompt": prompt({"hang": True})}
    (task,) = await fleet.submit(fleet.spec(_asks("a", [child]), {"hang": True}))
    await until(lambda: fleet.site.engine.view.books.below.get(task))
    (found,) = fleet.site.engine.view.books.below[task]

    await fleet.cancel(task)

    assert (await fleet.reaches(found, _over)).state is TaskState.CANCELLED
    assert (await fleet.reaches(task, _over)).state is TaskState.CANCELLED
