"""Times that come to tasks."""

import msgspec

from agentcom.core import due_facts, facts
from agentcom.core.effects import Stop
from agentcom.core.turn import DEADLINES
from agentcom.model import limits
from agentcom.model.agent import HeldStage
from agentcom.model.batch import Table
from agentcom.model.failure import FailureClass, OnQuota
from agentcom.model.graph import Dependency
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.model.replies import Explanation
from agentcom.model.task import StopReason, TaskSpec, TaskState, Wait
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool, done, failed, merging
from tests.core.quota_acts import ANN, HOUR_MS, canary_of, fleet, later, parked, quota

M1 = MachineId("m1")


def test_timers_are_rebuilt_from_the_rows() -> None:
    world = Pool()
    held = world.running()
    parked, _ = world.submit(
        TaskSpec(title="t", prompt="p", not_before=WallTime(world.now.wall + 70_000)),
        "queued",
    )
    before = {key: timer for key, timer in world.timers.items() if "lease" not in key}

    world.restart()

    assert {key: t for key, t in world.timers.items() if "lease" not in key} == before
    assert set(before) == {DEADLINES, f"wait/{parked}"}
    assert before[DEADLINES].at == world.now_ms + world.task(held).deadline_ms


def test_an_expired_deadline_stops_the_attempt_once_and_counts_as_a_failure() -> None:
    world = Pool()
    task = world.running(deadline_ms=10_000, failures_max=2)
    fence = world.task(task).fence
    world.advance(9_000)
    world.beat("m1", [world.holding(task)])
    world.advance(1_000)
    assert world.task(task).stop_reason is StopReason.TIMED_OUT

    world.tell(facts.Stopped(task, fence), machine("m1"))

    row = world.task(task)
    assert (row.failures, row.failure, row.wait) == (1, FailureClass.DEADLINE, Wait.RETRY)
    stops = [e for e in world.effects if isinstance(e, Stop)]
    assert stops == [Stop(M1, task, fence, StopReason.TIMED_OUT)]


def test_a_task_that_always_times_out_does_not_loop() -> None:
    world = Pool()
    (task,) = world.submit(TaskSpec(title="t", prompt="p", deadline_ms=1_000))
    for _ in range(20):
        world.machine("m1", held=[world.holding(task)] if world.task(task).state.held else [])
        if world.task(task).state is TaskState.ASSIGNED:
            world.accept(task)
        world.advance(1_000)
        if world.task(task).stop_reason is not None:
            world.tell(facts.Stopped(task, world.task(task).fence), machine("m1"))
        world.advance(9_000)

    row = world.task(task)
    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.DEADLINE)
    assert row.attempt == limits.FAILURES_MAX
    assert row.reason == "the attempt used up its time"
    found = world.ask(facts.Explain(task))
    assert isinstance(found, Explanation)
    assert found.summary == "it is failed (deadline): the attempt used up its time"
    ends = [one.record for one in world.feed if one.record.task == task]
    assert [e.state for e in ends if e.failure is FailureClass.DEADLINE][-1] is TaskState.FAILED


def test_a_deadline_leaves_an_attempt_that_was_told_to_stop_before_to_its_heartbeats() -> None:
    world = Pool()
    task = world.running(deadline_ms=5_000)
    world.ask(facts.Cancel(task))
    stops = sum(isinstance(effect, Stop) for effect in world.effects)

    world.advance(5_000)

    assert world.task(task).stop_reason is StopReason.CANCELLED
    assert sum(isinstance(effect, Stop) for effect in world.effects) == stops


def test_one_timer_watches_the_deadlines_of_all_attempts() -> None:
    world = Pool()
    world.machine("m1", agent("ada", slots=3))
    late, soon, last = world.submit(
        *(TaskSpec(title="t", prompt="p", deadline_ms=ms) for ms in (60_000, 5_000, 90_000))
    )
    assert world.timers[DEADLINES].at == world.now_ms + 5_000

    world.advance(5_000)

    assert [world.task(t).stop_reason for t in (late, soon, last)] == [
        None,
        StopReason.TIMED_OUT,
        None,
    ]
    assert world.timers[DEADLINES].at == world.now_ms + 55_000


def test_the_deadline_of_an_attempt_that_is_over_stops_nothing() -> None:
    world = Pool()
    world.finish(world.running(deadline_ms=5_000))
    task = world.running(deadline_ms=60_000)

    world.advance(5_000)

    assert world.task(task).stop_reason is None
    assert world.timers[DEADLINES].at == world.now_ms + 55_000


