"""Fleets whose agents share an account, for the tests of what a used-up quota does."""

from agentcom.core import facts
from agentcom.model.agent import Account
from agentcom.model.batch import Table
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AccountId, TaskId, WallTime
from agentcom.model.result import Result
from agentcom.model.task import Phase, Task, TaskSpec
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool, failed

ANN = AccountId("anthropic:ann@example.org")
HOUR_MS = 3_600_000


def quota(world: Pool, in_ms: int | None = HOUR_MS, **fields: object) -> Result:
    """Return what an attempt reports that found no quota."""
    at = None if in_ms is None else WallTime(world.now.wall + in_ms)
    return failed(failure=FailureClass.QUOTA, resets_at=at, **fields)


def fleet(*names: str, slots: int = 1) -> Pool:
    """Return machines whose agents share one account."""
    world = Pool()
    for name in names or ("m1", "m2", "m3"):
        world.machine(name, agent(f"a-{name}", slots=slots, account=ANN))
    return world


def account(world: Pool) -> Account | None:
    row = world.rows.get((Table.ACCOUNT, ANN))
    assert row is None or isinstance(row, Account)
    return row


def working(world: Pool, title: str = "t", **fields: object) -> TaskId:
    (task,) = world.submit(TaskSpec(title=title, prompt="p", **fields))  # type: ignore[arg-type]  # a test's shorthand
    row = world.accept(task)
    world.tell(facts.PhaseReached(task, row.fence, Phase.WORKING), machine(row.machine or ""))
    return task


def parked(*names: str, in_ms: int | None = HOUR_MS, slots: int = 1) -> tuple[Pool, TaskId]:
    """Return a fleet whose account is parked, and the task that found it exhausted."""
    world = fleet(*names, slots=slots)
    task = working(world)
    world.finish(task, quota(world, in_ms))
    return world, task


def held(world: Pool) -> list[Task]:
    return [task for task in world.view.tasks.values() if task.state.held]


def later(world: Pool, ms: int, *, silent: str | None = None) -> None:
    """Let time pass in which every machine but one keeps its lease."""
    world.now_ms += ms
    for name in [name for name in world.view.sessions if name != silent]:
        mine = [world.holding(t.id) for t in world.view.held_tasks(name)]
        world.beat(name, mine)
    world.advance(0)


def tried(*names: str) -> tuple[Pool, Task]:
    """Return a fleet whose account is tried again, and the canary's task; others wait."""
    world, _ = parked(*names)
    world.submit("a", "b", "c")
    later(world, HOUR_MS)
    (task,) = held(world)
    return world, task


def canary_of(world: Pool) -> TaskId:
    row = account(world)
    assert row is not None
    assert row.canary is not None
    return row.canary.task
