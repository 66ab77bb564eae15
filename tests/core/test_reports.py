"""What machines may report, and what the hub makes of it."""

import pytest

from agentcom.core import due_facts, facts
from agentcom.core.effects import Acknowledge, Continue, GrantLanding, Stop
from agentcom.core.facts import Fact
from agentcom.model.agent import HeldStage
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import Fence, MachineId, TaskId, WallTime
from agentcom.model.limits import (
    ATTEMPT_DEADLINE_MS,
    DECLINE_RETRY_MS,
    LANDING_MS,
    NOTE_CHARS,
    ORPHANS_MAX,
    QUOTA_RETRY_MS,
    REASON_CHARS,
    RETRY_BASE_MS,
)
from agentcom.model.result import KeptResult, Landing, LandStatus, ReportKind, Result, ResultStatus
from agentcom.model.task import LandPolicy, Phase, StopReason, TaskState, Wait
from agentcom.testing.world import machine, person, stale
from tests.core.acts import KEY, Pool, done, failed, merging, report
from tests.core.quota_acts import account, quota, tried

M1, M2 = machine("m1"), machine("m2")


def finished(world: Pool, task: TaskId, **fields: object) -> facts.Finished:
    return facts.Finished(task, world.task(task).fence, done(**fields))


# Who may report ---------------------------------------------------------------------------------


def test_another_machine_with_the_right_fence_is_refused() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)

    world.tell(finished(world, task), M2)

    assert world.task(task) == before
    assert world.results(task) == []
    (ack,) = world.acks(task)
    assert (ack.machine, ack.applied, ack.code) == (MachineId("m2"), False, "not_allowed")


@pytest.mark.parametrize("kind", [facts.Stopped, facts.Landed, facts.Declined])
def test_another_machine_ends_nothing(kind: type) -> None:
    world = Pool()
    task = world.landing()
    before = world.task(task)
    bodies: dict[type, facts.Body] = {
        facts.Stopped: facts.Stopped(task, before.fence),
        facts.Landed: facts.Landed(task, before.fence, Landing(status=LandStatus.LANDED)),
        facts.Declined: facts.Declined(task, before.fence, "no"),
    }

    world.tell(bodies[kind], M2)

    assert world.task(task) == before
    assert not any(ack.applied for ack in world.acks(task) if ack.machine == "m2")


@pytest.mark.parametrize("fence", [Fence(7, 0), Fence(7, 2), Fence(8, 1)])
def test_a_fence_that_was_never_issued_is_refused(fence: Fence) -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)

    world.tell(facts.Finished(task, fence, done()), M1)

    assert world.task(task) == before
    assert world.results(task) == []
    assert [ack.code for ack in world.acks(task)] == ["not_allowed"]


def test_a_person_cannot_report() -> None:
    world = Pool()
    task = world.running()

    world.tell(finished(world, task), person("ann"))
    world.tell(facts.Accepted(task, world.task(task).fence), person("ann"))

    assert world.task(task).state is TaskState.RUNNING
    assert world.acks(task) == []


def test_an_older_fence_is_kept_and_never_applied() -> None:
    world = Pool()
    task = world.running()
    old = world.task(task).fence
    world.machine("m1", held=())  # it no longer has the attempt; the next one is assigned
    before = world.task(task)
    assert before.fence == Fence(old.incarnation, old.attempt + 1)

    world.tell(facts.Finished(task, old, done()), M1)

    assert world.task(task) == before
    (kept,) = world.results(task)
    assert (kept.fence, kept.applied) == (old, False)
    assert world.acks(task)[-1].code == "stale"
    assert world.feed[-1].record.kind is EventKind.RESULT_KEPT


def test_a_kept_result_can_be_adopted() -> None:
    world = Pool()
    task = world.running()
    old = world.task(task).fence
    world.machine("m1", held=())
    world.tell(facts.Finished(task, old, done()), M1)
    world.tell(facts.Declined(task, world.task(task).fence, "busy"), M1)

    world.ask(facts.Adopt(task, old, MachineId("m1")))

    assert world.task(task).state is TaskState.COMPLETED
    assert world.results(task)[0].applied


