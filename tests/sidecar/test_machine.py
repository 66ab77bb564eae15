from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model.agent import AgentSpec, Held, HeldStage
from agentcom.model.ids import AgentId, Fence, Instant, TaskId
from agentcom.model.result import Landing, LandStatus, ReportKind, Result, ResultStatus
from agentcom.model.task import Phase, StopReason
from agentcom.protocol import frames
from agentcom.sidecar import machine, machine_attempts
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_world import (
    ADA,
    BOB,
    COMMIT,
    DONE,
    LANDED,
    LANDS,
    T1,
    T2,
    TTL_MS,
    Machine,
    assign,
    connected,
    key,
    record,
    welcome,
)

F1, F2 = Fence(7, 1), Fence(7, 2)
ACK = frames.Ack(task=T1, fence=F1, of=ReportKind.FINISH)
SAVED = frames.Ack(task=T1, fence=F1, of=ReportKind.CHECKPOINT, commit=COMMIT)
CANCEL = frames.StopFrame(task=T1, fence=F1, reason=StopReason.CANCELLED)
STALE = frames.StopFrame(task=T1, fence=F1)
GRANT = frames.LandFrame(task=T1, fence=F1)


def finished(result: Result = DONE) -> Machine:
    made = connected().running()
    made.take(values.Ended(key(), result))
    return made


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


def test_a_result_is_stored_before_it_is_sent() -> None:
    made = Machine(disk=False)
    made.connect()
    made.take(assign(), values.Stored(key(), Stage.PREPARING))

    ended = made.take(values.Ended(key(), DONE))
    stored = made.take(values.Stored(key(), Stage.FINISHED))

    assert not [order for order in ended if isinstance(order, values.Send)]
    finish = values.Send(frames.Finish(task=T1, fence=F1, result=DONE))
    assert finish in stored


def test_a_result_that_cannot_be_stored_is_sent_all_the_same_and_stored_later() -> None:
    made = finished()
    made.take(values.NotStored(key(), Stage.FINISHED, "the disk is full"))

    assert frames.Finish(task=T1, fence=F1, result=DONE) in made.sent()
    assert values.Store(made.view.attempts[key()].record) in made.take(
        values.TimerFired(key().text)
    )


def test_a_result_of_an_absent_hub_is_sent_at_the_next_welcome() -> None:
    made = connected().running()
    made.take(values.Disconnected())

    made.take(values.Ended(key(), DONE))
    before = made.sent()
    made.connect(2)

    assert not before
    assert frames.Finish(task=T1, fence=F1, result=DONE) in made.sent()


def test_a_result_is_repeated_on_every_link_until_it_is_acknowledged() -> None:
    made = finished()
    made.connect(2)
    repeated = made.sent()
    made.take(ACK)
    made.connect(3)

    finish = frames.Finish(task=T1, fence=F1, result=DONE)
    assert finish in repeated
    assert finish not in made.sent()
    assert made.stage() is None


def test_a_result_without_an_answer_is_repeated_on_the_same_link() -> None:
    made = finished()

    made.take(values.TimerFired("reports"))

    assert made.sent() == [frames.Finish(task=T1, fence=F1, result=DONE)]


def test_an_acknowledged_checkpoint_is_not_taken_for_an_acknowledged_result() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT), values.Ended(key(), DONE))

    made.take(SAVED, SAVED)
    doubled = made.stage()
    made.take(ACK)

    assert doubled is Stage.FINISHED
    assert made.stage() is None


def test_the_acknowledgement_of_an_older_checkpoint_leaves_the_newest_to_be_sent() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT), values.Saved(key(), "b" * 40), SAVED)

    made.connect(2)

    assert frames.Checkpoint(task=T1, fence=F1, commit="b" * 40) in made.sent()


def test_a_stale_checkpoint_is_answered_by_a_stop_and_not_sent_again() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT), STALE)

    made.connect(2)

    assert frames.Checkpoint(task=T1, fence=F1, commit=COMMIT) not in made.sent()


def test_the_newest_checkpoint_is_sent_again_until_it_is_acknowledged() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT))
    made.connect(2)
    again = made.sent()
    made.take(SAVED)
    made.connect(3)

    checkpoint = frames.Checkpoint(task=T1, fence=F1, commit=COMMIT)
    assert checkpoint in again
    assert checkpoint not in made.sent()


