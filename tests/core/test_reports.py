"""What machines may report, and what the hub makes of it."""

import pytest

from agentcom.core import facts
from agentcom.core.effects import Acknowledge, Stop
from agentcom.core.facts import Fact
from agentcom.model.event import EventKind
from agentcom.model.ids import Fence, MachineId, TaskId
from agentcom.model.limits import DECLINE_RETRY_MS, NOTE_CHARS, REASON_CHARS, RETRY_BASE_MS
from agentcom.model.result import Landing, LandStatus, ReportKind, Result, ResultStatus
from agentcom.model.task import Phase, TaskState, Wait
from agentcom.testing.world import person, stale
from tests.core.acts import KEY, Pool, done, failed, merging, report
from tests.core.reporting import M1, M2, finished


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