def test_an_adoption_that_is_not_written_leaves_the_task_as_it_was() -> None:
    world = Pool()
    task = world.running()
    old = world.task(task).fence
    world.machine("m1", held=())
    world.tell(facts.Finished(task, old, merging()), M1)
    world.tell(facts.Declined(task, world.task(task).fence, "busy"), M1)
    body = facts.Adopt(task, old, MachineId("m1"))

    world.decide([Fact(body=body, actor=person("ann"))], commit=False)  # its invariants: as stored

    assert world.view.tasks[task] == world.task(task)
    world.ask(body)
    assert world.task(task).author_machine == "m1"


def test_a_stale_attempt_that_reports_progress_is_told_to_stop() -> None:
    world = Pool()
    task = world.running()
    fence = stale(world.task(task).fence)

    effects = world.tell(facts.PhaseReached(task, fence, Phase.VERIFYING), M1)

    assert effects == [Stop(MachineId("m1"), task, fence)]


def test_a_result_of_an_unknown_task_is_kept() -> None:
    world = Pool()
    world.machine("m1")

    world.tell(facts.Finished(TaskId("unknown"), Fence(7, 1), done()), M1)

    assert [kept.applied for kept in world.results(TaskId("unknown"))] == [False]


@pytest.mark.parametrize(
    ("task", "land_key"), [("a\0b", KEY), ("t", "a\0b"), ("t", "k" * (REASON_CHARS + 1))]
)
def test_what_no_store_could_take_as_a_key_is_refused(task: str, land_key: str) -> None:
    world = Pool()
    world.machine("m1")
    result = done(land_key=land_key)

    world.tell(facts.Finished(TaskId(task), Fence(7, 1), result), M1)

    assert world.results(TaskId(task)) == []
    assert not world.acks(TaskId(task))[0].applied


# Repeats ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [done(), merging(), failed(), done(needs_person=("look",)), Result(status=ResultStatus.PARKED)],
    ids=["done", "merging", "failed", "person", "quota"],
)
@pytest.mark.parametrize("together", [True, False], ids=["same batch", "later"])
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "held"])
def test_a_repeated_completion_gets_the_same_answer_and_has_no_second_effect(
    result: Result,
    together: bool,
    lost: bool,
) -> None:
    world = Pool()
    task = world.running()
    fact = Fact(body=facts.Finished(task, world.task(task).fence, result), actor=M1)
    if lost:
        world.vanish("m1")

    if together:
        world.decide([fact, fact])
        after = world.task(task)
    else:
        world.decide([fact])
        after = world.task(task)
        world.decide([fact])

    first, second = world.acks(task)
    assert first == second == Acknowledge(MachineId("m1"), task, after.fence, ReportKind.FINISH)
    now = world.task(task)
    assert (now.state, now.attempt, now.failures) == (after.state, 1, after.failures)
    assert now.leases_lost == after.leases_lost
    assert [kept.applied for kept in world.results(task)] == [True]
    kinds = [append.record.kind for append in world.feed]
    assert EventKind.RESULT_KEPT not in kinds
    assert after.failures == (1 if result.status is ResultStatus.FAILED else 0)


@pytest.mark.parametrize("status", list(LandStatus))
def test_a_repeated_landing_report_gets_the_same_answer(status: LandStatus) -> None:
    world = Pool()
    task = world.landing()
    told = Landing(status=status, pull_request="https://forge.example/pull/1")
    fact = Fact(body=facts.Landed(task, world.task(task).fence, told), actor=M1)

    world.decide([fact, fact])
    after = world.task(task)
    world.decide([fact])

    assert world.task(task) == after
    assert {ack.applied for ack in world.acks(task)} == {True}


def test_a_repeated_acceptance_changes_nothing() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)

    assert world.accept(task) == before


# Late and returning -----------------------------------------------------------------------------


def test_a_completion_after_a_cancel_is_kept_and_ends_the_attempt_as_cancelled() -> None:
    world = Pool()
    task = world.running()
    world.ask(facts.Cancel(task))

    after = world.finish(task)

    assert after.state is TaskState.CANCELLED
    (kept,) = world.results(task)
    assert (kept.applied, kept.refused) == (False, "the attempt was asked to stop: cancelled")
    assert not world.acks(task)[-1].applied  # what is said the first time is said to a repeat
    world.tell(facts.Finished(task, after.fence, done()), machine("m1"))
    assert not world.acks(task)[-1].applied


