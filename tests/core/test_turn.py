"""What follows from a move, on every path alike."""

import pytest

from agentcom.core import due_facts, facts, moves
from agentcom.core.effects import Push, SetTimer
from agentcom.core.turn import Turn
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Dependency
from agentcom.model.ids import AgentId, MachineId, TaskId, WallTime
from agentcom.model.limits import RETRY_BASE_MS, RETRY_MAX_MS
from agentcom.model.task import Phase, StopReason, TaskSpec, TaskState, Wait
from agentcom.testing.world import agent, machine, person
from tests.core.acts import KEY, Pool, done, failed, merging
from tests.core.quota_acts import account, canary_of, tried

ENDS = [
    moves.Completed("c", None, verified=False),
    moves.Failed(FailureClass.AGENT, "r", WallTime(0)),
    moves.Failed(FailureClass.CONFLICT, "r", WallTime(0)),
    moves.LeaseLost(),
    moves.Declined("r", WallTime(0)),
    moves.Stopped(WallTime(0)),
    moves.Parked(Wait.QUOTA, WallTime(0), "r"),
    moves.Parked(Wait.APPROVAL, None, "r"),
]


class Fixed:
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def a_turn(world: Pool, chance: float = 0.5) -> Turn:
    return Turn(world.view, now=world.now, ids=world.ids, rng=Fixed(chance))


def commit(world: Pool, turn: Turn) -> None:
    world.apply(turn.batch())
    world.view.confirm()


@pytest.mark.parametrize("phase", [Phase.WORKING, Phase.LANDING])
@pytest.mark.parametrize("reason", [None, *StopReason])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_whatever_ends_an_attempt_gives_back_all_it_held(
    end: moves.End, reason: StopReason | None, phase: Phase
) -> None:
    world = Pool()
    task = world.running() if phase is Phase.WORKING else world.landing()
    turn = a_turn(world)
    if reason is not None:
        turn.move(world.view.tasks[task], moves.StopAsked(reason), EventKind.STOP_ASKED)

    turn.move(world.view.tasks[task], end, EventKind.RETURNED)
    commit(world, turn)

    assert task not in world.view.holds
    assert world.view.slots_used[AgentId("m1")] == 0
    assert world.view.landing == {}
    assert [row for row in world.rows if row[0] == "hold"] == []
    assert world.view.held_tasks(MachineId("m1")) == []


def test_landing_frees_the_agent_for_the_next_task_in_the_same_turn() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit("second")

    world.finish(first, merging())

    assert world.task(second).state is TaskState.ASSIGNED
    assert set(world.view.holds[first]) == {f"land:{KEY}"}


def test_a_completion_frees_the_agent_and_assigns_its_next_task_at_once() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit("second")

    effects = world.tell(facts.Finished(first, world.task(first).fence, done()), machine("m1"))

    assert [e.assignment.task for e in effects if isinstance(e, Push)] == [second]


def test_the_push_that_follows_a_submit_carries_the_specification() -> None:
    world = Pool()
    world.machine("m1")

    (task,) = world.submit("t")

    (push,) = [e for e in world.effects if isinstance(e, Push)]
    assert push.body == world.body(task)


def test_inputs_of_an_assignment_are_the_commits_of_its_dependencies() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(TaskSpec(title="b", prompt="p", depends_on=(Dependency(first),)))

    world.finish(first)

    (pushed,) = world.pushed(second)
    assert pushed.inputs == ("c" * 40,)
    world.accept(second)
    assert world.finish(second).state is TaskState.COMPLETED


@pytest.mark.parametrize(
    ("failures", "ceiling"),
    [(0, RETRY_BASE_MS), (1, 10_000), (5, 160_000), (6, RETRY_MAX_MS), (99, RETRY_MAX_MS)],
)
def test_the_pause_before_a_retry_is_drawn_from_the_whole_of_a_doubling_interval(
    failures: int, ceiling: int
) -> None:
    world = Pool()

    shortest = a_turn(world, 0.0).retry_at(failures) - world.now.wall
    longest = a_turn(world, 0.999_999).retry_at(failures) - world.now.wall

    assert shortest == 0
    assert ceiling - 2 <= longest < ceiling


def test_a_pause_is_a_timer() -> None:
    world = Pool()
    task = world.running()

    until = world.finish(task, failed()).until

    assert until is not None
    timer = world.timers[f"wait/{task}"]
    assert timer == SetTimer(timer.key, a_turn(world).instant_of(until), due_facts.WaitEnded(task))


