"""Success is judged by the hub: from status and verification, never by a frame's name."""

import pytest

from agentcom.core import facts
from agentcom.core.effects import GrantLanding
from agentcom.model.failure import FailureClass
from agentcom.model.ids import MachineId, WallTime
from agentcom.model.limits import QUOTA_RETRY_MS, REASON_CHARS
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import LandPolicy, TaskState, Wait
from tests.core.acts import KEY, Pool, done, failed, merging, report


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