def test_a_completion_of_a_task_that_was_cancelled_in_the_queue_is_kept() -> None:
    world = Pool()
    task = world.running()
    world.vanish("m1")
    world.ask(facts.Cancel(task))

    world.tell(finished(world, task), M1)

    assert world.task(task).state is TaskState.CANCELLED
    assert [kept.applied for kept in world.results(task)] == [False]
    assert world.acks(task)[-1].code == "stale"


@pytest.mark.parametrize("cancelled", [True, False])
def test_work_that_comes_with_a_confirmed_stop_is_kept(
    cancelled: bool,
) -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    if cancelled:
        world.ask(facts.Cancel(task))

    world.tell(facts.Stopped(task, fence, done()), M1)

    (kept,) = world.results(task)
    assert (kept.applied, kept.refused) == (
        False,
        "stopped: cancelled" if cancelled else "stopped: by its machine",
    )


def test_work_of_a_stop_that_is_confirmed_after_the_lease_is_kept_too() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.ask(facts.Cancel(task))
    world.vanish("m1")
    assert world.task(task).state is TaskState.CANCELLED

    world.tell(facts.Stopped(task, fence, done()), M1)
    world.tell(facts.Stopped(task, fence, done()), M1)

    assert [kept.applied for kept in world.results(task)] == [False]
    assert [ack.applied for ack in world.acks(task)] == [False, True]


def test_a_stop_that_is_confirmed_again_is_acknowledged_again() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.ask(facts.Cancel(task))

    world.tell(facts.Stopped(task, fence), M1)
    world.tell(facts.Stopped(task, fence), M1)

    assert [ack.applied for ack in world.acks(task)] == [True, True]


def test_a_result_after_a_lost_lease_is_applied_while_the_task_is_queued() -> None:
    world = Pool()
    task = world.running()
    world.vanish("m1")
    assert world.task(task).state is TaskState.QUEUED

    after = world.finish(task)

    assert (after.state, after.commit) == (TaskState.COMPLETED, "c" * 40)
    assert [kept.applied for kept in world.results(task)] == [True]


def test_a_result_after_the_task_was_issued_again_is_kept() -> None:
    world = Pool()
    task = world.running()
    old = world.task(task).fence
    world.vanish("m1")
    world.machine("m2")
    before = world.task(task)
    assert before.machine == "m2"

    world.tell(facts.Finished(task, old, done()), M1)

    assert world.task(task) == before
    assert [kept.applied for kept in world.results(task)] == [False]


def test_a_landing_that_succeeded_while_the_lease_was_lost_counts() -> None:
    world = Pool()
    task = world.landing()
    world.vanish("m1")
    assert world.task(task).landing_only

    after = world.land(task)

    assert (after.state, after.commit) == (TaskState.COMPLETED, "1" * 40)


def test_a_landing_that_succeeded_after_the_task_was_cancelled_is_no_silent_success() -> None:
    world = Pool()
    task = world.landing()
    world.vanish("m1")
    world.ask(facts.Cancel(task))

    after = world.land(task)

    assert after.state is TaskState.CANCELLED
    assert not world.acks(task)[-1].applied


def test_progress_of_a_holder_that_comes_back_resumes_its_attempt() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")
    connection = world.view.sessions[MachineId("m1")]
    connection.renew(world.now.instant)

    effects = world.tell(facts.PhaseReached(task, fence, Phase.VERIFYING), M1)

    assert not any(isinstance(effect, Stop) for effect in effects)
    after = world.task(task)
    assert (after.state, after.phase, after.fence) == (TaskState.RUNNING, Phase.VERIFYING, fence)


def test_what_a_returning_report_takes_up_again_has_a_lease_that_is_watched() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")

    effects = world.tell(facts.Finished(task, fence, merging()), M1)

    assert Continue(facts.LeaseChecked(MachineId("m1"))) in effects
    row = world.task(task)  # no heartbeat came, so the lease is still over
    assert (row.state, row.landing_only) == (TaskState.QUEUED, True)
    assert world.view.landing == {}


# On the way -------------------------------------------------------------------------------------


