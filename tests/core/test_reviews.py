"""A task under review: it waits and holds nothing; what is seen of it moves it, once."""

import pytest

from agentcom.core import facts
from agentcom.core.effects import TellClosed
from agentcom.core.facts import Fact
from agentcom.core.review_facts import Reviewed
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Dependency
from agentcom.model.limits import REASON_CHARS, REVIEW_ROUNDS_MAX
from agentcom.model.result import Landing, LandStatus, ReviewOutcome
from agentcom.model.task import StopReason, TaskSpec, TaskState, Wait
from agentcom.testing.world import machine, person, stale
from tests.core.acts import KEY, done
from tests.core.review_acts import BRANCH, URL, Reviewing, to_review

WANTED, MERGED, CLOSED = ReviewOutcome.WANTED, ReviewOutcome.MERGED, ReviewOutcome.CLOSED


def test_a_task_under_review_waits_and_its_slot_and_base_are_free() -> None:
    world = Reviewing()
    task = world.under_review()

    row = world.task(task)
    assert (row.state, row.wait) == (TaskState.WAITING, Wait.REVIEW)
    assert (row.pull_request, row.branch, row.commit) == (URL, BRANCH, "d" * 40)
    assert (row.checkpoint, row.verified, row.deadline_at) == ("d" * 40, True, None)
    assert world.view.landing == {}
    assert world.view.held_by["m1"] == {}  # type: ignore[index] # a NewType of str
    (other,) = world.submit("other")
    assert world.task(other).state is TaskState.ASSIGNED


def test_work_that_nobody_could_check_goes_to_review_all_the_same() -> None:
    world = Reviewing()
    task = world.under_review(result=to_review(report=None))

    assert not world.task(task).verified
    assert not world.see(task, MERGED, "merged", commit="e" * 40).verified


def test_work_whose_checks_failed_does_not() -> None:
    world = Reviewing()

    after = world.finish(world.running(), to_review(report=None, verify_expected=True))

    assert after.failure is FailureClass.VERIFICATION


def test_what_a_person_must_look_at_is_looked_at_in_the_review() -> None:
    world = Reviewing()
    task = world.under_review(result=to_review(needs_person=("deletes the test a",)))

    assert world.task(task).wait is Wait.REVIEW


def test_a_comment_sends_it_back_to_the_agent_that_knows_it() -> None:
    world = Reviewing()
    world.machine("m1", "ada", "bob")
    task = world.under_review(result=to_review(session="s1"))
    row = world.task(task)

    after = world.see(task, WANTED)

    assert (after.state, after.rounds) == (TaskState.ASSIGNED, 1)
    assert after.agent == row.agent
    (assignment,) = [one for one in world.pushed(task) if one.fence == after.fence]
    assert assignment.pull_request == URL
    assert assignment.checkpoint == "d" * 40
    assert not assignment.landing_only
    assert world.feed[-2].record.kind is EventKind.REVIEWED


def test_the_same_seen_again_changes_nothing() -> None:
    world = Reviewing()
    task = world.under_review()
    fence = world.task(task).fence
    after = world.see(task, WANTED)

    world.tell(Reviewed(task, fence, WANTED, "again"), machine("m1"))

    assert world.task(task) == after
    assert world.watched()[-1].pull_request is None


def test_the_answer_goes_to_review_again_and_says_what_it_answers() -> None:
    world = Reviewing()
    task = world.under_review()
    world.see(task, WANTED)
    world.accept(task)

    landing = world.finish(task, to_review(reviewed=("i1", "r2")))
    assert landing.reviewed == ("i1", "r2")
    again = world.opened(task)

    assert (again.wait, again.rounds, again.failures) == (Wait.REVIEW, 1, 0)


def test_merged_is_completed_with_what_the_base_has() -> None:
    world = Reviewing()
    task = world.under_review()

    after = world.see(task, MERGED, "merged", commit="e" * 40)

    assert (after.state, after.commit, after.verified) == (TaskState.COMPLETED, "e" * 40, True)
    assert world.watched()[-1].pull_request is None


def test_a_merge_without_its_commit_keeps_ours() -> None:
    world = Reviewing()

    assert world.see(world.under_review(), MERGED, "merged").commit == "d" * 40


def test_dependants_begin_when_it_is_merged() -> None:
    world = Reviewing()
    world.machine("m1")
    first, second = world.submit(
        TaskSpec(title="a", prompt="p", ref="a"),
        TaskSpec(title="b", prompt="p", depends_on=(Dependency("a"),)),
    )
    world.accept(first)
    world.finish(first, to_review())
    world.opened(first)
    assert world.task(second).wait is Wait.DEPENDENCIES

    world.see(first, MERGED, "merged", commit="e" * 40)

    assert world.task(second).state is TaskState.ASSIGNED
    assert world.pushed(second)[-1].inputs == ("e" * 40,)