def test_deadlines_that_come_together_are_worked_off_in_bounded_steps() -> None:
    world = Pool()
    count = limits.CASCADE_BATCH + 1
    for n in range(-(-count // limits.SLOTS_MAX)):
        world.machine(f"m{n}", agent(f"a{n}", slots=limits.SLOTS_MAX))
    tasks = world.submit(*[TaskSpec(title="t", prompt="p", deadline_ms=5_000)] * count)
    assert all(world.task(task).state is TaskState.ASSIGNED for task in tasks)

    world.advance(5_000)
    assert sum(world.task(task).stop_reason is None for task in tasks) == 1
    world.advance(limits.DEADLINE_LOOK_MS)

    assert all(world.task(task).stop_reason is StopReason.TIMED_OUT for task in tasks)


def test_a_deadline_timer_that_was_not_committed_is_set_again() -> None:
    world = Pool()
    world.machine("m1")
    fact = facts.Fact(body=facts.Submit((TaskSpec(title="t", prompt="p"),)))
    world.decide([fact], commit=False)

    world.submit(TaskSpec(title="t", prompt="p", deadline_ms=9_000))

    assert world.timers[DEADLINES].at == world.now_ms + 9_000


def test_a_task_with_a_start_time_waits_for_it() -> None:
    world = Pool()
    world.machine("m1")
    start = WallTime(world.now.wall + 5_000)
    (task,) = world.submit(TaskSpec(title="t", prompt="p", not_before=start))

    world.advance(4_999)
    assert (world.task(task).state, world.task(task).wait) == (TaskState.WAITING, Wait.START_TIME)
    world.advance(1)

    assert world.task(task).state is TaskState.ASSIGNED


def test_a_timer_that_comes_too_early_is_set_again() -> None:
    world = Pool()
    start = WallTime(world.now.wall + 5_000)
    (task,) = world.submit(TaskSpec(title="t", prompt="p", not_before=start))

    world.tell(due_facts.WaitEnded(task))

    assert world.task(task).state is TaskState.WAITING
    assert world.timers[f"wait/{task}"].at == world.now_ms + 5_000


def test_a_pause_before_a_retry_ends_though_the_clock_was_set_back_by_a_day() -> None:
    world = Pool()
    task = world.running()
    row = world.finish(task, failed())
    assert row.until is not None
    late = msgspec.structs.replace(row, until=WallTime(row.until + 86_400_000), version=99)
    world.rows[Table.TASK, task] = late
    world.restart()

    world.advance(limits.RETRY_MAX_MS)

    assert world.task(task).state is TaskState.QUEUED


def test_a_timer_releases_nothing_that_waits_for_something_else() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(TaskSpec(title="b", prompt="p", depends_on=(Dependency(first),)))
    person_needed = world.finish(first, done(needs_person=("look",)))

    for task in (first, second, TaskId("over")):
        world.tell(due_facts.WaitEnded(task))

    assert world.task(first) == person_needed
    assert world.task(second).wait is Wait.DEPENDENCIES


def test_a_deadline_in_the_past_is_due_at_once_after_a_start() -> None:
    world = Pool()
    world.running()
    world.now_ms += limits.ATTEMPT_DEADLINE_MS + 1

    world.restart()

    assert world.timers[DEADLINES].at == world.now_ms


def test_after_a_restart_only_the_landing_that_has_its_base_is_timed() -> None:
    world = Pool()
    first, second = world.running(on="m1"), world.running(on="m2")
    for task in first, second:
        world.finish(task, merging())
    world.restart()
    world.machine("m1", held=[world.holding(first, HeldStage.LANDING)])
    world.machine("m2", held=[world.holding(second, HeldStage.READY)])
    assert f"land/{second}" not in world.timers

    world.land(first)
    world.land(second)

    assert not [key for key in world.timers if key.startswith("land/")]


def test_a_landing_that_is_over_is_not_overdue() -> None:
    world = Pool()
    task = world.running()

    world.tell(due_facts.LandingOverdue(TaskId("gone"), Fence(7, 1)))
    world.tell(due_facts.LandingOverdue(task, Fence(7, 0)))
    world.tell(due_facts.LandingOverdue(task, world.task(task).fence))

    assert world.task(task).stop_reason is None


def test_many_tasks_that_wait_for_an_account_are_released_in_parts() -> None:
    world = fleet("m1", slots=64)
    world.machine("m1", agent("a-m1", slots=64, account=ANN))
    tasks: list[TaskId] = []
    for _ in range(limits.CASCADE_BATCH // 64 + 1):
        some = world.submit(
            *[TaskSpec(title="t", prompt="p", on_quota=OnQuota.WAIT) for _ in range(64)]
        )
        world.decide([facts.Fact(body=facts.Finished(t, world.task(t).fence, quota(world)),
                                 actor=machine("m1")) for t in some])  # fmt: skip
        tasks += some
        world.rows.pop((Table.ACCOUNT, ANN))  # forget the park: the next 64 may start
        world.view.accounts.clear()
        world.view.refresh(AgentId("a-m1"))
    (last,) = world.submit("last")
    world.finish(last, quota(world))

    world.ask(facts.ResumeAccount(ANN))

    assert not [t for t in tasks if world.task(t).state is TaskState.WAITING]


def test_at_the_reset_of_an_account_one_attempt_tries_it() -> None:
    world, _ = parked()
    world.submit("a")

    later(world, HOUR_MS)

    assert world.task(canary_of(world)).state is TaskState.ASSIGNED
