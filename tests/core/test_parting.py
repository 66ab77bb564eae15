"""When a machine that was stopped is cut off."""

from agentcom.core import facts, parting
from agentcom.core.effects import CloseConnection
from agentcom.model.ids import MachineId
from agentcom.model.limits import STOP_CONFIRM_MS
from agentcom.model.replies import Done
from agentcom.model.task import TaskState
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool


def stop(world: Pool, *, stopped: bool = True) -> None:
    """Stop the machine m1, or lift that."""
    asked = facts.Pause("machine:m1", paused=stopped, stop=True)
    assert isinstance(world.ask(asked), Done)


def cut_off(world: Pool) -> bool:
    """Whether a connection was closed for a stop, since this was asked last."""
    found = [one for one in world.effects if isinstance(one, CloseConnection)]
    world.effects.clear()
    assert all(one.code == parting.CLOSE_SHUT_OUT for one in found)
    return bool(found)


def test_a_stopped_machine_is_cut_off_when_all_its_attempts_have_ended() -> None:
    world = Pool()
    world.machine("m1", agent("a", slots=2))
    tasks = [world.running("one"), world.running("two")]
    stop(world)

    world.tell(facts.Checkpointed(tasks[0], world.task(tasks[0]).fence, "c" * 40), machine("m1"))
    for task in tasks:
        assert not cut_off(world)
        world.tell(facts.Stopped(task, world.task(task).fence), machine("m1"))

    assert cut_off(world)
    assert world.task(tasks[0]).checkpoint == "c" * 40
    assert {world.task(task).state for task in tasks} == {TaskState.QUEUED}


def test_a_stopped_machine_without_work_is_cut_off_at_once() -> None:
    world = Pool()
    world.machine("m1", agent("a"))
    world.effects.clear()

    stop(world)

    assert cut_off(world)


def test_a_stopped_machine_that_confirms_nothing_is_cut_off_after_a_while() -> None:
    world = Pool()
    world.running(on="m1")
    stop(world)

    world.advance(STOP_CONFIRM_MS - 1)
    assert not cut_off(world)
    world.advance(1)

    assert cut_off(world)


def test_a_machine_whose_stop_was_lifted_stays() -> None:
    world = Pool()
    world.running(on="m1")
    stop(world)
    stop(world, stopped=False)

    world.advance(STOP_CONFIRM_MS)

    assert not cut_off(world)


def test_a_stopped_machine_that_is_not_connected_needs_no_cut() -> None:
    world = Pool()
    world.running(on="m1")
    session = world.view.sessions[MachineId("m1")]
    assert session.connection is not None
    world.tell(facts.MachineDisconnected(MachineId("m1"), session.connection))

    stop(world)
    world.advance(STOP_CONFIRM_MS)

    assert not cut_off(world)


def test_who_reports_while_another_machine_is_stopped_stays() -> None:
    world = Pool()
    mine = world.running(on="m1")
    world.machine("m2", agent("b"))
    (theirs,) = world.submit("theirs")
    world.accept(theirs)
    assert world.task(theirs).machine == "m2"
    stop(world)

    world.finish(theirs)

    assert not cut_off(world)
    assert world.task(mine).stop_reason is not None