def test_an_attempt_moves_through_its_phases_and_leaves_landing_to_the_hub() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence

    for phase in (Phase.WORKING, Phase.WORKING, Phase.VERIFYING, Phase.LANDING):
        world.tell(facts.PhaseReached(task, fence, phase), M1)

    assert world.task(task).phase is Phase.VERIFYING
    phases = [a.record.phase for a in world.feed if a.record.kind is EventKind.PHASE]
    assert phases == [Phase.WORKING, Phase.VERIFYING]


def test_a_checkpoint_is_acknowledged_and_travels_with_the_next_attempt() -> None:
    world = Pool()
    task = world.running()

    fence = world.task(task).fence
    world.tell(facts.Checkpointed(task, fence, "k" * 40, "s1"), M1)
    world.machine("m1", held=())

    saved = Acknowledge(MachineId("m1"), task, fence, ReportKind.CHECKPOINT, commit="k" * 40)
    assert world.acks(task) == [saved]
    assert (world.pushed(task)[-1].checkpoint, world.pushed(task)[-1].session) == ("k" * 40, "s1")


def test_the_last_words_of_an_attempt_reach_the_next_one() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence

    world.tell(facts.Checkpointed(task, fence, "k" * 40, note="the parser\x1b is next"), M1)
    world.tell(facts.Checkpointed(task, fence, "l" * 40), M1)
    saved = world.task(task).note
    world.finish(task, failed())
    world.advance(RETRY_BASE_MS)

    assert saved == "the parser\ufffd is next"
    again = world.pushed(task)[-1]
    assert (again.fence.attempt, again.checkpoint, again.note) == (2, "l" * 40, saved)
    assert again.reason == "it broke"


@pytest.mark.parametrize("status", [ResultStatus.FAILED, ResultStatus.PARKED])
def test_what_a_failed_attempt_sums_up_is_its_note_or_else_its_message(
    status: ResultStatus,
) -> None:
    world = Pool()
    first, second, third = world.running(), world.running(on="m2"), world.running(on="m3")

    world.finish(first, Result(status=status, message="it broke", summary="s" * 2_000))
    world.finish(second, Result(status=status, message="it broke"))
    world.finish(third, done(summary="all but the tests", report=report(passed=False)))

    assert world.task(first).note == "s" * NOTE_CHARS
    assert world.task(second).note == "it broke"
    assert world.task(third).note == "all but the tests"


def test_a_checkpoint_brings_what_the_attempt_changed() -> None:
    world = Pool()
    task = world.running(repo="https://git.example/r.git")

    saved = facts.Checkpointed(task, world.task(task).fence, "k" * 40, touched=("a",))
    world.tell(saved, M1)

    assert world.view.gates.touched[task].paths == ("a",)


def test_a_task_that_is_done_has_nothing_to_hand_over() -> None:
    world = Pool()
    task = world.running()
    world.tell(facts.Checkpointed(task, world.task(task).fence, "k" * 40, note="n"), M1)

    assert world.finish(task, done()).note is None


def test_work_that_waits_for_a_person_keeps_what_its_agent_said() -> None:
    world = Pool()
    task = world.running()

    row = world.finish(task, done(needs_person=("it deletes tests",), summary="they were wrong"))

    assert (row.wait, row.note) == (Wait.APPROVAL, "they were wrong")


def test_a_late_phase_does_not_take_a_task_out_of_its_landing() -> None:
    world = Pool()
    task = world.landing()
    fence = world.task(task).fence

    world.tell(facts.PhaseReached(task, fence, Phase.VERIFYING), M1)

    assert world.task(task).phase is Phase.LANDING
    assert world.land(task).state is TaskState.COMPLETED


def test_every_acknowledgement_names_the_report_that_it_answers() -> None:
    world = Pool()
    landed, stopped = world.landing(), world.running()
    world.land(landed)
    world.tell(facts.Stopped(stopped, world.task(stopped).fence), M1)
    unknown = facts.Stopped(TaskId("other"), Fence(7, 0), done())
    world.decide([Fact(body=unknown, actor=M1)])

    assert [ack.of for ack in world.acks(landed)] == [ReportKind.FINISH, ReportKind.LANDED]
    assert [ack.of for ack in world.acks(stopped)] == [ReportKind.STOPPED]
    refused = world.acks(unknown.task)
    assert [(ack.of, ack.applied, ack.code) for ack in refused] == [
        (ReportKind.STOPPED, False, "not_allowed")
    ]


