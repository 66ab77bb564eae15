"""Agents that fail whatever they are given."""

import msgspec
import pytest

from agentcom.core import facts, moves, quarantine
from agentcom.core.turn import Turn
from agentcom.model.agent import Agent, AgentState
from agentcom.model.batch import Table
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, MachineId, TaskId, WallTime
from agentcom.model.limits import QUARANTINE_FAILURES, QUARANTINE_MAX_MS, QUARANTINE_MS
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec, TaskState
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool, done, failed

BAD = AgentId("bad")
AGENTS_OWN = [failure for failure, counts in quarantine.COUNTS.items() if counts]
OTHERS = [failure for failure, counts in quarantine.COUNTS.items() if not counts]
ENOUGH = QUARANTINE_FAILURES
BEAT_MS = 5_000


def two(world: Pool) -> None:
    """Have a bad agent, and a busy one of its class."""
    world.machine("m1", agent("bad"))
    world.machine("m2", agent("good"))
    world.submit("keeps one busy", "keeps the other busy")
    for row in list(world.view.tasks.values()):
        world.accept(row.id)
        if row.agent == BAD:
            world.finish(row.id)


def fail(world: Pool, failure: FailureClass, title: str = "t") -> TaskId:
    """Have the bad agent fail a new task."""
    (task,) = world.submit(title)
    assert world.task(task).agent == BAD
    world.accept(task)
    world.finish(task, failed(failure=failure))
    return task


def row(world: Pool, name: AgentId = BAD) -> Agent:
    return world.view.agents[name]


def test_every_class_of_failure_is_judged() -> None:
    assert set(quarantine.COUNTS) == set(FailureClass)
    assert all(quarantine.COUNTS[failure] for failure in quarantine.HOPELESS)


@pytest.mark.parametrize("failure", AGENTS_OWN)
def test_an_agent_that_fails_different_tasks_in_a_row_gets_no_more(failure: FailureClass) -> None:
    world = Pool()
    two(world)

    tasks = [fail(world, failure) for _ in range(ENOUGH)]

    assert row(world).failed == tuple(tasks)
    assert row(world).quarantined == (
        f"it failed 3 different tasks in a row, the last one: {failure.value}"
    )
    assert row(world).quarantined_at == world.now.wall
    assert world.view.agent_state(row(world)) is AgentState.QUARANTINED
    told = [a.record for a in world.feed if a.record.kind is EventKind.AGENT_QUARANTINED]
    assert [(record.agent, record.task) for record in told] == [(BAD, tasks[-1])]
    (after,) = world.submit("next")
    assert world.task(after).state is TaskState.QUEUED


@pytest.mark.parametrize("failure", OTHERS)
def test_what_is_not_the_agents_fault_does_not_count(failure: FailureClass) -> None:
    world = Pool()
    two(world)

    for _ in range(ENOUGH + 1):
        fail(world, failure)

    assert (row(world).failed, row(world).quarantined) == ((), None)


def test_a_success_clears_the_count_and_a_quota_does_not() -> None:
    world = Pool()
    two(world)
    fail(world, FailureClass.CRASHED)
    fail(world, FailureClass.CRASHED)
    (parked,) = world.submit("quota")
    world.accept(parked)
    world.finish(parked, Result(status=ResultStatus.PARKED))
    assert len(row(world).failed) == 2

    (good,) = world.submit("good")
    world.accept(good)
    world.finish(good, done())

    assert row(world).failed == ()
    version = row(world).version
    (good,) = world.submit("good")
    world.accept(good)
    world.finish(good, done())
    assert row(world).version == version


def test_one_bad_task_counts_once_however_often_it_fails() -> None:
    world = Pool()
    two(world)
    (task,) = world.submit("bad", key=None)
    for _ in range(2):
        world.accept(task)
        world.finish(task, failed(failure=FailureClass.CRASHED))
        world.advance(400_000)
        world.machine("m1", agent("bad"))
        world.machine("m2", agent("good"))

    assert row(world).failed in ((task,), ())
    assert row(world).quarantined is None


def test_a_task_that_everyone_fails_quarantines_nobody() -> None:
    world = Pool()
    for at in range(4):
        world.machine(f"m{at}", agent(f"a{at}"))
    for name in ("one", "two"):
        (task,) = world.submit(name)
        while world.task(task).state is not TaskState.FAILED:
            world.accept(task)
            world.finish(task, failed(failure=FailureClass.AGENT))
            for at in range(4):
                world.machine(f"m{at}", agent(f"a{at}"))
            world.advance(400_000)
            for at in range(4):
                world.machine(f"m{at}", agent(f"a{at}"))
            if world.task(task).state is TaskState.QUEUED:
                world.tell(facts.Recovered())

    assert all(agent.quarantined is None for agent in world.view.agents.values())


