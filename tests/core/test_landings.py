"""What a landing comes to: its own file for what `test_reports.py` sees from outside."""

import pytest

from agentcom.core import facts
from agentcom.core.effects import Stop
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import Fence, TaskId
from agentcom.model.result import Landing, LandStatus, RiderLanding
from agentcom.model.task import LandPolicy, Phase, TaskState, Wait
from agentcom.testing.world import agent, machine
from tests.core.acts import KEY, Pool, done, merging, queueing, report
from tests.core.review_acts import BRANCH, Reviewing, to_review


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (LandStatus.CONFLICT, FailureClass.CONFLICT),
        (LandStatus.VERIFICATION, FailureClass.VERIFICATION),
        (LandStatus.STALE, FailureClass.WORKSPACE),
        (LandStatus.ERROR, FailureClass.WORKSPACE),
        (LandStatus.REJECTED, FailureClass.REJECTED),
    ],
)
def test_a_landing_that_failed_says_how(status: LandStatus, failure: FailureClass) -> None:
    world = Pool()

    assert world.land(world.landing(), status).failure is failure


def test_how_it_lands_goes_with_it_to_another_machine() -> None:
    world = Reviewing()
    task = world.running()
    world.finish(task, to_review(reviewed=("i1",)))
    world.vanish("m1")
    world.machine("m2")

    assignment = world.pushed(task)[-1]
    assert (assignment.landing_only, assignment.land) == (True, LandPolicy.PULL_REQUEST)
    assert assignment.reviewed == ("i1",)
    row = world.accept(task)
    assert (row.phase, row.land, row.verified) == (Phase.LANDING, LandPolicy.PULL_REQUEST, True)


def test_an_adopted_result_goes_to_review_where_that_is_how_it_lands() -> None:
    world = Reviewing()
    world.machine("m1")
    task = world.running()
    row = world.task(task)
    world.ask(facts.Cancel(task))
    world.finish(task, to_review())
    (kept,) = world.results(task)

    world.ask(facts.Adopt(task, kept.fence, kept.machine))

    after = world.task(task)
    assert (after.state, after.land) == (TaskState.ASSIGNED, LandPolicy.PULL_REQUEST)
    assert after.fence > row.fence
    world.accept(task)
    assert world.opened(task).branch == BRANCH


def test_only_what_is_good_and_wanted_lands() -> None:
    review = LandPolicy.PULL_REQUEST

    assert merging().lands
    assert to_review().lands
    assert done(land=review, land_key=KEY).lands
    assert not done(land=review).lands
    assert not done(land=review, land_key=KEY, verify_expected=True).lands
    assert not merging(needs_person=("x",)).lands
    assert not done(land=LandPolicy.MERGE, land_key=KEY).lands
    assert not done(land_key=KEY, report=report()).lands


# Riders ----------------------------------------------------------------------------------------


def batch(count: int = 3) -> tuple[Pool, list[TaskId]]:
    """Return a pool in which the first of `count` tasks lands, and the others ride with it."""
    world = Pool()
    world.machine("m1", agent("m1", slots=9))
    tasks = [world.running() for _ in range(count + 1)]
    for task in tasks:
        world.finish(task, queueing())
    world.land(tasks[0])
    return world, tasks[1:]


def rider(world: Pool, task: TaskId, status: LandStatus, commit: str = "2" * 40) -> RiderLanding:
    landing = Landing(status=status, commit=commit, message=f"it is {status.value}")
    return RiderLanding(task=task, fence=world.task(task).fence, landing=landing)


def tell(world: Pool, first: TaskId, *riders: RiderLanding, status: LandStatus) -> None:
    report = Landing(status=status, commit="1" * 40, message="so", riders=riders)
    world.tell(facts.Landed(first, world.task(first).fence, report), machine("m1"))


def test_one_report_ends_all_of_a_batch() -> None:
    world, (first, second, third) = batch()
    told = [rider(world, second, LandStatus.LANDED), rider(world, third, LandStatus.CONFLICT)]

    tell(world, first, *told, status=LandStatus.LANDED)

    assert (world.task(first).state, world.task(first).commit) == (TaskState.COMPLETED, "1" * 40)
    assert (world.task(second).state, world.task(second).commit) == (TaskState.COMPLETED, "2" * 40)
    assert world.task(third).wait is Wait.RETRY
    assert KEY not in world.view.landing
    stops = [one.task for one in world.effects if isinstance(one, Stop)]
    assert stops == [second, third], "their own attempts have no part in it any more"


def test_who_is_not_in_the_report_waits_again_in_its_place() -> None:
    world, (first, second, third) = batch()

    tell(world, first, status=LandStatus.ERROR)

    assert world.task(first).landing_only
    assert world.view.landing[KEY] == (second, third)


def test_a_report_about_others_changes_nothing() -> None:
    world, (first, second, third) = batch()
    stranger = world.running()
    old = RiderLanding(task=second, fence=Fence(1, 0), landing=Landing(status=LandStatus.LANDED))
    none = RiderLanding(
        task=TaskId("none"), fence=Fence(1, 1), landing=Landing(status=LandStatus.LANDED)
    )

    tell(
        world,
        first,
        old,
        none,
        rider(world, stranger, LandStatus.LANDED),
        status=LandStatus.LANDED,
    )

    assert world.task(stranger).state is TaskState.RUNNING
    assert world.view.landing[KEY] == (second, third)


def test_a_conflict_goes_back_to_an_agent_that_is_told_of_it_a_bounded_number_of_times() -> None:
    world = Pool()
    world.machine("m1", agent("m1"))
    task = world.running(failures_max=2)
    world.finish(task, queueing())
    report = Landing(status=LandStatus.CONFLICT, message="both changed a.py")
    world.tell(facts.Landed(task, world.task(task).fence, report), machine("m1"))

    row = world.task(task)
    assert (row.wait, row.failure, row.reason) == (
        Wait.RETRY,
        FailureClass.CONFLICT,
        "both changed a.py",
    )
    assert (row.checkpoint, row.landing_only) == ("c" * 40, False)

    world.advance(300_000)
    world.beat("m1", [])
    world.accept(task)
    world.finish(task, queueing())
    world.tell(facts.Landed(task, world.task(task).fence, report), machine("m1"))
    assert world.task(task).state is TaskState.FAILED


def test_a_cancelled_rider_that_landed_all_the_same_is_completed() -> None:
    world, (first, second, third) = batch()
    for task in second, third:
        world.ask(facts.Cancel(task))
        world.tell(facts.Stopped(task, world.task(task).fence), machine("m1"))

    told = [rider(world, second, LandStatus.LANDED), rider(world, third, LandStatus.CONFLICT)]
    tell(world, first, *told, status=LandStatus.LANDED)

    assert world.task(second).state is TaskState.COMPLETED
    assert world.task(third).state is TaskState.CANCELLED
    kinds = [one.record.kind for one in world.feed if one.record.task == third]
    assert kinds[-1] is EventKind.CANCELLED