def test_an_attempt_that_shall_stop_is_told_so_with_each_of_its_reports() -> None:
    world = Pool()
    task = world.running()
    world.ask(facts.Cancel(task))
    fence = world.task(task).fence

    effects = world.tell(facts.Checkpointed(task, fence, "k" * 40), M1)

    assert Stop(MachineId("m1"), task, fence, world.task(task).stop_reason) in effects


def test_a_machine_that_declines_is_asked_again_a_little_later() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit("t")

    world.tell(facts.Declined(task, world.task(task).fence, "x" * 5_000), M1)

    row = world.task(task)
    assert (row.state, row.wait, row.failures) == (TaskState.WAITING, Wait.RETRY, 0)
    assert row.until == world.now.wall + DECLINE_RETRY_MS
    assert len(row.reason or "") == REASON_CHARS


def test_declining_what_is_no_longer_held_changes_nothing() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)

    world.tell(facts.Declined(task, stale(before.fence), "no"), M1)

    assert world.task(task) == before


# Success is judged here -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "verified"),
    [(done(), False), (done(report=report()), True), (done(needs_person=()), False)],
)
def test_work_is_completed_and_says_whether_it_is_verified(
    result: Result,
    verified: bool,
) -> None:
    world = Pool()

    after = world.finish(world.running(), result)

    assert (after.state, after.verified) == (TaskState.COMPLETED, verified)


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (done(verify_expected=True), "there is no report"),
        (done(report=report(passed=False)), "verification failed: pytest"),
        (done(report=report(commit="d" * 40)), "about another commit"),
        (done(verify_expected=True, report=report().__class__(commit="c" * 40)), "no check ran"),
        (merging(verify_expected=True).__class__(
            status=ResultStatus.DONE, commit="c" * 40, land=LandPolicy.MERGE, land_key=KEY,
            report=report(passed=False)), "verification failed"),
    ],
)  # fmt: skip
def test_declared_verification_that_is_not_shown_to_have_passed_is_a_failure(
    result: Result, why: str
) -> None:
    world = Pool()

    after = world.finish(world.running(), result)

    assert (after.state, after.failure) == (TaskState.WAITING, FailureClass.VERIFICATION)
    assert why in (after.reason or "")


def test_a_task_that_asked_for_verification_needs_a_report_whatever_its_machine_says() -> None:
    world = Pool()

    after = world.finish(world.running(verify=("pytest",)))

    assert after.failure is FailureClass.VERIFICATION


def test_unverified_work_is_never_merged() -> None:
    world = Pool()

    after = world.finish(world.running(), done(land=LandPolicy.MERGE, land_key=KEY))

    assert (after.state, after.verified) == (TaskState.COMPLETED, False)
    assert not any(isinstance(effect, GrantLanding) for effect in world.effects)


def test_unverified_work_that_a_person_adopts_is_not_merged_either() -> None:
    world = Pool()
    task = world.running()
    result = done(land=LandPolicy.MERGE, land_key=KEY, needs_person=("tests deleted",))
    world.finish(task, result)

    world.ask(facts.Adopt(task, world.task(task).fence, MachineId("m1")))

    assert (world.task(task).state, world.task(task).verified) == (TaskState.COMPLETED, False)


def test_an_exhausted_quota_parks_the_task_until_its_reset() -> None:
    world = Pool()
    task = world.running()
    reset = WallTime(world.now.wall + 7_000)

    after = world.finish(task, failed(failure=FailureClass.QUOTA, resets_at=reset))

    assert (after.wait, after.until, after.failures) == (Wait.QUOTA, reset, 0)
    world.advance(6_999)
    assert world.task(task).state is TaskState.WAITING
    world.advance(1)
    assert world.task(task).state is TaskState.ASSIGNED


@pytest.mark.parametrize("reset", [None, WallTime(5)])
def test_a_quota_without_a_reset_ahead_is_tried_again_after_a_while(
    reset: WallTime | None,
) -> None:
    world = Pool()
    parked = Result(status=ResultStatus.PARKED, resets_at=reset)

    after = world.finish(world.running(), parked)

    assert (after.wait, after.until) == (Wait.QUOTA, world.now.wall + QUOTA_RETRY_MS)


