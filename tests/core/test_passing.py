"""Limits, rates and claims of files over the life of attempts: taken, given back, rolled back."""

from collections.abc import Sequence

import pytest

from agentcom.core import facts
from agentcom.core.gates import Files
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput
from agentcom.model.ids import TaskId
from agentcom.model.limit import Limit, Usage
from agentcom.model.task import TaskSpec, TaskState
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool, done, failed

PERIOD_MS = 10_000


def limited(**fields: object) -> Pool:
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="key:*", **fields)))  # type: ignore[arg-type]  # as given
    world.machine("m1", agent("a1", slots=8))
    return world


def keyed(*keys: str, **fields: object) -> TaskSpec:
    return TaskSpec(title="t", prompt="p", keys=keys, **fields)  # type: ignore[arg-type]  # as given


def states(world: Pool, tasks: Sequence[TaskId]) -> list[str]:
    return [world.task(task).state.value for task in tasks]


def test_no_more_attempts_run_than_a_limit_allows() -> None:
    world = limited(concurrency=2)
    tasks = world.submit(*[keyed("db")] * 4, keyed("other"))

    assert states(world, tasks) == ["assigned", "assigned", "queued", "queued", "assigned"]


@pytest.mark.parametrize("end", ["done", "failed", "stopped", "vanished"])
def test_every_end_of_an_attempt_gives_its_place_back(end: str) -> None:
    world = limited(concurrency=1)
    first, second = world.submit(keyed("db"), keyed("db"))
    world.accept(first)
    if end == "stopped":
        world.ask(facts.Cancel(first))
        world.tell(facts.Stopped(first, world.task(first).fence), machine("m1"))
    elif end == "vanished":
        world.vanish("m1")
        world.machine("m1", agent("a1", slots=8))
    else:
        world.finish(first, done() if end == "done" else failed())

    running = [t for t in (first, second) if world.view.tasks.get(t) and world.task(t).state.held]
    assert len(running) == 1


def test_a_place_is_kept_while_the_work_lands() -> None:
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="submitter:ann", concurrency=1)))
    first = world.landing()
    (second,) = world.submit("second")

    assert world.task(second).state is TaskState.QUEUED
    world.land(first)
    assert world.task(second).state is TaskState.ASSIGNED


def test_a_limit_that_comes_later_counts_what_runs_and_holds_what_waits() -> None:
    world = Pool()
    world.machine("m1", agent("a1", slots=2))
    tasks = world.submit(*[keyed("db")] * 4)

    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=1)))
    world.finish(tasks[0], done())
    assert states(world, tasks[1:]) == ["assigned", "queued", "queued"]
    world.finish(tasks[1], done())
    assert states(world, tasks[2:]) == ["assigned", "queued"]


def test_a_limit_that_goes_lets_everything_start() -> None:
    world = limited(concurrency=0)
    tasks = world.submit(*[keyed("db")] * 3)
    assert states(world, tasks) == ["queued"] * 3

    world.ask(facts.DropLimit("key:*"))

    assert states(world, tasks) == ["assigned"] * 3


def test_a_name_of_its_own_beats_the_rule_for_each() -> None:
    world = limited(concurrency=0)
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=1)))

    assert states(world, world.submit(keyed("db"), keyed("x"))) == ["assigned", "queued"]