def test_the_count_and_the_quarantine_outlive_a_restart_and_a_reconnect() -> None:
    world = Pool()
    two(world)
    for _ in range(ENOUGH - 1):
        fail(world, FailureClass.CRASHED)
    world.restart()
    world.machine("m1", agent("bad"))
    world.machine("m2", agent("good"), held=[world.holding(held_by(world, "m2"))])
    assert len(row(world).failed) == ENOUGH - 1

    fail(world, FailureClass.CRASHED)
    world.restart()
    world.machine("m1", agent("bad"))

    assert row(world).quarantined is not None
    (task,) = world.submit("next")
    assert world.task(task).state is TaskState.QUEUED


def held_by(world: Pool, name: str) -> TaskId:
    return next(task.id for task in world.view.tasks.values() if task.machine == name)


def test_an_agent_without_another_goes_on_and_is_stopped_when_one_comes() -> None:
    world = Pool()
    world.machine("m1", agent("bad"))
    world.machine("m2", agent("good"))
    world.tell(facts.MachineDisconnected(MachineId("m2"), world.connections))
    for _ in range(ENOUGH + 1):
        fail(world, FailureClass.MODEL_UNAVAILABLE)
    assert row(world).quarantined is None
    assert len(row(world).failed) == ENOUGH

    world.machine("m2", agent("good"))
    world.submit("keeps good busy", "and bad too")
    for task in list(world.view.tasks.values()):
        if task.agent == BAD and task.state.held:
            world.accept(task.id)
            world.finish(task.id, failed(failure=FailureClass.MODEL_UNAVAILABLE))

    assert row(world).quarantined is not None


@pytest.mark.parametrize("how", ["paused", "draining", "other class", "quarantined"])
def test_who_does_not_work_is_no_reason_to_stop_the_last_one(how: str) -> None:
    world = Pool()
    world.machine("m2", agent("other", *(("gpu",) if how == "other class" else ())))
    if how == "paused":
        world.ask(facts.PauseAgent(AgentId("other"), paused=True))
    if how == "draining":
        world.ask(facts.DrainMachine(MachineId("m2"), draining=True))
    if how == "quarantined":
        other = world.view.agents[AgentId("other")]
        view = world.view
        view.agents[other.id] = msgspec.structs.replace(other, quarantined="why")
        world.rows[Table.AGENT, "other"] = view.agents[other.id]
        view.refresh(other.id)
    if how == "other class":
        world.submit("keeps other busy")
    world.machine("m1", agent("bad"))

    for _ in range(ENOUGH):
        fail(world, FailureClass.AGENT)

    assert row(world).quarantined is None


@pytest.mark.parametrize("failure", sorted(quarantine.HOPELESS))
def test_the_last_one_is_stopped_if_it_can_run_nothing_at_all(failure: FailureClass) -> None:
    world = Pool()
    world.machine("m1", agent("bad"))

    for _ in range(ENOUGH):
        fail(world, failure)
    (safe,) = world.submit("safe")

    assert row(world).quarantined is not None
    assert world.task(safe).state is TaskState.QUEUED


def test_declining_counts_but_not_when_it_was_asked_to_stop() -> None:
    world = Pool()
    two(world)
    for at in range(ENOUGH + 1):
        (task,) = world.submit("t")
        if at == 0:
            world.ask(facts.Cancel(task))
        fence = world.task(task).fence
        world.tell(facts.Declined(task, fence, "the disk is full"), machine("m1"))

    assert (row(world).quarantined or "").endswith("the last one: declined")
    assert len(row(world).failed) == ENOUGH


def test_a_person_ends_it_and_the_count_begins_anew() -> None:
    world = Pool()
    two(world)
    for _ in range(ENOUGH):
        fail(world, FailureClass.CRASHED)
    (waits,) = world.submit("waits")

    world.ask(facts.PauseAgent(BAD, paused=False))

    assert (row(world).quarantined, row(world).quarantined_at, row(world).failed) == (
        *(None, None, ()),
    )
    assert world.task(waits).agent == BAD


def test_an_agent_that_is_gone_is_not_judged() -> None:
    world = Pool()
    task = world.running()
    held = world.task(task)
    view = world.view
    known = view.agents.pop(AgentId("m1"))
    turn = Turn(view, now=world.now, ids=world.ids, rng=world.rng)

    quarantine.declined(turn, held)
    quarantine.judged(turn, held, moves.Completed(None, None, verified=False))

    assert turn.batch().empty
    view.agents[known.id] = known


