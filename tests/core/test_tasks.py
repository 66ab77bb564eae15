"""The life of one task, every state with every event."""

import typing
from typing import Any

import pytest

from agentcom.core import moves, tasks
from agentcom.model.ask import AskId
from agentcom.model.budget import Amounts, Budget
from agentcom.model.errors import IllegalTransition
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Fence, MachineId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.limits import CRASHED_ON_MAX, LEASES_LOST_MAX, TASK_TURNS
from agentcom.model.pause import Pause
from agentcom.model.task import Phase, StopReason, Task, TaskState, Wait

NOW = WallTime(1_000)
LATER = WallTime(9_000)
ADA, M1 = AgentId("ada"), MachineId("m1")
EVENTS = typing.get_args(moves.Event)
ENDS = typing.get_args(moves.End)
SAMPLES: dict[type[moves.Event], moves.Event] = {
    moves.Released: moves.Released(),
    moves.Matched: moves.Matched(ADA, M1, Fence(7, 3), LATER),
    moves.Advanced: moves.Advanced(Phase.WORKING),
    moves.Saved: moves.Saved("k" * 40, "session"),
    moves.LandingBegun: moves.LandingBegun("c", "b", "base", "api#main"),
    moves.Completed: moves.Completed("c", "b", verified=True),
    moves.Opened: moves.Opened("c", "b", "https://forge.example/pull/1"),
    moves.ReviewWanted: moves.ReviewWanted(None, "1 comment"),
    moves.Failed: moves.Failed(FailureClass.AGENT, "it broke", LATER),
    moves.LeaseLost: moves.LeaseLost(),
    moves.Declined: moves.Declined("no disk", LATER),
    moves.StopAsked: moves.StopAsked(StopReason.PAUSED),
    moves.Stopped: moves.Stopped(LATER),
    moves.Parked: moves.Parked(Wait.QUOTA, LATER, "quota"),
    moves.Resumed: moves.Resumed(ADA, M1, Phase.WORKING, LATER),
    moves.Cancelled: moves.Cancelled(),
    moves.Reopened: moves.Reopened(),
    moves.Charged: moves.Charged(Amounts(tokens=1)),
    moves.PauseSet: moves.PauseSet(Pause("task:t", UserId("ann"), NOW)),
}
ASK = AskId("q")
SAMPLES[moves.AskPut] = moves.AskPut(ASK)
SAMPLES[moves.AskEnded] = moves.AskEnded(ASK, told=True)
SAMPLES[moves.AskHeard] = moves.AskHeard(ASK)
SPENT_OUT = Amounts(turns=TASK_TURNS)


def edited(**fields: Any) -> moves.Edited:
    values: dict[str, Any] = {
        "title": "new",
        "needs": ("gpu",),
        "priority": 5,
        "emergency": False,
        "deadline_ms": 5_000,
        "failures_max": 9,
        "wait": None,
        "until": None,
        "start_tag": 1.0,
        "seq": 4,
        "lost": False,
    }
    return moves.Edited(**(values | fields))


PUT_OFF = edited(wait=Wait.START_TIME, until=LATER, seq=0)
SAMPLES[moves.Edited] = edited()


def a_task(state: TaskState, **fields: object) -> Task:
    held = {"phase": Phase.WORKING, "deadline_at": LATER} if state.held else {}
    waits = {"wait": Wait.RETRY, "until": LATER} if state is TaskState.WAITING else {}
    task = Task(
        id=TaskId("t"),
        project=ProjectId("p"),
        submitter=UserId("ann"),
        title="t",
        state=state,
        changed_at=WallTime(0),
        agent=ADA,
        machine=M1,
        incarnation=7,
        attempt=2,
        version=5,
    )
    return tasks.replace(task, **(held | waits | fields))


def test_the_map_names_every_event_and_nothing_else() -> None:
    assert set(tasks.TRANSITIONS) == set(EVENTS) == set(SAMPLES)


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("event", SAMPLES.values(), ids=lambda event: type(event).__name__)
def test_an_event_leads_where_the_map_says_or_is_refused(
    state: TaskState, event: moves.Event
) -> None:
    task = a_task(state)
    allowed = tasks.TRANSITIONS[type(event)].get(state)

    if allowed is None:
        with pytest.raises(IllegalTransition, match=f"{state.value} cannot take"):
            tasks.decide(task, event, NOW)
        return
    after = tasks.decide(task, event, NOW)
    assert after.state in allowed
    assert (after.version, after.changed_at) == (task.version + 1, NOW)
    assert after.state.held == (after.phase is not None) == (after.deadline_at is not None)
    assert (after.wait is not None) == (after.state is TaskState.WAITING)


