"""Sessions, leases and the times that come."""

import msgspec
import pytest

from agentcom.core import facts, leases
from agentcom.core.effects import CloseConnection, Continue, GrantLanding, Push, SetTimer, Stop
from agentcom.core.facts import Fact
from agentcom.core.leases import CLOSE_LEASE_LOST, CLOSE_SUPERSEDED
from agentcom.model import limits
from agentcom.model.agent import AgentSpec, AgentState, Held, HeldStage
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput, NotAllowed, Superseded
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Dependency
from agentcom.model.ids import AgentId, Fence, Instant, MachineId, TaskId
from agentcom.model.replies import Explanation, Welcomed
from agentcom.model.task import Phase, StopReason, TaskSpec, TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.testing.world import TTL_MS, agent, machine
from tests.core.acts import LOST_MS, Pool, done

M1 = MachineId("m1")


def connected(*agents: AgentSpec, ttl_ms: int = TTL_MS) -> facts.MachineConnected:
    return facts.MachineConnected(agents=agents, held=(), ttl_ms=ttl_ms, connection=99)


# The lease --------------------------------------------------------------------------------------


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


# Starts of the hub ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl_ms", "grace_ms"),
    [(20_000, 90_000), (600_000, 750_000), (2_000, 5_000)],
)
def test_after_a_start_holders_get_time_to_come_back(ttl_ms: int, grace_ms: int) -> None:
    world = Pool()
    task = world.running()
    world.ask(connected(agent("m1"), ttl_ms=ttl_ms), machine("m1"))
    task = world.pushed()[-1].task
    world.accept(task)
    world.restart()
    before = world.task(task)

    world.machine("m2")
    world.advance(grace_ms - 1)
    assert world.task(task) == before
    world.beat("m2") if grace_ms < LOST_MS else world.machine("m2")
    world.advance(1)

    assert world.task(task).fence > before.fence


def test_nothing_is_issued_again_that_its_holder_still_has_after_a_start() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)
    world.restart()
    world.machine("m2")
    world.advance(80_000)

    world.machine("m1", held=[world.holding(task)])
    world.advance(TTL_MS)

    assert world.task(task) == before


def test_what_was_pushed_into_the_void_before_a_start_is_pushed_again() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit("t")
    world.restart()

    world.machine("m1", held=())

    assert [a.fence for a in world.pushed(task)] == [Fence(7, 1), Fence(7, 1)]


def test_stored_holders_without_a_machine_row_get_the_default() -> None:
    world = Pool()
    task = world.running()
    world.view.machines.clear()

    effects = leases.grace(world.view, world.now)

    assert [e.at - world.now_ms for e in effects if isinstance(e, SetTimer)] == [90_000]
    assert world.task(task).state is TaskState.RUNNING


def test_a_machine_that_holds_nothing_any_more_needs_no_timer() -> None:
    world = Pool()
    world.finish(world.running())

    assert leases.grace(world.view, world.now) == []


def test_sessions_outlive_a_view_that_was_thrown_away() -> None:
    world = Pool()
    world.machine("m1")
    world.machine("gone")
    old = world.view
    del world.rows[("machine", "gone")]  # type: ignore[arg-type]  # a table's name is its text
    del world.rows[("agent", "gone")]  # type: ignore[arg-type]  # as above
    world.restart()

    effects = leases.inherit(world.view, old)
    assert Continue(facts.Recovered()) in effects

    assert list(world.view.sessions) == [M1]
    assert [e.key for e in effects if isinstance(e, SetTimer)] == ["lease/m1"]
    (task,) = world.submit("t")
    assert world.task(task).state is TaskState.ASSIGNED


