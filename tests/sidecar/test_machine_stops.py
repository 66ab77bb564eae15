"""Stops, stale attempts, and landings that were to stop."""

from agentcom.model.result import Landing, LandStatus
from agentcom.model.task import StopReason
from agentcom.protocol import frames
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_frames import ACK, F1, F2, GRANT, STALE, finished
from tests.sidecar.machine_world import DONE, LANDED, LANDS, T1, assign, connected, key

CANCEL = frames.StopFrame(task=T1, fence=F1, reason=StopReason.CANCELLED)


def test_a_stop_kills_first_and_reports_when_nothing_runs() -> None:
    made = connected().running()

    made.take(CANCEL)
    stopping = made.stage(), made.last
    made.take(values.Stopped(key()))

    assert stopping == (Stage.STOPPING, [values.Stop(key(), StopReason.CANCELLED)])
    assert made.sent() == [frames.StoppedFrame(task=T1, fence=F1)]


def test_a_stop_of_an_attempt_that_is_not_here_is_confirmed_at_once() -> None:
    made = connected()

    made.take(CANCEL)

    assert made.sent() == [frames.StoppedFrame(task=T1, fence=F1)]


def test_a_stop_of_a_finished_attempt_reports_its_result() -> None:
    made = finished()

    made.take(CANCEL)

    assert made.sent() == [frames.StoppedFrame(task=T1, fence=F1, result=DONE)]


def test_a_stop_that_is_repeated_by_heartbeats_is_carried_out_once() -> None:
    made = connected().running()
    made.take(CANCEL)

    assert made.take(CANCEL) == []


def test_an_agent_that_ends_while_it_is_stopped_reports_stopped_with_its_result() -> None:
    made = connected().running()

    made.take(CANCEL, values.Ended(key(), DONE))

    assert made.sent() == [frames.StoppedFrame(task=T1, fence=F1, result=DONE)]


def test_a_stale_attempt_stops() -> None:
    made = connected().running()

    made.take(STALE)

    assert made.last == [values.Stop(key(), None)]


def test_a_landing_that_happened_is_reported_though_it_was_to_stop() -> None:
    made = finished(LANDS)
    made.take(ACK, GRANT, CANCEL)

    made.take(values.LandEnded(key(), LANDED))

    assert made.sent() == [frames.LandedFrame(task=T1, fence=F1, landing=LANDED)]


def test_a_landing_that_did_not_happen_is_over_when_it_was_to_stop() -> None:
    made = finished(LANDS)
    made.take(ACK, GRANT, CANCEL)

    made.take(values.LandEnded(key(), Landing(status=LandStatus.CONFLICT)))

    assert made.sent() == [frames.StoppedFrame(task=T1, fence=F1)]


def test_a_grant_for_an_attempt_that_is_not_here_is_given_back() -> None:
    made = connected()

    made.take(GRANT)

    assert made.sent() == [frames.StoppedFrame(task=T1, fence=F1)]


def test_a_landing_without_an_agent_waits_for_its_grant() -> None:
    made = connected()

    made.take(assign(landing_only=True))
    accepted = made.sent(), made.ordered(values.Start)
    made.take(GRANT)

    assert accepted == ([frames.Accept(task=T1, fence=F1)], [])
    assert made.ordered(values.Land)


def test_a_landing_waits_until_the_older_attempt_of_its_task_has_stopped() -> None:
    made = connected().running()
    made.take(assign(attempt=2, landing_only=True))

    made.take(frames.LandFrame(task=T1, fence=F2))
    early = made.ordered(values.Land)
    made.take(values.Stopped(key()))

    assert early == []
    assert made.stage(key(attempt=2)) is Stage.LANDING
    assert len(made.ordered(values.Land)) == 1