@pytest.mark.parametrize("state", list(TaskState))
def test_completed_is_the_only_state_without_a_way_out(state: TaskState) -> None:
    ways = [event for event, rules in tasks.TRANSITIONS.items() if state in rules]

    assert bool(ways) == (state is not TaskState.COMPLETED)


def reachable(event: type[moves.Event], state: TaskState) -> set[TaskState]:
    """Return every state that any variant of `event` leads to."""
    variants: list[moves.Event] = [SAMPLES[event]]
    if event is moves.Failed:
        variants.append(moves.Failed(FailureClass.CONFLICT, "clash", LATER))
    if event is moves.Parked:
        variants.append(moves.Parked(None, None, "quota"))
    if event is moves.ReviewWanted:
        variants.append(moves.ReviewWanted(Wait.APPROVAL, "too often"))
    if event is moves.Released:
        variants.append(moves.Released(LATER))
    if event is moves.Reopened:
        variants.append(moves.Reopened(blocked=True))
    if event is moves.Edited and not state.held:
        variants.append(PUT_OFF)
    reasons = [None, *StopReason] if state.held else [None]
    rows = [
        a_task(state, stop_reason=reason, leases_lost=lost)
        for reason in reasons
        for lost in (0, LEASES_LOST_MAX - 1)
    ]
    rows.append(a_task(state, spent=SPENT_OUT))
    if event is moves.LeaseLost:
        rows.append(a_task(state, asks=(ASK,)))
    if event is moves.AskEnded and state is TaskState.WAITING:
        rows.append(a_task(state, asks=(ASK,), wait=Wait.ANSWER, until=None))
    if event is moves.Stopped:
        rows.append(a_task(state, stop_reason=StopReason.TIMED_OUT, failures=2))
    return {tasks.decide(row, variant, NOW).state for row in rows for variant in variants}


@pytest.mark.parametrize(
    ("event", "state"),
    [(event, state) for event, rules in tasks.TRANSITIONS.items() for state in rules],
)
def test_the_map_promises_no_result_that_never_comes(
    event: type[moves.Event], state: TaskState
) -> None:
    allowed = set(tasks.TRANSITIONS[event][state])

    if event is moves.Reopened and state is TaskState.QUEUED:
        assert allowed == {TaskState.QUEUED}
        assert tasks.decide(a_task(state), moves.Reopened(), NOW).state is TaskState.QUEUED
    else:
        assert reachable(event, state) == allowed


@pytest.mark.parametrize("state", [TaskState.ASSIGNED, TaskState.RUNNING])
@pytest.mark.parametrize("event", [e for e in ENDS if e is not moves.Cancelled])
def test_the_end_of_an_attempt_clears_what_was_the_attempts_own(
    state: TaskState, event: type[moves.End]
) -> None:
    after = tasks.decide(a_task(state), SAMPLES[event], NOW)

    assert not after.state.held
    assert (after.phase, after.stop_reason, after.deadline_at) == (None, None, None)
    assert (after.agent, after.machine, after.fence) == (ADA, M1, Fence(7, 2))


def test_the_first_reason_to_stop_is_the_one_that_counts() -> None:
    stopping = a_task(TaskState.RUNNING, stop_reason=StopReason.CANCELLED)

    after = tasks.decide(stopping, moves.StopAsked(StopReason.REVOKED), NOW)

    assert after.stop_reason is StopReason.CANCELLED


@pytest.mark.parametrize("event", [moves.LeaseLost, moves.Declined, moves.Stopped])
def test_a_cancelled_attempt_ends_as_cancelled_whichever_way_it_ends(
    event: type[moves.End],
) -> None:
    stopping = a_task(TaskState.RUNNING, stop_reason=StopReason.CANCELLED)

    assert tasks.decide(stopping, SAMPLES[event], NOW).state is TaskState.CANCELLED