# Connecting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (0, limits.LEASE_TTL_MS),
        (1, limits.LEASE_TTL_MIN_MS),
        (5_000, 5_000),
        (1 << 40, limits.LEASE_TTL_MAX_MS),
    ],
)
def test_a_machine_learns_its_lease(asked: int, given: int) -> None:
    world = Pool()
    world.machine("m1")

    reply = world.ask(connected(agent("m1"), ttl_ms=asked), machine("m1"))

    assert reply == Welcomed(session=2, ttl_ms=given, heartbeat_ms=given // 4, margin_ms=given // 4)


def test_a_newer_connection_takes_over() -> None:
    world = Pool()
    world.machine("m1")
    world.machine("m1")

    closed = [(e.connection, e.code) for e in world.effects if isinstance(e, CloseConnection)]
    assert closed == [(1, CLOSE_SUPERSEDED)]


@pytest.mark.parametrize("name", ["stranger", "removed"])
def test_a_machine_that_is_not_of_the_fleet_cannot_connect(name: str) -> None:
    world = Pool()
    world.machine("removed")
    world.ask(facts.RemoveMachine(MachineId("removed")))

    with pytest.raises(NotAllowed, match="join again"):
        world.ask(connected(agent("x")), machine(name))


def test_the_agents_of_one_machine_are_bounded() -> None:
    world = Pool()
    world.machine("m1")
    many = [agent(f"a{n}") for n in range(limits.AGENTS_PER_MACHINE + 1)]

    with pytest.raises(InvalidInput, match="agents"):
        world.ask(connected(*many), machine("m1"))


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (agent("Bad Name"), "invalid_input"),
        (agent("ok", slots=0), "invalid_input"),
        (agent("ok", slots=limits.SLOTS_MAX + 1), "invalid_input"),
        (agent("ok", "NOT A CAPABILITY"), "invalid_input"),
        (agent("taken"), "name_taken"),
    ],
)
def test_an_agent_that_is_refused_keeps_nobody_else_out(spec: AgentSpec, code: str) -> None:
    world = Pool()
    world.machine("m2", "taken")
    world.machine("m1")

    reply = world.ask(connected(agent("good"), spec), machine("m1"))

    assert isinstance(reply, Welcomed)
    assert [(refusal.name, refusal.code) for refusal in reply.refused] == [(spec.name, code)]
    assert world.view.free_slots(world.view.agents[AgentId("good")]) == 1


def test_an_agent_moves_with_its_name_once_its_old_machine_is_removed() -> None:
    world = Pool()
    world.machine("m1", "ada")
    world.ask(facts.RemoveMachine(M1))

    world.machine("m2", "ada")

    assert world.view.agents[AgentId("ada")].machine == "m2"
    assert world.view.agents_of[M1] == {}


def test_an_agent_that_its_machine_no_longer_names_is_absent_and_gets_nothing() -> None:
    world = Pool()
    world.machine("m1", "ada", "bob")

    world.machine("m1", "bob")
    tasks = world.submit("a", "b")

    assert world.view.agents[AgentId("ada")].absent
    assert [world.task(task).agent for task in tasks] == ["bob", None]


def test_reconnecting_alike_writes_no_agent() -> None:
    world = Pool()
    world.machine("m1", "ada")
    version = world.view.agents[AgentId("ada")].version

    world.machine("m1", "ada")

    assert world.view.agents[AgentId("ada")].version == version


def test_a_paused_agent_stays_paused_when_its_machine_reconnects() -> None:
    world = Pool()
    world.machine("m1", "ada")
    world.ask(facts.PauseAgent(AgentId("ada"), paused=True))

    world.machine("m1", agent("ada", "gpu"))

    assert world.view.agents[AgentId("ada")].paused


def test_a_grant_that_got_lost_is_given_again() -> None:
    world = Pool()
    task = world.landing()

    effects = world.beat("m1", [world.holding(task, HeldStage.FINISHED)])

    assert [e.task for e in effects if isinstance(e, GrantLanding)] == [task]


def test_a_fence_beyond_the_row_stops_the_issuing() -> None:
    world = Pool()
    task = world.running()
    future = Held(task, Fence(9, 1), HeldStage.RUNNING)

    world.beat("m1", [world.holding(task), future])
    (other,) = world.submit("other")
    world.machine("m2")

    assert not world.view.issuing
    assert world.task(other).state is TaskState.QUEUED