def test_a_rate_lets_so_many_start_and_then_one_by_one() -> None:
    world = limited(rate=2, per_ms=PERIOD_MS)
    tasks = world.submit(*[keyed("db")] * 4)
    assert states(world, tasks) == ["assigned", "assigned", "queued", "queued"]

    world.advance(PERIOD_MS // 2)

    assert states(world, tasks) == ["assigned", "assigned", "assigned", "queued"]


def test_a_restart_does_not_give_a_rate_again() -> None:
    world = limited(rate=1, per_ms=PERIOD_MS)
    tasks = world.submit(keyed("db"), keyed("db"))

    world.restart()
    world.machine("m1", agent("a1", slots=8), held=[world.holding(tasks[0])])
    assert states(world, tasks)[1] == "queued"
    world.advance(PERIOD_MS)

    assert world.task(tasks[1]).state is TaskState.ASSIGNED


def test_a_clock_that_was_set_back_shuts_a_rate_no_longer_than_its_period() -> None:
    world = limited(rate=1, per_ms=PERIOD_MS)
    row = Usage(scope="key:db", earned_at=world.now.wall + 1_000 * PERIOD_MS)  # type: ignore[arg-type]  # a time
    world.rows[Table.RATE, "key:db"] = row
    world.restart()
    world.machine("m1", agent("a1", slots=8))
    (task,) = world.submit(keyed("db"))

    world.tell(facts.GateDue("key:db"))
    world.advance(PERIOD_MS)

    assert world.task(task).state is TaskState.ASSIGNED


def test_rates_that_are_earned_again_are_forgotten_when_they_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentcom.core.passing.RATES_KEPT", 2)
    world = limited(rate=100, per_ms=100_000)
    for number in range(4):
        world.submit(keyed(f"k{number}"))
        world.advance(2_000)

    assert len(world.view.gates.rates) <= 3


def test_tasks_that_touch_the_same_files_exclude_each_other() -> None:
    world = limited(concurrency=9)
    repo = "https://git.example/r.git"
    tasks = world.submit(
        keyed(repo=repo, scope=("src/**",)),
        keyed(repo=repo, scope=("src/a.py",)),
        keyed(repo=repo, scope=("docs/**",)),
        keyed(repo="https://git.example/other", scope=("src/**",)),
    )
    assert states(world, tasks) == ["assigned", "queued", "assigned", "assigned"]

    world.finish(tasks[0], done())

    assert world.task(tasks[1]).state is TaskState.ASSIGNED


def test_readers_of_files_wait_only_for_writers() -> None:
    world = limited(concurrency=9)
    reads = keyed(scope=("src/**",), scope_shared=True)
    tasks = world.submit(reads, reads, keyed(scope=("src/a",)))

    assert states(world, tasks) == ["assigned", "assigned", "queued"]


def test_a_batch_that_is_not_written_takes_nothing() -> None:
    world = limited(concurrency=1, rate=1, per_ms=PERIOD_MS)
    body = facts.Submit((keyed("db", scope=("a",)), keyed("db", scope=("b",))))
    before = {**world.view.gates.taken}

    world.decide([facts.Fact(body=body)], commit=False)

    assert world.view.gates.taken == before
    assert world.view.gates.rates == {}
    assert not any(world.view.gates.files_held.values())
    assert world.view.depth() == 0


def test_what_is_found_behind_a_new_limit_is_moved_in_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentcom.core.turn.MOVED_MAX", 3)
    world = Pool()
    tasks = world.submit(*[keyed("db")] * 10, keyed("free"))
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=0)))

    world.machine("m1")

    assert states(world, tasks)[-1] == "assigned"
    assert states(world, tasks)[:-1] == ["queued"] * 10


def test_resources_of_a_machine_are_shared_by_its_agents() -> None:
    world = Pool()
    world.machine("m1", "a1", "a2", "a3", resources={"cpu": 3})
    tasks = world.submit(keyed(uses={"cpu": 2}), keyed(uses={"cpu": 2}), keyed(uses={"cpu": 1}))
    assert states(world, tasks) == ["assigned", "queued", "assigned"]

    world.finish(tasks[0], done())

    assert world.task(tasks[1]).state is TaskState.ASSIGNED


def test_a_task_that_uses_more_than_any_machine_has_says_so() -> None:
    world = Pool()
    world.machine("m1", resources={"cpu": 3})
    reply = world.ask(facts.Submit((keyed(uses={"cpu": 4}),)))

    assert reply.unschedulable  # type: ignore[union-attr]  # a submit's answer


def test_a_machine_that_grew_takes_what_it_could_not() -> None:
    world = Pool()
    world.machine("m1", resources={"cpu": 1})
    (task,) = world.submit(keyed(uses={"cpu": 4}))

    world.machine("m1", resources={"cpu": 4})

    assert world.task(task).state is TaskState.ASSIGNED
    with pytest.raises(InvalidInput):
        world.machine("m1", resources={"cpu": 0})


def test_claims_of_files_are_compared_per_repository() -> None:
    one, other = Files("repo:a", ("x",), shared=False), Files("repo:a", ("x",), shared=True)

    assert one.conflicts(other)
    assert not other.conflicts(other)


def test_what_an_attempt_changed_is_forgotten_when_it_ends_and_back_if_that_was_not_written() -> (
    None
):
    world = Pool()
    task = world.running(repo="https://git.example/r.git")
    fence = world.task(task).fence
    world.tell(facts.Checkpointed(task, fence, "k" * 40, touched=("a",)), machine("m1"))
    ended = facts.Fact(body=facts.Finished(task, fence, failed()), actor=machine("m1"))

    world.decide([ended], commit=False)
    assert world.view.gates.touched[task].paths == ("a",)
    world.decide([ended])
    assert world.view.gates.touched == {}