@pytest.mark.parametrize("event", [moves.LeaseLost, moves.Stopped])
@pytest.mark.parametrize(
    ("phase", "landing_only"),
    [(Phase.LANDING, False), (Phase.LANDING, True), (Phase.PREPARING, True)],
)
def test_verified_work_whose_landing_broke_off_only_has_to_land(
    event: type[moves.End], phase: Phase, landing_only: bool
) -> None:
    task = a_task(TaskState.RUNNING, phase=phase, landing_only=landing_only, commit="c")

    after = tasks.decide(task, SAMPLES[event], NOW)

    assert after.state is TaskState.QUEUED
    assert after.landing_only


@pytest.mark.parametrize("reason", [None, *StopReason])
def test_only_a_holder_that_was_not_told_to_stop_may_come_back(reason: StopReason | None) -> None:
    after = tasks.decide(a_task(TaskState.RUNNING, stop_reason=reason), moves.LeaseLost(), NOW)

    assert after.lost == (reason is None)


def test_a_returning_holder_gets_its_lost_lease_forgiven() -> None:
    lost = tasks.decide(a_task(TaskState.RUNNING), moves.LeaseLost(), NOW)

    back = tasks.decide(lost, SAMPLES[moves.Resumed], NOW)

    assert (lost.leases_lost, back.leases_lost, back.lost) == (1, 0, False)


def test_failures_count_up_to_the_tasks_own_bound() -> None:
    task = a_task(TaskState.RUNNING, failures_max=2)

    first = tasks.decide(task, SAMPLES[moves.Failed], NOW)
    second = tasks.decide(tasks.replace(task, failures=first.failures), SAMPLES[moves.Failed], NOW)

    assert (first.state, first.wait, first.until) == (TaskState.WAITING, Wait.RETRY, LATER)
    assert (second.state, second.failures, second.until) == (TaskState.FAILED, 2, None)


@pytest.mark.parametrize("failure", list(FailureClass))
def test_what_no_attempt_can_cure_fails_at_once(failure: FailureClass) -> None:
    event = moves.Failed(failure, "r", LATER)

    after = tasks.decide(a_task(TaskState.RUNNING), event, NOW)

    assert (after.state is TaskState.FAILED) == failure.final


def test_work_that_waits_for_a_person_keeps_its_commit() -> None:
    parked = moves.Parked(Wait.APPROVAL, None, "tests deleted", "c", "b", "base", "api#main")

    after = tasks.decide(a_task(TaskState.RUNNING), parked, NOW)

    assert (after.commit, after.branch, after.land_key) == ("c", "b", "api#main")


def test_a_checkpoint_without_a_session_keeps_the_session_known() -> None:
    task = a_task(TaskState.RUNNING, session="s1")

    assert tasks.decide(task, moves.Saved("k", None), NOW).session == "s1"


def test_a_cancel_wins_over_another_reason_to_stop() -> None:
    stopping = a_task(TaskState.RUNNING, stop_reason=StopReason.TIMED_OUT)

    after = tasks.decide(stopping, moves.StopAsked(StopReason.CANCELLED, "enough"), NOW)

    assert (after.stop_reason, after.reason) == (StopReason.CANCELLED, "enough")
    assert tasks.decide(after, moves.Stopped(NOW), NOW).state is TaskState.CANCELLED


@pytest.mark.parametrize(
    "event",
    [
        moves.Failed(FailureClass.AGENT, "it broke", LATER),
        moves.LeaseLost(),
        moves.Declined("no disk", LATER),
        moves.Stopped(LATER),
        moves.Parked(Wait.QUOTA, LATER, "quota"),
    ],
)
def test_a_task_that_spent_its_budget_gets_no_further_attempt(event: moves.End) -> None:
    after = tasks.decide(a_task(TaskState.RUNNING, spent=SPENT_OUT), event, NOW)

    assert (after.state, after.failure) == (TaskState.FAILED, FailureClass.BUDGET)
    assert after.reason is not None
    assert after.reason.startswith("its budget is used up: 1,000 of 1,000 turns")
    assert (after.lost, after.wait, after.until) == (False, None, None)


@pytest.mark.parametrize(
    "event",
    [
        moves.Completed("c", "b", verified=True),
        moves.Parked(Wait.APPROVAL, None, "look at it"),
        moves.Failed(FailureClass.CONFLICT, "clash", LATER),
    ],
)
def test_what_needs_no_further_attempt_needs_no_budget(event: moves.End) -> None:
    after = tasks.decide(a_task(TaskState.RUNNING, spent=SPENT_OUT), event, NOW)

    assert after.failure is not FailureClass.BUDGET