def test_a_restored_hub_gives_nothing_out_while_a_lease_may_run_that_it_never_knew_of() -> None:
    world = Pool()
    world.machine("m1")
    world.ask(facts.PauseAgent(AgentId("m1"), paused=True))
    (task,) = world.submit("in the backup, and given out after it")
    world.restore()
    world.machine("m2")

    for _ in range(limits.RESTART_GRACE_MS // 15_000):
        assert (world.view.issuing, world.task(task).state) == (False, TaskState.QUEUED)
        world.advance(15_000)
        world.beat("m2")

    assert world.view.issuing
    assert world.task(task).machine == "m2"


def test_the_wait_after_a_restore_is_not_begun_anew_when_memory_is_rebuilt() -> None:
    world = Pool()
    world.machine("m1")
    world.restore()
    old = world.view
    wall, world.now_ms = world.now_ms, world.now_ms + 30_000
    world.restart()
    world.view.recovers_at = Instant(wall + 86_400_000)  # a clock that was set back says so

    effects = leases.inherit(world.view, old)

    assert world.view.recovers_at == old.recovers_at
    assert old.recovers_at is not None
    assert SetTimer("recovery", old.recovers_at, facts.Recovered()) in effects


def test_a_hub_that_starts_again_after_a_restore_waits_only_for_the_rest() -> None:
    world = Pool()
    world.machine("m1")
    world.restore()

    world.now_ms += limits.RESTART_GRACE_MS - 1_000
    world.restart()
    assert world.view.recovers_at == world.now_ms + 1_000
    world.now_ms += 1_000
    world.restart()

    assert world.view.issuing


@pytest.mark.parametrize("known", ["nothing", "a task"])
def test_a_new_store_has_nothing_to_wait_for_and_a_restored_one_without_machines_has(
    known: str,
) -> None:
    world = Pool()
    if known == "a task":
        world.submit("t")

    world.restore()

    assert world.view.issuing is (known == "nothing")


def restored() -> tuple[Pool, TaskId]:
    """Return a world whose store was put back, with a task that its machine has done meanwhile."""
    world = Pool()
    task = world.running()
    world.incarnation += 1
    world.restart()
    world.machine("m1", held=())
    return world, task


def test_a_machine_may_offer_what_it_kept_before_a_restored_hub_gives_its_task_away() -> None:
    world, task = restored()
    fence = world.task(task).fence

    world.tell(facts.Finished(task, fence, done()), machine("m1"))

    row = world.task(task)
    assert (row.state, row.fence) == (TaskState.COMPLETED, fence)


def test_what_is_not_offered_to_a_restored_hub_goes_back_at_the_next_heartbeat() -> None:
    world, task = restored()

    world.beat("m1")

    row = world.task(task)
    assert (row.state, row.attempt) == (TaskState.ASSIGNED, 2)
    assert row.incarnation == world.incarnation


def test_the_issuing_goes_on_when_the_machine_that_stopped_it_is_removed() -> None:
    world = Pool()
    task = world.running()
    world.beat("m1", [world.holding(task), Held(task, Fence(9, 1), HeldStage.RUNNING)])
    (other,) = world.submit("other")
    world.machine("m2")

    world.ask(facts.RemoveMachine(M1))

    assert world.view.issuing
    assert world.task(other).state is TaskState.ASSIGNED


def test_an_attempt_that_is_told_to_stop_is_told_again_with_each_heartbeat() -> None:
    world = Pool()
    task = world.running()
    world.ask(facts.Cancel(task))

    effects = world.beat("m1", [world.holding(task)])

    assert Stop(M1, task, world.task(task).fence, StopReason.CANCELLED) in effects


# Undone -----------------------------------------------------------------------------------------


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


# Times ------------------------------------------------------------------------------------------


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


# Agents that cannot work -----------------------------------------------------------------------


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