def test_a_failure_without_a_class_is_the_agents() -> None:
    world = Pool()

    assert world.finish(world.running(), failed()).failure is FailureClass.AGENT


def test_what_a_feed_says_is_bounded() -> None:
    world = Pool()
    long = Result(status=ResultStatus.FAILED, message="x" * 100_000)

    world.finish(world.running(), long)

    assert len(world.feed[-1].record.detail or "") == REASON_CHARS


# Landing ----------------------------------------------------------------------------------------


def test_one_attempt_at_a_time_lands_on_a_base_and_in_order() -> None:
    world = Pool()
    first, second, third = world.landing(), world.landing(), world.landing()

    def granted() -> list[TaskId]:
        return [effect.task for effect in world.effects if isinstance(effect, GrantLanding)]

    assert (granted(), world.view.landing[KEY]) == ([first], (first, second, third))
    world.land(second, LandStatus.CONFLICT)
    assert granted() == [first]
    world.land(first)
    assert granted() == [first, third]
    world.land(third)
    assert world.view.landing == {}


def test_a_conflict_in_landing_goes_back_to_an_agent() -> None:
    world = Pool()

    after = world.land(world.landing(), LandStatus.CONFLICT)

    assert (after.wait, after.failure) == (Wait.RETRY, FailureClass.CONFLICT)
    assert (after.checkpoint, after.landing_only) == ("c" * 40, False)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (LandStatus.VERIFICATION, FailureClass.VERIFICATION),
        (LandStatus.STALE, FailureClass.WORKSPACE),
        (LandStatus.ERROR, FailureClass.WORKSPACE),
    ],
)
def test_a_landing_that_failed_counts_as_a_failure(
    status: LandStatus, failure: FailureClass
) -> None:
    world = Pool()

    after = world.land(world.landing(), status)

    assert (after.wait, after.failure, after.failures) == (Wait.RETRY, failure, 1)


@pytest.mark.parametrize("status", [s for s in LandStatus if s is not LandStatus.LANDED])
def test_a_cancelled_task_whose_landing_failed_is_not_tried_again(status: LandStatus) -> None:
    world = Pool()
    task = world.landing()
    world.ask(facts.Cancel(task))

    assert world.land(task, status).state is TaskState.CANCELLED


def test_a_commit_that_is_in_the_base_is_completed_although_someone_cancelled() -> None:
    world = Pool()
    task = world.landing()
    world.ask(facts.Cancel(task))

    assert world.land(task).state is TaskState.COMPLETED


def test_an_attempt_that_was_not_landing_cannot_have_landed() -> None:
    world = Pool()
    task = world.running()

    after = world.land(task)

    assert after.state is TaskState.RUNNING
    assert world.acks(task)[-1].code == "stale"


def test_when_the_lease_is_lost_while_landing_another_machine_only_lands() -> None:
    world = Pool()
    task = world.landing(on="m1")
    world.vanish("m1")

    world.machine("m2")
    world.accept(task)

    assignment = world.pushed(task)[-1]
    assert (assignment.landing_only, assignment.commit) == (True, "c" * 40)
    assert world.task(task).phase is Phase.LANDING
    assert world.view.landing == {KEY: (task,)}
    assert world.land(task).state is TaskState.COMPLETED


def test_a_machine_lost_before_it_began_to_land_again_does_not_cost_the_work() -> None:
    world = Pool()
    task = world.landing(on="m1")
    world.vanish("m1")
    world.machine("m2")
    world.vanish("m2")

    world.machine("m3")

    assert world.pushed(task)[-1].landing_only


def test_a_holder_that_comes_back_while_landing_lands() -> None:
    world = Pool()
    task = world.landing()
    world.vanish("m1")

    world.machine("m1", held=[world.holding(task, HeldStage.FINISHED)])

    assert (world.task(task).phase, world.task(task).attempt) == (Phase.LANDING, 1)