def test_closed_without_a_merge_is_a_rejection_and_a_retry_opens_another() -> None:
    world = Reviewing()
    task = world.under_review()

    after = world.see(task, CLOSED, "closed by ann")
    assert (after.state, after.failure) == (TaskState.FAILED, FailureClass.REJECTED)
    assert (after.reason, after.pull_request) == ("closed by ann", URL)
    (told,) = [one for one in world.effects if isinstance(one, TellClosed)]
    assert (told.task.id, told.said) == (task, "closed by ann")
    world.see(task, CLOSED, "closed by ann", on="m1")
    assert sum(isinstance(one, TellClosed) for one in world.effects) == 1
    world.ask(facts.Retry(task))

    assert world.task(task).pull_request is None


def test_a_pull_request_that_goes_back_and_forth_gets_a_person() -> None:
    world = Reviewing()
    task = world.under_review()
    for _ in range(REVIEW_ROUNDS_MAX):
        world.see(task, WANTED)
        world.accept(task)
        world.finish(task, to_review())
        world.opened(task)

    after = world.see(task, WANTED)
    assert (after.state, after.wait) == (TaskState.WAITING, Wait.APPROVAL)
    world.ask(facts.Retry(task))

    row = world.task(task)
    assert (row.rounds, row.pull_request) == (0, URL)


def test_only_the_machine_that_watches_it_has_a_say() -> None:
    world = Reviewing()
    task = world.under_review()
    world.machine("m2")
    before = world.task(task)

    world.see(task, MERGED, on="m2")
    world.tell(Reviewed(task, stale(before.fence), MERGED), machine("m1"))
    world.decide([Fact(body=Reviewed(task, before.fence, MERGED), actor=person("ann"))])

    assert world.task(task) == before


def test_what_is_seen_is_bounded_and_no_commit_is_taken_on_trust() -> None:
    world = Reviewing()
    task = world.under_review()
    before = world.task(task)

    world.see(task, MERGED, "x", commit="main; rm -rf /")
    assert world.task(task) == before
    after = world.see(task, CLOSED, "a\nb" * REASON_CHARS)

    assert after.reason is not None
    assert len(after.reason) <= REASON_CHARS
    assert after.reason.isprintable()


@pytest.mark.parametrize("url", [None, "", "a\nb", "x" * (REASON_CHARS + 1)])
def test_an_address_that_is_none_is_not_stored(url: str | None) -> None:
    world = Reviewing()
    task = world.running()
    world.finish(task, to_review())
    before = world.task(task)
    landing = Landing(status=LandStatus.OPENED, pull_request=url)

    world.tell(facts.Landed(task, before.fence, landing), machine("m1"))

    assert world.task(task) == before


def test_a_cancelled_task_that_was_opened_all_the_same_is_cancelled() -> None:
    world = Reviewing()
    task = world.running()
    world.finish(task, to_review())
    world.ask(facts.Cancel(task))
    assert world.task(task).stop_reason is StopReason.CANCELLED

    assert world.opened(task).state is TaskState.CANCELLED


def test_a_task_under_review_can_be_cancelled_and_is_not_watched_then() -> None:
    world = Reviewing()
    task = world.under_review()

    world.ask(facts.Cancel(task))

    assert world.task(task).state is TaskState.CANCELLED
    assert world.watched()[-1].pull_request is None


def test_a_machine_that_leaves_the_fleet_passes_its_reviews_on() -> None:
    world = Reviewing()
    task = world.under_review()
    world.machine("m2")

    world.ask(facts.RemoveMachine(world.task(task).machine))  # type: ignore[arg-type] # it has one

    (assignment,) = [one for one in world.pushed(task) if one.agent == "m2"]
    assert (assignment.landing_only, assignment.pull_request) == (True, URL)
    world.accept(task)
    after = world.opened(task)
    assert (after.wait, after.machine) == (Wait.REVIEW, "m2")
    assert world.watched("m2")[-1].pull_request == URL


def test_what_a_machine_opened_that_was_removed_meanwhile_is_watched_by_another() -> None:
    world = Reviewing()
    task = world.running()
    row = world.finish(task, to_review())
    world.machine("m2")
    world.ask(facts.RemoveMachine(row.machine))  # type: ignore[arg-type] # it has one

    world.opened(task)

    assert world.pushed(task)[-1].agent == "m2"
    assert world.pushed(task)[-1].landing_only


def test_a_repeated_report_gets_the_same_answer() -> None:
    world = Reviewing()
    task = world.under_review()
    before = world.task(task)

    world.opened(task)

    assert world.task(task) == before
    assert [ack.applied for ack in world.acks(task)] == [True, True, True]


def test_branches_that_need_no_review_are_as_before() -> None:
    world = Reviewing()

    after = world.finish(world.running(), done(land_key=KEY))

    assert (after.state, after.wait) == (TaskState.COMPLETED, None)
