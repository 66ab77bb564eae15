"""What a machine and its agents are told when they connect."""

import pytest

from agentcom.core import facts, leases
from agentcom.core.effects import CloseConnection, GrantLanding, SetTimer, Stop
from agentcom.core.leases import CLOSE_SUPERSEDED
from agentcom.model import limits
from agentcom.model.agent import AgentSpec, Held, HeldStage
from agentcom.model.errors import InvalidInput, NotAllowed
from agentcom.model.ids import AgentId, Fence, Instant, MachineId, TaskId
from agentcom.model.replies import Welcomed
from agentcom.model.task import StopReason, TaskState
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool, done
from tests.core.leasing import M1, connected


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
