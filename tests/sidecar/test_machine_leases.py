"""What a machine may do while its lease runs, has run out, or comes back."""

import pytest

from agentcom.model.agent import Held, HeldStage
from agentcom.model.task import Phase
from agentcom.protocol import frames
from agentcom.sidecar import machine
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_frames import ACK, F1, GRANT, finished
from tests.sidecar.machine_world import (
    LANDS,
    T1,
    T2,
    TTL_MS,
    Machine,
    assign,
    connected,
    key,
    welcome,
)


def test_a_landing_waits_while_the_own_lease_has_run_out() -> None:
    made = finished(LANDS)
    made.take(ACK)

    made.after(TTL_MS).take(GRANT)
    waits = made.stage()
    made.connect(2)
    made.take(frames.Beat(n=1), GRANT)

    assert waits is Stage.READY
    assert made.stage() is Stage.LANDING


def test_a_grant_ends_with_the_link_that_brought_it() -> None:
    made = finished(LANDS)
    made.take(GRANT)

    made.take(values.Disconnected())
    made.after(2 * TTL_MS).take(values.Connected(), welcome(session=2))
    made.take(frames.Beat(n=1), ACK)

    assert made.ordered(values.Land) == []
    made.take(GRANT)
    assert made.ordered(values.Land) != []


def test_a_landing_that_lost_its_lease_on_the_way_waits_for_the_next_one() -> None:
    made = finished(LANDS)
    made.take(ACK, GRANT)

    made.after(TTL_MS).take(values.LandEnded(key(), None))
    waits = made.stage()
    made.connect(2)
    made.take(frames.Beat(n=1), GRANT)

    assert waits is Stage.READY
    assert made.stage() is Stage.LANDING


def test_a_machine_that_comes_back_late_has_no_lease_before_the_hub_has_sent_its_stops() -> None:
    made = finished(LANDS)
    made.take(ACK, GRANT)
    made.after(TTL_MS).take(values.LandEnded(key(), None))

    made.connect(2)
    between = machine.lease_valid(made.view, made.now)
    made.take(frames.StopFrame(task=T1, fence=F1), frames.Beat(n=1))

    assert not between
    assert not made.ordered(values.Land)


def test_work_goes_on_when_the_lease_has_run_out() -> None:
    made = connected().running()
    made.take(values.Disconnected())

    made.after(10 * TTL_MS).take(values.PhaseReached(key(), Phase.WORKING))

    assert made.stage() is Stage.WORKING


def test_the_lease_runs_from_the_sending_of_the_answered_heartbeat() -> None:
    made = connected()
    made.after(5_000).take(values.TimerFired("heartbeat"))
    sent_at = made.now

    made.after(3_000).take(frames.Beat(n=1))

    assert made.view.lease_until == sent_at + TTL_MS


def test_the_first_lease_runs_from_the_first_frame_of_the_link() -> None:
    made = Machine()
    made.take(values.Connected())
    sent_at = made.now

    made.after(2_000).take(welcome())

    assert made.view.lease_until == sent_at + TTL_MS


def test_a_beat_that_was_never_asked_for_renews_nothing() -> None:
    made = connected()
    until = made.view.lease_until

    made.after(5_000).take(frames.Beat(n=9))

    assert made.view.lease_until == until


@pytest.mark.parametrize("granted", [True, False], ids=["landing", "ready"])
def test_a_beat_ends_what_went_on_without_us_before_it_renews_the_lease(*, granted: bool) -> None:
    made = finished(LANDS)
    made.take(ACK)
    made.after(TTL_MS).take(GRANT)  # too late for our lease, and the order to stop gets lost
    if granted:
        made.connect(2)
        made.take(frames.Beat(n=1), GRANT)
    made.take(values.TimerFired("heartbeat"))

    made.take(frames.Beat(n=made.view.beats, stale=(frames.Stale(T1, F1),)))

    assert machine.lease_valid(made.view, made.now)
    assert made.stage() is (Stage.STOPPING if granted else Stage.STOPPED)
    assert not made.ordered(values.Land)


def test_a_beat_ends_stale_work_once() -> None:
    made = connected().running()
    stale = frames.Beat(n=1, stale=(frames.Stale(T1, F1), frames.Stale(T2, F1)))
    made.take(values.TimerFired("heartbeat"))

    first = made.take(stale)

    assert first == [values.Stop(key(), None)]
    assert made.take(stale) == []


def test_two_heartbeats_without_an_answer_mean_a_dead_link() -> None:
    made = connected()

    made.take(values.TimerFired("heartbeat"), values.TimerFired("heartbeat"))
    before = made.ordered(values.Reconnect)
    made.take(values.TimerFired("heartbeat"))

    assert not before
    assert made.ordered(values.Reconnect)


def test_heartbeats_list_every_fence_with_its_stage() -> None:
    made = finished()
    made.take(assign(T2), values.PhaseReached(key(T2), Phase.WORKING))

    made.take(values.TimerFired("heartbeat"))

    beat = made.sent()[0]
    assert isinstance(beat, frames.HeartbeatFrame)
    assert set(beat.held) == {
        Held(T1, F1, HeldStage.FINISHED, Phase.PREPARING),
        Held(T2, F1, HeldStage.RUNNING, Phase.WORKING),
    }


def test_an_idle_machine_orders_nothing_but_its_next_heartbeat() -> None:
    made = connected()

    orders = made.take(values.TimerFired("heartbeat"), frames.Beat(n=1))

    assert [type(order) for order in orders] == [values.Send, values.SetTimer]