def test_nothing_is_given_out_while_the_store_is_older_than_the_fleet() -> None:
    world = Pool()
    world.machine("m1")
    world.view.beyond[MachineId("m1")] = None

    (task,) = world.submit("t")

    assert world.task(task).state is TaskState.QUEUED


def test_an_agent_gets_as_much_work_as_it_has_slots() -> None:
    world = Pool()
    tasks = world.submit("a", "b", "c")

    world.machine("m1", agent("ada", slots=2))

    states = [world.task(task).state for task in tasks]
    assert states == [TaskState.ASSIGNED, TaskState.ASSIGNED, TaskState.QUEUED]


def test_the_best_of_several_new_tasks_gets_the_agent() -> None:
    world = Pool()
    world.machine("m1")

    low, high = world.submit(
        TaskSpec(title="low", prompt="p", priority=-1),
        TaskSpec(title="high", prompt="p", priority=1),
    )

    assert world.task(high).state is TaskState.ASSIGNED
    assert world.task(low).state is TaskState.QUEUED


def test_an_emergency_goes_first_and_does_not_move_virtual_time() -> None:
    world = Pool()
    low, urgent = world.submit(
        TaskSpec(title="first", prompt="p", priority=10),
        TaskSpec(title="urgent", prompt="p", priority=-10, emergency=True),
    )

    world.machine("m1")

    assert world.task(urgent).state is TaskState.ASSIGNED
    assert world.task(low).state is TaskState.QUEUED
    assert world.view.fairness.virtual_time == 0


def test_a_submitter_with_one_task_does_not_wait_for_anothers_backlog() -> None:
    world = Pool()
    backlog = world.submit(*["x"] * 10, by="ann")
    (single,) = world.submit("y", by="bob")

    world.machine("m1", agent("ada", slots=2))

    assert world.task(backlog[0]).state is TaskState.ASSIGNED
    assert world.task(single).state is TaskState.ASSIGNED


def test_who_cancels_queued_tasks_is_not_charged_for_them() -> None:
    world = Pool()
    for task in world.submit(*["x"] * 10, by="ann"):
        world.ask(facts.Cancel(task))
    (bobs,) = world.submit("y", by="bob")
    (anns,) = world.submit("z", by="ann")

    world.machine("m1", agent("ada", slots=2))

    assert world.task(bobs).start_tag == world.task(anns).start_tag
    assert world.task(anns).state is TaskState.ASSIGNED


def test_a_task_that_ended_while_it_was_new_in_the_same_fact_is_not_matched() -> None:
    world = Pool()
    world.machine("m1")
    turn = a_turn(world)
    (task,) = world.submit("t")
    for gone in ("gone", "too"):
        turn.queued[TaskId(gone)] = None

    turn.match()

    assert world.task(task).state is TaskState.ASSIGNED
    assert turn.batch().empty


def test_an_ended_task_leaves_no_trace_in_the_view() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(
        TaskSpec(title="b", prompt="p", depends_on=(Dependency(first),), unique_key="u")
    )

    world.ask(facts.Cancel(second))
    world.finish(first)

    view = world.view
    assert (dict(view.tasks), view.edges, view.dependants, view.unique) == ({}, {}, {}, {})
    assert view.shapes.live_shapes == 0


def test_the_end_of_an_old_task_keeps_the_unique_key_of_its_successor() -> None:
    world = Pool()
    old = world.running(unique_key="nightly")
    world.vanish("m1")
    world.ask(facts.Cancel(old))
    row = world.task(old)
    (new,) = world.submit(TaskSpec(title="n", prompt="p", unique_key="nightly"))
    world.tell(facts.Finished(old, row.fence, done()), machine("m1"))

    world.ask(facts.Adopt(old, row.fence, MachineId("m1")), person("op"))

    assert world.task(old).state is TaskState.COMPLETED
    assert world.view.unique == {"nightly": new}


def test_a_refused_fact_leaves_no_trace() -> None:
    world = Pool()
    world.machine("m1")
    fact = facts.Fact(
        body=facts.Submit(
            (TaskSpec(title="ok", prompt="p"), TaskSpec(title="bad", prompt="p", priority=99))
        )
    )
    before = world.view.agents, world.view.tasks, world.view.matcher.depth()

    world.decide([fact])

    assert (world.view.agents, world.view.tasks, world.view.matcher.depth()) == before


def test_the_canary_of_an_account_follows_its_task() -> None:
    world, task = tried()

    assert canary_of(world) == task.id
    world.finish(task.id)

    assert account(world) is None
