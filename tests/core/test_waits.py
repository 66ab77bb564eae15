"""Who waits for whom: behind limits, files and dependencies."""

import pytest

from agentcom.core import facts, lock_facts, waits
from agentcom.model.budget import Budget, Period
from agentcom.model.graph import Dependency
from agentcom.model.ids import DEFAULT_PROJECT, AgentId, ProjectId, TaskId
from agentcom.model.limit import Limit
from agentcom.model.replies import LockTold, Waiting, Waits, WaitsFor
from agentcom.model.task import TaskSpec
from agentcom.model.usage import TurnUsage
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool


def fleet(*, slots: int = 4) -> Pool:
    world = Pool()
    world.machine("m1", agent("a", slots=slots))
    return world


def add(world: Pool, title: str = "t", **fields: object) -> TaskId:
    (task,) = world.submit(TaskSpec(title=title, prompt="p", **fields))  # type: ignore[arg-type]  # as a task has them
    return task


def picture(world: Pool) -> Waits:
    return waits.picture(world.view, DEFAULT_PROJECT)


def test_who_only_waits_for_an_agent_waits_for_no_task() -> None:
    world = fleet(slots=1)
    add(world)
    add(world)
    add(world, scope=("src/**",))

    assert picture(world) == Waits(waits=())


def test_a_full_limit_names_what_runs_in_it() -> None:
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=1)))
    one = add(world, keys=("db",))
    two = add(world, "two", keys=("db",))
    three = add(world, "three", keys=("db",))

    assert picture(world).waits == tuple(
        Waiting(task=task, title=title, by=WaitsFor.LIMIT, what="key:db", on=(one,))
        for task, title in ((two, "two"), (three, "three"))
    )


def test_a_rate_says_when_and_names_nobody() -> None:
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", rate=1, per_ms=60_000)))
    add(world, keys=("db",))
    two = add(world, keys=("db",))

    (found,) = picture(world).waits
    assert (found.task, found.on, found.until) == (two, (), world.now.wall + 60_000)


def test_a_pause_is_nobodys_and_keeps_what_else_is_shut_in_sight() -> None:
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=1)))
    one = add(world, keys=("db",))
    two = add(world, keys=("db",))
    for scope in "all", "project:default", f"task:{two}":
        world.ask(facts.Pause(scope, paused=True))
    three = add(world, keys=("db",))

    found = [(wait.task, wait.by, wait.on) for wait in picture(world).waits]
    assert found == [(two, WaitsFor.LIMIT, (one,)), (three, WaitsFor.LIMIT, (one,))]


def test_a_budget_names_who_has_reserved_what_is_left_or_when_it_is_renewed() -> None:
    world = fleet()
    world.ask(facts.SetBudget("project:default", Period.DAY, Budget(turns=1)))
    one, two = add(world), add(world)

    (found,) = picture(world).waits
    assert (found.task, found.by, found.on) == (two, WaitsFor.BUDGET, (one,))
    assert (found.what, found.until) == ("project:default by the day", None)
    turn = TurnUsage(turn=1, agent=AgentId("a"), input=1)
    world.tell(facts.Used(one, world.task(one).fence, (turn,)), machine("m1"))
    (found,) = picture(world).waits
    assert found.until is not None
    assert found.until > world.now.wall


def test_files_in_use_name_who_has_them_beside_the_limit() -> None:
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=1)))
    one = add(world, scope=("src/**",))
    two = add(world, keys=("db",))
    three = add(world, scope=("docs/**", "src/a.py"), keys=("db",))

    found = {(wait.task, wait.by): (wait.what, wait.on) for wait in picture(world).waits}
    assert found == {
        (three, WaitsFor.LIMIT): ("key:db", (two,)),
        (three, WaitsFor.FILES): ("docs/**, src/a.py", (one,)),
    }


def test_locks_on_files_are_named_with_the_task_whose_agent_has_them() -> None:
    world = fleet()
    one = add(world)
    fence = world.task(one).fence
    body = lock_facts.AcquireLock(globs=("src/**",), repo="/r", task=one, fence=fence)
    told = world.ask(body, machine("m1"))
    two = add(world, scope=("src/a.py",), repo="/r")

    (found,) = picture(world).waits
    assert (found.task, found.by, found.on) == (two, WaitsFor.LOCK, (one,))
    assert isinstance(told, LockTold)
    assert found.what == told.lock.id


def test_dependencies_that_have_not_ended_are_named() -> None:
    world = fleet()
    one, two = add(world), add(world)
    three = add(world, depends_on=(Dependency(one), Dependency(two)))
    world.accept(one)
    world.finish(one)

    (found,) = picture(world).waits
    assert (found.task, found.by, found.on) == (three, WaitsFor.DEPENDENCY, (two,))


def test_tasks_of_other_projects_are_not_there() -> None:
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=1)))
    add(world, keys=("db",))
    add(world, keys=("db",))
    one = add(world)
    add(world, depends_on=(Dependency(one),))

    assert waits.picture(world.view, ProjectId("other")) == Waits(waits=())


def test_the_picture_is_bounded_and_counts_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waits, "WAITS_MAX", 3)
    monkeypatch.setattr(waits, "WAITS_ON_MAX", 2)
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=3)))
    running = [add(world, keys=("db",)) for _ in range(3)]
    late = [add(world, keys=("db",), priority=n) for n in range(4)]
    add(world, depends_on=(Dependency(running[0]),))

    found = picture(world)

    assert [wait.task for wait in found.waits] == late[:0:-1]
    assert found.left_out == 2
    assert {(wait.on, wait.more) for wait in found.waits} == {(tuple(running[:2]), 1)}