def test_the_exit_code_of_a_command_is_not_the_agents_fault() -> None:
    world = Pool()
    two(world)

    for _ in range(ENOUGH):
        (task,) = world.submit(TaskSpec(title="t", command=("false",)))
        world.accept(task)
        world.finish(task, failed(failure=FailureClass.AGENT))

    assert row(world).failed == ()


def test_when_all_of_a_class_fail_nobody_is_stopped() -> None:
    world = Pool()
    names = [f"a{at}" for at in range(3)]
    for name in names:
        world.machine(name, agent(name))

    for _ in range(4 * ENOUGH):
        tasks = world.submit("one", "two", "three")
        for task in tasks:
            world.accept(task)
        for task in tasks:
            world.finish(task, failed(failure=FailureClass.MODEL_UNAVAILABLE))

    assert all(world.view.agents[AgentId(name)].quarantined is None for name in names)


def quarantined(world: Pool, *, slots: int = 1) -> None:
    """Have a bad agent in quarantine, and a busy one of its class."""
    two(world)
    if slots > 1:
        world.machine("m1", agent("bad", slots=slots))
    for _ in range(ENOUGH):
        world.ask(facts.Cancel(fail(world, FailureClass.CRASHED)))
    assert row(world).quarantined is not None


def wait(world: Pool, ms: int) -> None:
    """Let time pass while both machines send their heartbeats."""
    end = world.now_ms + ms
    while world.now_ms < end:
        world.advance(min(BEAT_MS, end - world.now_ms))
        for name in ("m1", "m2"):
            mine = world.view.held_tasks(MachineId(name))
            world.beat(name, [world.holding(task.id) for task in mine])


def test_after_a_while_one_task_is_a_trial_and_its_success_ends_the_quarantine() -> None:
    world = Pool()
    quarantined(world, slots=2)
    waiting = world.submit("one", "two", "three")

    wait(world, QUARANTINE_MS - 1)
    assert all(world.task(task).state is TaskState.QUEUED for task in waiting)
    wait(world, 1)

    given = [task for task in waiting if world.task(task).agent == BAD]
    assert len(given) == 1
    world.finish(given[0])
    assert row(world) == quarantine.lifted(row(world))
    held = [task for task in waiting if world.task(task).state is TaskState.ASSIGNED]
    assert len(held) == 2


def test_each_trial_that_fails_makes_the_quarantine_twice_as_long() -> None:
    world = Pool()
    quarantined(world)
    waits = [QUARANTINE_MS << strike for strike in range(8)]

    for ms in waits:
        at_most = min(ms, QUARANTINE_MAX_MS)
        assert row(world).tried_at == world.now.wall + at_most
        wait(world, at_most)
        world.ask(facts.Cancel(fail(world, FailureClass.CRASHED, "trial")))

    assert (row(world).strikes, row(world).on_trial) == (8, False)


def test_a_trial_that_tells_nothing_of_the_agent_is_followed_by_another() -> None:
    world = Pool()
    quarantined(world)
    wait(world, QUARANTINE_MS)

    world.ask(facts.Cancel(fail(world, FailureClass.VERIFICATION, "trial")))
    (after,) = world.submit("another trial")

    assert row(world).on_trial
    assert world.task(after).agent == BAD


def test_who_can_run_nothing_at_all_waits_for_a_person() -> None:
    world = Pool()
    quarantined(world)
    wait(world, QUARANTINE_MS)
    world.ask(facts.Cancel(fail(world, FailureClass.AUTH, "trial")))
    (waits,) = world.submit("next")

    wait(world, 10 * QUARANTINE_MAX_MS)

    assert (row(world).tried_at, row(world).on_trial) == (None, False)
    assert world.task(waits).state is TaskState.QUEUED


def test_the_trial_outlives_a_restart_and_a_clock_that_was_set_back() -> None:
    world = Pool()
    quarantined(world)
    (waits,) = world.submit("next")
    world.restart()
    world.machine("m1", agent("bad"))
    world.machine("m2", agent("good"), held=[world.holding(held_by(world, "m2"))])
    wait(world, QUARANTINE_MS)
    assert world.task(waits).agent == BAD
    world.finish(waits, failed(failure=FailureClass.CRASHED))
    far = msgspec.structs.replace(row(world), tried_at=WallTime(world.now.wall + 10**9))
    world.view.agents[BAD] = far
    world.rows[Table.AGENT, BAD] = far

    wait(world, 2 * QUARANTINE_MS)

    assert row(world).on_trial


def test_a_success_of_an_older_attempt_ends_the_quarantine() -> None:
    world = Pool()
    two(world)
    world.machine("m1", agent("bad", slots=2))
    (long,) = world.submit("long")
    world.accept(long)
    for _ in range(ENOUGH):
        fail(world, FailureClass.CRASHED)
    assert row(world).quarantined is not None

    world.finish(long)

    assert row(world).quarantined is None
