import msgspec
import pytest

from agentcom.model.agent import AgentSpec, Held, HeldStage
from agentcom.model.ids import AgentId, TaskId
from agentcom.protocol import frames
from agentcom.sidecar import machine, machine_attempts
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_frames import ACK, F1, GRANT, finished
from tests.sidecar.machine_world import (
    BOB,
    DONE,
    LANDS,
    T1,
    T2,
    Machine,
    assign,
    connected,
    key,
    record,
)


def test_the_map_names_every_stage_and_leads_out_of_each() -> None:
    stuck = [stage for stage in Stage if not machine.TRANSITIONS[stage] and stage is not Stage.GONE]

    assert not stuck
    assert set(machine.TRANSITIONS) == set(Stage)


def test_every_stage_but_the_first_and_last_is_reported_as_held() -> None:
    assert set(machine_attempts.HELD) == set(Stage) - {Stage.STORING, Stage.GONE}


def test_a_connection_begins_with_what_the_machine_has() -> None:
    made = Machine([record(stage=Stage.FINISHED, result=DONE)])

    made.take(values.Connected())

    hello = made.sent()[0]
    assert isinstance(hello, frames.MachineHello)
    assert hello.held == (Held(T1, F1, HeldStage.FINISHED),)


def test_what_was_declined_does_not_start_when_a_second_push_comes_late() -> None:
    made = connected().running()
    made.take(assign(T2))
    made.take(values.Ended(key(), DONE), ACK)

    made.take(assign(T2))

    assert [frame.reason for frame in made.sent() if isinstance(frame, frames.Decline)] != []
    assert made.ordered(values.Start) == []


def test_an_assignment_is_stored_before_it_is_accepted_and_started() -> None:
    made = connected()

    orders = made.take(assign())

    assert [type(order) for order in orders] == [values.Store, values.Send, values.Start]
    assert made.sent() == [frames.Accept(task=T1, fence=F1)]
    assert made.stage() is Stage.PREPARING


def test_an_assignment_that_cannot_be_stored_is_declined() -> None:
    made = Machine(disk=False)
    made.connect()
    made.take(assign())

    made.take(values.NotStored(key(), Stage.PREPARING, "the disk is full"))

    decline = frames.Decline(task=T1, fence=F1, reason="the disk is full")
    assert made.sent() == [decline]
    assert made.stage() is None


def test_the_same_assignment_twice_is_accepted_twice_and_started_once() -> None:
    made = connected().running()

    made.take(assign())

    assert made.sent() == [frames.Accept(task=T1, fence=F1)]
    assert not made.ordered(values.Start)


def test_full_slots_decline() -> None:
    made = connected().running()

    made.take(assign(T2))

    assert isinstance(made.sent()[0], frames.Decline)


def test_another_agent_has_slots_of_its_own() -> None:
    made = connected().running()

    made.take(assign(T2, agent=BOB))

    assert made.ordered(values.Start)


def test_a_finished_attempt_gives_its_slot_back_before_it_is_acknowledged() -> None:
    made = finished()

    made.take(assign(T2))

    assert made.ordered(values.Start)


def test_an_unknown_agent_declines() -> None:
    made = connected()

    made.take(assign(agent=AgentId("nobody")))

    assert isinstance(made.sent()[0], frames.Decline)


def test_a_task_whose_id_is_a_path_is_declined() -> None:
    made = connected()

    made.take(assign(TaskId("../../etc")))

    assert isinstance(made.sent()[0], frames.Decline)


def test_a_draining_machine_declines_and_its_work_goes_on() -> None:
    made = connected().running()

    made.take(values.DrainAsked(), assign(T2, agent=BOB))

    assert isinstance(made.sent()[0], frames.Decline)
    assert made.stage() is Stage.PREPARING


def test_a_newer_attempt_of_a_task_kills_the_older_one_first() -> None:
    made = connected().running()

    first = made.take(assign(attempt=2))
    then = made.take(values.Stopped(key()))

    assert values.Stop(key(), None) in first
    assert not [order for order in first if isinstance(order, values.Start)]
    assert [order.record.key for order in then if isinstance(order, values.Start)] == [
        key(attempt=2)
    ]


def test_an_older_attempt_of_a_held_task_is_over_at_once() -> None:
    made = connected().running(attempt=2)

    made.take(assign(attempt=1))

    assert made.sent() == [frames.StoppedFrame(task=T1, fence=F1)]


def test_a_verified_result_waits_for_its_landing_and_lands_when_granted() -> None:
    made = finished(LANDS)

    made.take(ACK)
    waits = made.stage()
    made.take(GRANT)

    assert waits is Stage.READY
    assert [order.record.key for order in made.last if isinstance(order, values.Land)] == [key()]


def test_a_grant_that_overtakes_the_acknowledgement_is_remembered() -> None:
    made = finished(LANDS)

    made.take(GRANT, ACK)

    assert made.stage() is Stage.LANDING