def test_a_notice_goes_to_an_attempt_that_runs_and_to_no_other() -> None:
    made = connected().running()
    notice = frames.Notice(task=T1, fence=F1, text="also touches a")

    assert values.Notify(key(), "also touches a") in made.take(notice)
    made.take(values.Ended(key(), DONE))
    assert made.take(notice) == []
    assert made.take(frames.Notice(task=T1, fence=Fence(7, 9), text="x")) == []


def test_a_checkpoint_says_what_the_agent_said_and_what_it_changed() -> None:
    made = connected().running()

    made.take(values.Saved(key(), COMMIT, "s1", "half done", ("a", "b"), 2))

    saved = frames.Checkpoint(
        task=T1,
        fence=F1,
        commit=COMMIT,
        session="s1",
        note="half done",
        touched=("a", "b"),
        touched_count=2,
    )
    assert saved in made.sent()


def test_a_second_acknowledgement_of_a_result_does_not_drop_the_landing() -> None:
    made = finished(LANDS)
    made.take(values.TimerFired("reports"), ACK, GRANT, values.LandEnded(key(), LANDED))

    made.take(ACK)
    kept = made.stage()
    made.take(frames.Ack(task=T1, fence=F1, of=ReportKind.LANDED))

    assert kept is Stage.LANDED
    assert made.stage() is None


def test_a_kept_result_is_forgotten_with_its_record_kept() -> None:
    made = finished(LANDS)

    made.take(frames.Ack(task=T1, fence=F1, of=ReportKind.FINISH, applied=False, code="stale"))

    assert made.ordered(values.Forget) == [
        values.Forget(record(stage=Stage.FINISHED, result=LANDS))
    ]


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


def test_a_drained_hub_is_left_until_it_wants_us_back() -> None:
    made = connected()

    made.take(frames.Drain(retry_after_ms=700))

    assert made.last == [values.Reconnect("the hub goes away", 700)]


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


# Any order of events ------------------------------------------------------------------------------

TASKS = (T1, T2)
KEYS = st.builds(key, st.sampled_from(TASKS), st.integers(1, 3))
RESULTS = st.sampled_from((DONE, LANDS, Result(status=ResultStatus.FAILED)))
LANDINGS = st.sampled_from((LANDED, Landing(status=LandStatus.CONFLICT), None))
REPORTED = (frames.Checkpoint, frames.Finish, frames.StoppedFrame, frames.LandedFrame)
STORED = frozenset({Stage.PREPARING, Stage.READY, *machine_attempts.REPORTS})


def frame_facts() -> st.SearchStrategy[values.Fact]:
    fences = st.builds(Fence, st.just(7), st.integers(1, 3))
    named: dict[str, st.SearchStrategy] = {"task": st.sampled_from(TASKS), "fence": fences}
    return st.one_of(
        st.just(values.Connected()),
        st.just(values.Disconnected()),
        st.just(welcome()),
        st.builds(frames.Beat, n=st.integers(0, 5)),
        st.builds(
            assign,
            st.sampled_from(TASKS),
            st.integers(1, 3),
            landing_only=st.booleans(),
        ),
        st.builds(frames.StopFrame, **named, reason=st.sampled_from((None, StopReason.CANCELLED))),
        st.builds(frames.LandFrame, **named),
        st.builds(frames.Notice, **named, text=st.just("also touches a")),
        st.builds(frames.Ack, **named, of=st.sampled_from(ReportKind), applied=st.booleans()),
        st.sampled_from(("heartbeat", "reports")).map(values.TimerFired),
    )


def work_facts() -> st.SearchStrategy[values.Fact]:
    return st.one_of(
        st.builds(values.Stored, KEYS, st.sampled_from(sorted(STORED))),
        st.builds(values.NotStored, KEYS, st.sampled_from(sorted(STORED)), st.just("full")),
        st.builds(values.PhaseReached, KEYS, st.sampled_from((Phase.WORKING, Phase.VERIFYING))),
        st.builds(values.Saved, KEYS, st.just(COMMIT)),
        st.builds(values.Ended, KEYS, RESULTS),
        st.builds(values.Stopped, KEYS, st.none() | RESULTS),
        st.builds(values.LandEnded, KEYS, LANDINGS),
    )


FACTS = st.lists(st.tuples(st.integers(0, 8_000), frame_facts() | work_facts()), max_size=60)