def test_work_that_needs_a_person_lands_after_the_approval() -> None:
    world = Pool()
    task = world.running()
    parked = world.finish(task, merging(needs_person=("tests deleted", "config changed")))
    assert (parked.wait, parked.reason) == (Wait.APPROVAL, "tests deleted; config changed")

    world.ask(facts.Adopt(task, parked.fence, MachineId("m1")))

    assert world.pushed(task)[-1].landing_only
    assert world.accept(task).phase is Phase.LANDING
    assert world.land(task).state is TaskState.COMPLETED


def test_a_landing_that_is_stopped_keeps_the_result_that_is_stored() -> None:
    world = Pool()
    task = world.landing()
    world.ask(facts.Cancel(task))

    world.tell(facts.Stopped(task, world.task(task).fence, done()), M1)

    assert world.task(task).state is TaskState.CANCELLED
    assert [kept.applied for kept in world.results(task)] == [True]


def test_a_stop_that_is_confirmed_after_a_lost_lease_ends_the_right_to_come_back() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")

    world.tell(facts.Stopped(task, fence, done()), M1)

    assert (world.task(task).state, world.task(task).lost) == (TaskState.QUEUED, False)
    assert [kept.applied for kept in world.results(task)] == [False]
    world.tell(facts.Finished(task, fence, done()), M1)
    assert world.task(task).state is TaskState.QUEUED


def test_verified_work_that_waits_for_its_base_does_not_time_out() -> None:
    pool = Pool()
    pool.landing(on="m1")
    waiting = pool.landing(on="m1")

    pool.advance(ATTEMPT_DEADLINE_MS)
    pool.tell(due_facts.LandingOverdue(waiting, pool.task(waiting).fence))

    assert pool.task(waiting).stop_reason is None


def test_a_landing_that_takes_too_long_is_stopped_and_tried_again_without_an_agent() -> None:
    pool = Pool()
    task = pool.landing()
    fence = pool.task(task).fence

    assert pool.timers[f"land/{task}"].at == pool.now_ms + LANDING_MS
    pool.tell(due_facts.LandingOverdue(task, fence))
    assert pool.task(task).stop_reason is StopReason.TIMED_OUT
    pool.tell(facts.Stopped(task, fence), machine(pool.task(task).machine or ""))

    row = pool.task(task)
    assert (row.state, row.wait, row.landing_only) == (TaskState.WAITING, Wait.RETRY, True)


def test_a_landing_that_met_an_error_needs_no_agent_to_try_again() -> None:
    pool = Pool()

    row = pool.land(pool.landing(), LandStatus.ERROR)

    assert (row.state, row.wait, row.landing_only) == (TaskState.WAITING, Wait.RETRY, True)


def test_a_machine_cannot_plant_a_result_under_an_attempt_that_it_never_had() -> None:
    pool = Pool()
    task = pool.running(on="m1")
    first = pool.task(task).fence
    pool.vanish("m1")
    pool.machine("m2")
    pool.machine("m9")

    pool.tell(facts.Finished(task, first, merging()), machine("m9"))
    assert pool.results(task) == []
    pool.tell(facts.Finished(task, first, merging()), machine("m1"))

    assert [kept.machine for kept in pool.results(task)] == ["m1"]


def test_results_of_unknown_tasks_are_bounded_per_machine() -> None:
    pool = Pool()
    pool.machine("m1")
    fence = Fence(1, 1)

    for number in range(ORPHANS_MAX + 5):
        pool.tell(facts.Finished(TaskId(f"t{number}"), fence, merging()), machine("m1"))

    assert sum(isinstance(row, KeptResult) for row in pool.rows.values()) == ORPHANS_MAX


def test_a_restored_hub_keeps_the_results_of_attempts_that_it_forgot() -> None:
    pool = Pool()
    task = pool.running(on="m1")
    forgotten = Fence(pool.task(task).incarnation, 9)
    pool.incarnation += 1
    pool.restart()

    pool.tell(facts.Finished(task, forgotten, merging()), machine("m1"))

    assert [kept.fence for kept in pool.results(task)] == [forgotten]


def test_an_account_is_parked_by_the_result_of_a_stopped_attempt_and_opened_by_life() -> None:
    world, canary = tried()
    who = machine(canary.machine or "")

    world.tell(facts.CanaryLived(canary.id, canary.fence), who)
    assert account(world) is None
    world.ask(facts.Cancel(canary.id))
    world.finish(canary.id, quota(world))

    assert account(world) is not None
