"""What an attempt spent is on disk before it is told, and is told until it is counted."""

from msgspec.structs import replace

from agentcom.model.ids import AgentId
from agentcom.model.result import ReportKind
from agentcom.model.task import Phase, StopReason
from agentcom.model.usage import TurnUsage
from agentcom.protocol import frames
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_world import DONE, Machine, assign, key, record, welcome


def turn(number: int) -> TurnUsage:
    return TurnUsage(turn=number, agent=AgentId("ada"), output=1)


def spent(number: int) -> values.Spent:
    return values.Spent(key(), turn(number))


def counted(number: int) -> frames.Ack:
    return frames.Ack(task=key().task, fence=key().fence, of=ReportKind.USAGE, turn=number)


def usage(machine: Machine) -> list[list[int]]:
    """Return the turns of each usage frame of the last step."""
    told = [frame for frame in machine.sent() if isinstance(frame, frames.UsageFrame)]
    return [[one.turn for one in frame.turns] for frame in told]


def working() -> Machine:
    machine = Machine()
    machine.connect()
    return machine.running()


def test_a_turn_is_stored_and_then_told() -> None:
    machine = working()

    orders = machine.take(spent(1))

    stored = next(order.record for order in orders if isinstance(order, values.Store))
    assert stored.turns == (turn(1),)
    assert usage(machine) == [[1]]


def test_it_is_told_with_all_that_are_not_known_to_be_counted() -> None:
    machine = working()
    machine.take(spent(1))

    machine.take(spent(2))
    assert usage(machine) == [[1, 2]]

    machine.take(counted(2), spent(3))
    assert usage(machine) == [[3]]


def test_a_turn_that_is_read_a_second_time_is_not_told_again() -> None:
    machine = working()
    machine.take(spent(1), spent(2), counted(2))

    assert machine.take(spent(1), spent(2)) == []


def test_a_new_link_is_told_what_is_not_counted() -> None:
    machine = working()
    machine.take(values.Disconnected(), spent(1))
    assert usage(machine) == []

    machine.connect(2)
    assert usage(machine) == [[1]]

    machine.take(counted(1))
    machine.connect(3)
    assert usage(machine) == []


def test_a_result_brings_the_turns_that_are_not_counted() -> None:
    machine = working()
    machine.take(spent(1), counted(1), spent(2))

    machine.take(values.Ended(key(), DONE))

    (finish,) = [frame for frame in machine.sent() if isinstance(frame, frames.Finish)]
    assert finish.turns == (turn(2),)


def test_a_stopped_attempt_brings_what_it_spent_until_its_end() -> None:
    machine = working()
    stop = frames.StopFrame(task=key().task, fence=key().fence)

    machine.take(stop, spent(1))
    assert usage(machine) == []

    machine.take(values.Stopped(key()))
    (told,) = [frame for frame in machine.sent() if isinstance(frame, frames.StoppedFrame)]
    assert told.turns == (turn(1),)


def test_a_full_disk_keeps_no_turn_from_the_hub() -> None:
    machine = Machine()
    machine.connect()
    machine.running()
    machine.disk = False

    machine.take(spent(1))
    failed = values.NotStored(key(), Stage.PREPARING, "the disk is full")
    machine.take(failed)

    assert usage(machine) == [[1]]


def test_a_restarted_machine_tells_what_it_had_stored() -> None:
    before = record(stage=Stage.WORKING)
    machine = Machine([replace(before, turns=(turn(1),))])

    machine.connect()

    assert usage(machine) == [[1]]


def test_a_restored_hub_is_told_every_turn() -> None:
    kept = record(stage=Stage.FINISHED, result=DONE)
    machine = Machine(incarnation=7)
    machine.take(values.Connected())

    machine.take(welcome(incarnation=8))
    machine.take(values.Kept((replace(kept, turns=(turn(1),)),)))

    (offered,) = [frame for frame in machine.sent() if isinstance(frame, frames.Finish)]
    assert offered.turns == (turn(1),)


def test_an_attempt_that_begins_has_spent_nothing() -> None:
    machine = Machine()
    machine.connect()

    machine.take(assign())

    assert usage(machine) == []


def spent_out() -> frames.StopFrame:
    return frames.StopFrame(task=key().task, fence=key().fence, reason=StopReason.BUDGET)


def timers(machine: Machine) -> list[str]:
    return [order.key for order in machine.last if isinstance(order, values.SetTimer)]


def test_an_agent_whose_budget_is_used_up_may_end_by_itself() -> None:
    machine = working()

    machine.take(spent_out())
    (timer,) = timers(machine)
    machine.take(values.Ended(key(), DONE))

    assert machine.stage() is Stage.FINISHED
    assert machine.take(values.TimerFired(timer)) == []


def test_one_that_begins_another_turn_is_stopped() -> None:
    machine = working()
    machine.take(spent_out())
    (timer,) = timers(machine)

    machine.take(spent_out())
    assert timers(machine) == []

    orders = machine.take(values.TimerFired(timer))
    assert orders == [values.Stop(key(), StopReason.BUDGET)]


def test_what_is_being_checked_costs_nothing_more() -> None:
    machine = working()
    machine.take(values.PhaseReached(key(), Phase.WORKING))
    machine.take(values.PhaseReached(key(), Phase.VERIFYING))

    assert machine.take(spent_out()) == []
    assert machine.stage() is Stage.VERIFYING
    assert machine.view.attempts[key()].spent_out


def test_an_attempt_that_has_not_begun_is_stopped_at_once() -> None:
    machine = Machine(disk=False)
    machine.connect()
    machine.take(assign())

    machine.take(spent_out())

    assert machine.stage() is Stage.STOPPED