class World:
    """Lets only happen what can happen, and checks what must always be true."""

    def __init__(self) -> None:
        self.now = Instant(0)
        self.view, _ = machine.load(FOUR_SLOTS, [])
        self.unsaved: list[tuple[values.Key, Stage]] = []
        self.working: set[values.Key] = set()
        self.saved: dict[values.Key, Stage] = {}
        self.reported: set[tuple[values.Key, ReportKind]] = set()

    def take(self, fact: values.Fact) -> None:
        if not self._possible(fact):
            return
        before = {k: a.stage for k, a in self.view.attempts.items()}
        orders = machine.decide(self.view, fact, now=self.now)
        for order in orders:
            self._check(order, fact)
        self._nothing_lost(before, fact)
        live = Counter(
            k.task for k, a in self.view.attempts.items() if a.stage in machine_attempts.LIVE
        )
        assert all(count == 1 for count in live.values()), live
        assert len(self.working) == len({k.task for k in self.working})

    def _possible(self, fact: values.Fact) -> bool:
        match fact:
            case values.Stored(k, stage) | values.NotStored(k, stage):
                if (k, stage) not in self.unsaved:
                    return False
                self.unsaved.remove((k, stage))
                if isinstance(fact, values.Stored):
                    self.saved[k] = stage
            case values.Ended(k) | values.Stopped(k) | values.LandEnded(k):
                if k not in self.working:
                    return False
                landing = self.view.attempts[k].granted
                if isinstance(fact, values.LandEnded) is not landing:
                    return False
                self.working.discard(k)
            case frames.Ack():
                return (values.Key(fact.task, fact.fence), fact.of) in self.reported
            case _:
                pass
        return True

    def _check(self, order: values.Order, fact: values.Fact) -> None:
        match order:
            case values.Send(frame):
                first = isinstance(frame, frames.MachineHello) and self.view.connected
                assert first or self.view.session is not None
                if isinstance(frame, REPORTED):
                    kind = ReportKind(str(type(frame).__struct_config__.tag))
                    self.reported.add((values.Key(frame.task, frame.fence), kind))
                if isinstance(frame, frames.Finish | frames.LandedFrame):
                    stage = Stage.FINISHED if isinstance(frame, frames.Finish) else Stage.LANDED
                    k = values.Key(frame.task, frame.fence)
                    assert (
                        self.saved.get(k) is stage
                        or isinstance(fact, values.NotStored)
                        or (self.view.attempts[k].stored)
                    )
            case values.Store(kept):
                self.unsaved.append((kept.key, kept.stage))
            case values.Start(kept) | values.Land(kept):
                assert kept.key not in self.working
                self.working.add(kept.key)
                if isinstance(order, values.Land):
                    assert machine.lease_valid(self.view, self.now)
            case values.Forget():
                assert isinstance(fact, frames.Ack | values.NotStored)
            case _:
                pass

    def _nothing_lost(self, before: dict[values.Key, Stage], fact: values.Fact) -> None:
        for k, stage in before.items():
            if k in self.view.attempts or stage is Stage.STORING:
                continue
            assert stage in machine_attempts.REPORTS
            assert isinstance(fact, frames.Ack)


FOUR_SLOTS = (AgentSpec(name=ADA, runtime="testagent", slots=4),)


@given(FACTS)
def test_no_order_of_events_doubles_a_task_or_loses_a_result(
    steps: list[tuple[int, values.Fact]],
) -> None:
    world = World()
    world.take(values.Connected())
    world.take(welcome())
    for delay_ms, fact in steps:
        world.now = Instant(world.now + delay_ms)
        world.take(fact)


@given(FACTS, st.sampled_from(TASKS), st.integers(1, 3))
def test_every_stop_leads_to_a_report(
    steps: list[tuple[int, values.Fact]], task: TaskId, attempt: int
) -> None:
    world = World()
    world.take(values.Connected())
    world.take(welcome())
    for _, fact in steps:
        world.take(fact)
    world.take(values.Connected())
    world.take(welcome())
    name = key(task, attempt)
    orders = machine.decide(
        world.view, frames.StopFrame(task=task, fence=name.fence), now=world.now
    )

    sent = list(orders)
    ends: tuple[values.Fact, ...] = (
        values.Stopped(name),
        values.LandEnded(name, LANDED),
        *(values.Stored(name, stage) for stage in sorted(STORED)),
    )
    for fact in ends:
        sent += machine.decide(world.view, fact, now=world.now)
    reports = [order.frame for order in sent if isinstance(order, values.Send)]
    assert any(
        isinstance(frame, frames.StoppedFrame | frames.LandedFrame) and frame.task == task
        for frame in reports
    )


# Agents that change ------------------------------------------------------------------------------


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