def test_verified_work_lands_without_a_budget() -> None:
    task = a_task(TaskState.RUNNING, phase=Phase.LANDING, spent=SPENT_OUT)

    assert tasks.decide(task, moves.LeaseLost(), NOW).state is TaskState.QUEUED


def test_a_submitter_may_give_more_than_the_default_and_less() -> None:
    more = a_task(TaskState.RUNNING, spent=SPENT_OUT, budget=Budget(turns=TASK_TURNS + 1))
    less = a_task(TaskState.RUNNING, spent=Amounts(tokens=5), budget=Budget(tokens=5))

    assert tasks.decide(more, moves.LeaseLost(), NOW).state is TaskState.QUEUED
    assert tasks.decide(less, moves.LeaseLost(), NOW).failure is FailureClass.BUDGET


def test_who_reopens_a_task_gives_it_its_budget_anew() -> None:
    failed = a_task(TaskState.FAILED, spent=SPENT_OUT, failure=FailureClass.BUDGET)

    after = tasks.decide(failed, moves.Reopened(), NOW)

    assert (after.state, after.spent) == (TaskState.QUEUED, None)


def test_work_that_is_good_lands_though_it_was_asked_to_end() -> None:
    begun = SAMPLES[moves.LandingBegun]

    spent, paused = (
        tasks.decide(a_task(TaskState.RUNNING, stop_reason=reason), begun, NOW).stop_reason
        for reason in (StopReason.BUDGET, StopReason.PAUSED)
    )

    assert (spent, paused) == (None, StopReason.PAUSED)


def test_an_edit_of_a_running_attempt_leaves_it_running() -> None:
    after = tasks.decide(a_task(TaskState.RUNNING), edited(priority=7), NOW)

    assert (after.state, after.phase, after.priority) == (TaskState.RUNNING, Phase.WORKING, 7)


def test_who_cancels_what_was_asked_to_pause_gets_a_cancelled_task() -> None:
    asked = a_task(TaskState.RUNNING, stop_reason=StopReason.PAUSED)

    cancelled = tasks.decide(asked, moves.StopAsked(StopReason.CANCELLED, "enough"), NOW)

    assert tasks.decide(cancelled, moves.Stopped(LATER), NOW).state is TaskState.CANCELLED
    again = tasks.decide(cancelled, moves.StopAsked(StopReason.PAUSED), NOW)
    assert again.stop_reason is StopReason.CANCELLED


def test_a_dead_letter_of_lost_leases_names_the_machines() -> None:
    task = a_task(TaskState.QUEUED)
    for at in range(LEASES_LOST_MAX):
        held = tasks.replace(task, state=TaskState.RUNNING, phase=Phase.WORKING, deadline_at=LATER)
        task = tasks.decide(held, moves.LeaseLost(f"box{at % 2}"), NOW)

    assert task.state is TaskState.FAILED
    assert task.reason == "its machine vanished 5 times: box0, box1"


def test_a_machine_that_comes_back_is_not_named_among_the_lost() -> None:
    lost = tasks.decide(a_task(TaskState.RUNNING), moves.LeaseLost("box"), NOW)

    back = tasks.decide(lost, SAMPLES[moves.Resumed], NOW)

    assert (back.leases_lost, back.lost_on) == (0, ())


def test_a_task_that_crashes_different_agents_is_a_dead_letter_whatever_it_may_fail() -> None:
    crash = moves.Failed(FailureClass.CRASHED, "signal 11", LATER)
    task = a_task(TaskState.RUNNING, failures_max=100)
    for name in ("a", "a", "b"):
        task = tasks.replace(task, agent=AgentId(name))
        waits = tasks.decide(task, crash, NOW)
        assert waits.state is TaskState.WAITING
        task = tasks.replace(waits, state=TaskState.RUNNING, wait=None, phase=Phase.WORKING)

    dead = tasks.decide(tasks.replace(task, agent=AgentId("c")), crash, NOW)

    assert dead.state is TaskState.FAILED
    assert len(dead.crashed_on) == CRASHED_ON_MAX
    assert tasks.decide(dead, moves.Reopened(), NOW).crashed_on == ()
