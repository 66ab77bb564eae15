"""Sessions, leases and the times that come."""

import msgspec
import pytest

from agentcom.core import facts, leases
from agentcom.core.effects import CloseConnection, Push, Stop
from agentcom.core.facts import Fact
from agentcom.core.leases import CLOSE_LEASE_LOST
from agentcom.model import limits
from agentcom.model.agent import AgentState
from agentcom.model.batch import Table
from agentcom.model.errors import Superseded
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Dependency
from agentcom.model.ids import AgentId, MachineId, TaskId
from agentcom.model.replies import Explanation
from agentcom.model.task import Phase, TaskSpec, TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.testing.world import TTL_MS, agent, machine
from tests.core.acts import LOST_MS, Pool, done
from tests.core.leasing import M1


def test_a_silent_machine_is_suspect_after_half_its_lease_and_not_before() -> None:
    world = Pool()
    world.machine("m1")

    world.advance(TTL_MS // 2 - 1)
    (early,) = world.submit("early")
    world.advance(1)
    (late,) = world.submit("late")

    assert world.task(early).state is TaskState.ASSIGNED
    assert world.task(late).state is TaskState.QUEUED
    assert world.view.sessions[M1].suspect


def test_a_suspect_agent_with_a_free_slot_gets_nothing_until_its_machine_is_heard() -> None:
    world = Pool()
    world.machine("m1")
    world.advance(TTL_MS // 2)
    (task,) = world.submit("t")
    assert world.task(task).state is TaskState.QUEUED

    world.beat("m1")

    assert world.task(task).state is TaskState.ASSIGNED


def test_work_is_lost_after_the_lease_and_its_margin_and_not_before() -> None:
    world = Pool()
    task = world.running()

    world.advance(LOST_MS - 1)
    assert world.task(task).state is TaskState.RUNNING
    world.advance(1)

    assert world.task(task).state is TaskState.QUEUED
    assert world.task(task).leases_lost == 1
    closed = [e.code for e in world.effects if isinstance(e, CloseConnection)]
    assert closed == [CLOSE_LEASE_LOST]


def test_heartbeats_keep_a_lease_for_ever() -> None:
    world = Pool()
    task = world.running()

    for _ in range(50):
        world.advance(TTL_MS // limits.LEASE_PARTS)
        world.beat("m1", [world.holding(task)])

    assert world.task(task).leases_lost == 0
    assert not world.view.sessions[M1].suspect


def test_a_heartbeat_of_an_old_session_is_refused() -> None:
    world = Pool()
    world.machine("m1")
    old = world.view.sessions[M1].number
    world.machine("m1")
    world.advance(TTL_MS // 2)

    world.tell(facts.Heartbeat(old, ()), machine("m1"))

    assert world.view.sessions[M1].suspect


@pytest.mark.parametrize("name", ["m1", "m9"])
def test_a_heartbeat_without_a_session_is_refused(name: str) -> None:
    world = Pool()
    world.machine("m1")

    with pytest.raises(Superseded):
        world.ask(facts.Heartbeat(99, ()), machine(name))


def test_a_closed_socket_changes_nothing_but_where_new_work_goes() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)

    world.tell(facts.MachineDisconnected(M1, 1))
    world.tell(facts.MachineDisconnected(M1, 1))
    (other,) = world.submit("other")

    assert world.task(task) == before
    assert world.task(other).state is TaskState.QUEUED


def test_an_old_sockets_end_says_nothing_about_the_new_one() -> None:
    world = Pool()
    world.machine("m1")
    world.machine("m1")

    world.tell(facts.MachineDisconnected(M1, 1))
    world.tell(facts.MachineDisconnected(MachineId("unknown"), 1))

    assert world.view.sessions[M1].connection == 2


def test_a_machine_that_reconnects_goes_on_with_the_same_attempt() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)
    world.tell(facts.MachineDisconnected(M1, 1))
    world.advance(LOST_MS - 1)

    world.machine("m1", held=[world.holding(task)])

    assert world.task(task) == before
    world.advance(2)
    assert world.task(task) == before


def test_a_machine_that_returns_after_its_lease_resumes_what_nobody_else_has() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")

    world.machine("m1", held=[world.holding(task)])

    row = world.task(task)
    assert (row.state, row.phase, row.fence) == (TaskState.RUNNING, Phase.WORKING, fence)
    assert (row.leases_lost, row.lost) == (0, False)
    assert world.feed[-1].record.kind is EventKind.RESUMED


def test_a_resumed_attempt_is_lost_again_when_its_machine_falls_silent_again() -> None:
    world = Pool()
    task = world.running()
    for _ in range(3):
        world.vanish("m1")
        assert world.task(task).state is TaskState.QUEUED
        world.machine("m1", held=[world.holding(task)])

    world.advance(LOST_MS)

    assert world.task(task).state is TaskState.QUEUED


def test_a_heartbeat_that_comes_after_the_lease_starts_a_lease_that_is_watched() -> None:
    world = Pool()
    task = world.running()
    world.advance(LOST_MS)

    world.beat("m1", [world.holding(task)])
    assert world.task(task).state is TaskState.RUNNING
    world.advance(LOST_MS)

    assert world.task(task).state is TaskState.QUEUED


def test_an_attempt_that_was_told_to_stop_is_not_resumed_after_its_lease() -> None:
    world = Pool()
    task = world.running(deadline_ms=10_000)
    held = world.holding(task)
    world.advance(LOST_MS)

    world.machine("m1", held=[held])

    assert any(isinstance(e, Stop) and e.fence == held.fence for e in world.effects)
    assert world.task(task).attempt == 2


def test_five_lost_leases_make_a_dead_letter() -> None:
    world = Pool()
    (task,) = world.submit("t")
    for _ in range(limits.LEASES_LOST_MAX):
        world.machine("m1")
        world.accept(task)
        world.vanish("m1")

    row = world.task(task)
    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.LEASE_LOST)
    assert row.attempt == limits.LEASES_LOST_MAX
    assert row.reason == "its machine vanished 5 times: m1"


def test_attempts_that_their_machine_does_not_have_any_more_are_queued_again() -> None:
    world = Pool()
    task = world.running()

    world.beat("m1", [])

    assert (world.task(task).state, world.task(task).attempt) == (TaskState.ASSIGNED, 2)


def test_a_stall_of_the_hub_is_not_the_machines_fault() -> None:
    world = Pool()
    task = world.running()

    leases.forgive(world.view, 60_000)
    world.advance(LOST_MS + 59_999)
    assert world.task(task).state is TaskState.RUNNING
    world.advance(1)

    assert world.task(task).state is TaskState.QUEUED


def test_a_check_of_a_machine_without_a_session_does_nothing() -> None:
    world = Pool()

    assert world.tell(facts.LeaseChecked(MachineId("unknown"))) == []


def test_nothing_is_closed_when_the_socket_of_a_lost_lease_is_closed_already() -> None:
    world = Pool()
    world.running()

    world.vanish("m1")

    assert not any(isinstance(effect, CloseConnection) for effect in world.effects)


def test_a_heartbeat_whose_batch_found_no_room_can_come_again() -> None:
    world = Pool()
    world.machine("m1")
    world.advance(TTL_MS // 2)
    (task,) = world.submit("t")
    beat = Fact(body=facts.Heartbeat(1, ()), actor=machine("m1"))

    world.decide([beat], commit=False)
    assert world.task(task).state is TaskState.QUEUED
    world.decide([beat])

    assert world.task(task).state is TaskState.ASSIGNED


def test_a_closed_socket_whose_batch_found_no_room_is_no_black_hole_for_tasks() -> None:
    world = Pool()
    world.machine("m1")
    gone = Fact(body=facts.MachineDisconnected(M1, 1))

    world.decide([gone], commit=False)
    world.decide([gone])
    (task,) = world.submit("t")

    assert world.task(task).state is TaskState.QUEUED


def test_a_lease_check_whose_batch_found_no_room_can_come_again() -> None:
    world = Pool()
    world.machine("m1")
    world.now_ms += TTL_MS // 2
    check = Fact(body=facts.LeaseChecked(M1))

    world.decide([check], commit=False)
    world.decide([check])
    (task,) = world.submit("t")

    assert world.task(task).state is TaskState.QUEUED


def test_a_todo_that_is_done_already_does_nothing() -> None:
    world = Pool()

    assert world.tell(facts.TodoDue(TaskId("t"), TodoKind.RELEASE_DEPENDANTS)) == []


def test_an_assignment_on_its_way_is_not_sent_twice_by_a_heartbeat() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit("t")

    assert not [e for e in world.beat("m1", []) if isinstance(e, Push)]
    world.now_ms += TTL_MS // limits.LEASE_PARTS
    assert [e.assignment.task for e in world.beat("m1", []) if isinstance(e, Push)] == [task]


def test_a_cascade_goes_on_in_bounded_steps_until_it_is_done() -> None:
    world = Pool()
    first = world.running()
    count = limits.CASCADE_INLINE + limits.CASCADE_BATCH + 1
    depends = TaskSpec(title="d", prompt="p", depends_on=(Dependency(first),))
    waiting = world.submit(*[depends] * count)

    world.ask(facts.Cancel(first))
    world.tell(facts.Stopped(first, world.task(first).fence), machine("m1"))

    assert {world.task(task).failure for task in waiting} == {FailureClass.DEPENDENCY}
    assert world.view.todos == {}


def test_what_a_machine_without_a_session_takes_up_again_is_given_back() -> None:
    world = Pool()
    task = world.running()
    world.vanish("m1")
    world.restart()

    world.tell(facts.Checkpointed(task, world.task(task).fence, "k" * 40), machine("m1"))

    row = world.task(task)
    assert (row.state, row.checkpoint, row.leases_lost) == (TaskState.QUEUED, "k" * 40, 1)


def test_a_todo_of_a_task_that_was_reopened_is_done() -> None:
    world = Pool()
    first = world.running()
    todo = Todo(kind=TodoKind.RELEASE_DEPENDANTS, task=first)
    world.rows[Table.TODO, first] = world.view.todos[first] = todo

    world.tell(facts.TodoDue(first, todo.kind))

    assert world.view.todos == {}


def test_a_heartbeat_makes_up_for_an_acceptance_that_was_lost() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit(TaskSpec(title="t", prompt="p"))
    assert world.task(task).state is TaskState.ASSIGNED

    world.beat("m1", [world.holding(task)])

    assert (world.task(task).state, world.task(task).phase) == (TaskState.RUNNING, Phase.PREPARING)


def test_an_agent_with_a_problem_gets_nothing_until_its_machine_says_that_it_is_gone() -> None:
    world = Pool()
    world.machine("m1", msgspec.structs.replace(agent("ada"), problem="not logged in: ada login"))
    (task,) = world.submit("t")

    assert world.task(task).state is TaskState.QUEUED
    assert world.view.agent_state(world.view.agents[AgentId("ada")]) is AgentState.BLOCKED
    explained = world.ask(facts.Explain(task))
    assert isinstance(explained, Explanation)
    (rule,) = explained.agents
    assert (rule.rule, rule.detail) == ("unready", "not logged in: ada login")
    assert "does not pass by itself" in explained.next_action
    world.machine("m1", agent("ada"))

    assert world.task(task).state is TaskState.ASSIGNED


def test_a_machine_whose_agent_breaks_keeps_its_others() -> None:
    world = Pool()
    broken = msgspec.structs.replace(agent("ada"), problem="gone")
    world.machine("m1", broken, agent("bob"))
    (task,) = world.submit("t")

    assert world.task(task).agent == "bob"


def test_what_a_broken_agent_holds_goes_on() -> None:
    world = Pool()
    task = world.running()
    (name,) = world.view.agents
    broken = msgspec.structs.replace(agent(name), problem="gone")

    world.machine("m1", broken, held=[world.holding(task)])

    assert world.finish(task, done()).state is TaskState.COMPLETED
