"""Which machine looks at which pull request, and who is told when that changes."""

from agentcom.core import facts
from agentcom.core.review_facts import ForgeHinted, ReviewsLeft
from agentcom.model.ids import MachineId
from agentcom.model.limits import REVIEWS_LEFT_MS, REVIEWS_TOLD_MS
from agentcom.model.result import ReviewOutcome
from agentcom.model.task import Wait
from tests.core.acts import KEY
from tests.core.review_acts import BRANCH, URL, Reviewing


def test_the_machine_that_opened_it_is_told_to_watch_it() -> None:
    world = Reviewing()
    task = world.under_review()

    (watch,) = world.watched()
    assert (watch.task, watch.fence) == (task, world.task(task).fence)
    assert (watch.pull_request, watch.repo, watch.branch) == (URL, KEY.split("#")[0], BRANCH)


def test_it_is_told_again_when_it_connects_and_after_a_restart_of_the_hub() -> None:
    world = Reviewing()
    world.under_review()
    world.machine("m1")
    world.restart()
    world.machine("m1")

    assert [watch.pull_request for watch in world.watched()] == [URL] * 3


def test_nobody_watches_what_is_not_under_review_any_more() -> None:
    world = Reviewing()
    first, second = world.under_review(), world.under_review()
    world.see(first, ReviewOutcome.MERGED)
    seen = len(world.watched())

    world.machine("m1")

    assert [watch.task for watch in world.watched()[seen:]] == [second]
    assert list(world.view.books.under_review.values()) == [{second: None}]
    world.see(second, ReviewOutcome.CLOSED)
    assert (world.view.books.under_review, world.view.books.pulls) == ({}, {})


def test_a_forge_that_says_so_makes_its_machine_look_at_once() -> None:
    world = Reviewing()
    task = world.under_review()
    seen = len(world.watched())

    world.tell(ForgeHinted(URL))
    world.tell(ForgeHinted("https://forge.example/other/pull/1"))

    (watch,) = world.watched()[seen:]
    assert (watch.task, watch.pull_request, watch.at_once) == (task, URL, True)


def test_why_says_where_it_is_reviewed_and_what_can_happen() -> None:
    world = Reviewing()
    task = world.under_review()

    found = world.ask(facts.Explain(task))
    assert URL in found.summary  # type: ignore[union-attr] # an `Explanation`
    assert f"agentcom task land {task}" in found.next_action  # type: ignore[union-attr] # as above
    world.vanish("m1")
    found = world.ask(facts.Explain(task))

    assert "not connected" in found.summary  # type: ignore[union-attr] # as above
    assert "another machine" in found.next_action  # type: ignore[union-attr] # as above


def test_what_it_watches_is_said_again_once_in_a_while() -> None:
    world = Reviewing()
    task = world.under_review()
    seen = len(world.watched())

    for _ in range(2 * REVIEWS_TOLD_MS // 5_000):
        world.now_ms += 5_000
        world.beat("m1")

    again = world.watched()[seen:]
    assert [watch.task for watch in again] == [task, task]
    assert not any(watch.at_once for watch in again)


def test_a_machine_that_stays_away_passes_on_what_it_watches() -> None:
    world = Reviewing()
    task = world.under_review()
    world.vanish("m1")
    world.advance(REVIEWS_LEFT_MS - 1)
    assert world.task(task).wait is Wait.REVIEW

    world.advance(1)
    world.machine("m2")

    assert world.pushed(task)[-1].agent == "m2"
    assert world.pushed(task)[-1].landing_only


def test_a_machine_that_comes_back_in_time_keeps_it_also_over_a_restart() -> None:
    world = Reviewing()
    task = world.under_review()
    world.restart()
    world.machine("m1")
    world.tell(ReviewsLeft(MachineId("m1")))
    assert world.task(task).wait is Wait.REVIEW

    world.restart()
    world.advance(REVIEWS_LEFT_MS + 1)
    world.machine("m2")

    assert world.pushed(task)[-1].agent == "m2"