def test_what_waits_for_its_landing_is_listed_apart_from_what_is_reported() -> None:
    made = finished(LANDS)
    made.take(values.TimerFired("heartbeat"), ACK, values.TimerFired("heartbeat"))

    beats = [frame for frame in made.sent() if isinstance(frame, frames.HeartbeatFrame)]
    stages = [held.stage for beat in beats for held in beat.held]
    assert stages == [HeldStage.FINISHED, HeldStage.READY]


def test_a_result_that_needs_a_person_does_not_wait_for_a_landing() -> None:
    made = finished(msgspec.structs.replace(LANDS, needs_person=("a test",)))

    made.take(ACK)

    assert made.stage() is None


def test_a_drained_hub_is_left_until_it_wants_us_back() -> None:
    made = connected()

    made.take(frames.Drain(retry_after_ms=700))

    assert made.last == [values.Reconnect("the hub goes away", 700)]


def test_progress_is_sent_while_connected_and_lost_otherwise() -> None:
    made = connected().running()
    progress = frames.Progress(task=T1, fence=F1, text="hm")
    made.take(values.Noted(key(), progress))
    connected_then = made.sent()
    made.take(values.Disconnected(), values.Noted(key(), progress))

    assert connected_then == [progress]
    assert made.sent() == []


def test_a_restart_adopts_what_was_accepted_and_reports_what_was_finished() -> None:
    made = Machine([record(), record(T2, stage=Stage.FINISHED, result=DONE)])
    adopted = made.last

    made.connect()

    assert adopted == [values.Start(record(), adopt=True)]
    assert frames.Finish(task=T2, fence=F1, result=DONE) in made.sent()


def test_a_restart_ends_an_overtaken_attempt_before_the_newer_one_goes_on() -> None:
    made = Machine([record(), record(attempt=2)])

    first = made.last
    made.take(values.Stopped(key()))

    assert first == [values.Stop(key(), None)]
    assert [order.record.key for order in made.last if isinstance(order, values.Start)] == [
        key(attempt=2)
    ]


def test_a_restart_after_the_acknowledgement_waits_for_its_grant_again() -> None:
    made = Machine([record(stage=Stage.READY, result=LANDS)])
    made.connect()

    made.take(GRANT, frames.Beat(n=1))

    assert made.ordered(values.Land)


@pytest.mark.parametrize("stage", sorted(machine_attempts.LIVE | {Stage.READY}))
def test_a_short_blip_changes_no_stage(stage: Stage) -> None:
    made = connected().running()
    made.view.attempts[key()].stage = stage

    made.take(values.Disconnected())
    made.connect(2)

    assert made.stage() is stage


def test_an_acceptance_that_may_be_lost_is_repeated_at_the_next_welcome() -> None:
    made = connected().running()

    made.connect(2)

    assert frames.Accept(task=T1, fence=F1) in made.sent()


def test_a_hub_that_does_not_welcome_us_is_dialled_again() -> None:
    made = Machine()
    made.take(values.Connected())

    made.take(values.TimerFired("hello"))

    assert made.last == [values.Reconnect("the hub does not answer")]


def test_a_hub_that_does_not_want_us_ends_the_machine() -> None:
    made = Machine()

    made.take(values.Connected(), frames.ErrorFrame(code="not_allowed", message="join again"))

    assert values.Quit("join again") in made.last


def test_a_session_that_is_over_begins_a_new_one() -> None:
    made = connected().running()

    made.take(frames.ErrorFrame(code="superseded", message="connect again"))

    assert values.Reconnect("connect again") in made.last
    assert made.stage() is Stage.PREPARING


def test_a_refused_frame_of_a_session_is_only_noted() -> None:
    made = connected()

    made.take(frames.ErrorFrame(code="invalid_input", message="no"))

    assert made.last == [values.Report("hub.refused", "invalid_input: no")]


def test_agents_that_changed_are_told_in_the_hello_of_a_new_link() -> None:
    made = connected().running()
    ann = AgentSpec(name=AgentId("ann"), runtime="testagent")

    made.take(values.Described((ann,)))
    assert made.ordered(values.Reconnect) == [values.Reconnect("its agents have changed", 0)]
    made.take(values.Disconnected(), values.Connected())

    (hello,) = made.sent()
    assert isinstance(hello, frames.MachineHello)
    assert hello.agents == (ann,)
    assert [item.task for item in hello.held] == [T1]


def test_agents_that_are_as_before_are_told_nothing() -> None:
    made = connected()

    assert made.take(values.Described(made.view.agents)) == []


def test_agents_that_change_without_a_link_wait_for_one() -> None:
    made = Machine()

    assert made.take(values.Described(())) == []
    made.take(values.Connected())

    (hello,) = made.sent()
    assert isinstance(hello, frames.MachineHello)
    assert hello.agents == ()


def test_an_agent_with_a_problem_takes_nothing_but_landings() -> None:
    made = connected()
    broken = [msgspec.structs.replace(spec, problem="not logged in") for spec in made.view.agents]
    made.take(values.Described(tuple(broken)))

    made.take(assign())
    (declined,) = made.sent()
    assert isinstance(declined, frames.Decline)
    assert declined.reason == "ada: not logged in"

    made.take(assign(T2, landing_only=True))
    assert made.stage(key(T2)) is not None
