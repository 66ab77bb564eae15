"""What a landing comes to: its own file for what `test_reports.py` sees from outside."""

import pytest

from agentcom.core import facts
from agentcom.model.failure import FailureClass
from agentcom.model.result import LandStatus
from agentcom.model.task import LandPolicy, Phase, TaskState
from tests.core.acts import KEY, Pool, done, merging, report
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
