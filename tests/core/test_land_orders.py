"""A person orders that a branch lands: with the same checks, and what is completed stays so."""

import pytest

from agentcom.core import facts
from agentcom.core.land_orders import LANDS
from agentcom.core.review_facts import LandAsked
from agentcom.model.budget import Budget
from agentcom.model.errors import IllegalTransition, InvalidInput, NotAllowed, NotFound
from agentcom.model.identity import Role
from agentcom.model.ids import TaskId
from agentcom.model.replies import TaskChanged
from agentcom.model.result import LandStatus
from agentcom.model.task import LandPolicy, Task, TaskState, Wait
from agentcom.testing.world import machine, person
from tests.core.acts import KEY, done, report
from tests.core.review_acts import BRANCH, URL, Reviewing, to_review


def completed(world: Reviewing, **fields: object) -> TaskId:
    """Return a task that left a branch."""
    task = world.running(repo="https://git.example/api", unique_key="k", budget=Budget(turns=9))
    result = done(**{"land_key": KEY, "base_commit": "b" * 40, "report": report()} | fields)
    assert world.finish(task, result).state is TaskState.COMPLETED
    return task


def order(world: Reviewing, task: TaskId, land: LandPolicy = LandPolicy.MERGE) -> Task:
    reply = world.ask(LandAsked(task, land))
    assert isinstance(reply, TaskChanged)
    return reply.task


def test_a_branch_is_landed_by_a_task_of_its_own_without_an_agent() -> None:
    world = Reviewing()
    task = completed(world)

    new = world.task(order(world, task).id)

    assert world.task(task).state is TaskState.COMPLETED
    assert new.id != task
    body = world.body(new.id)
    assert body.spec.labels[LANDS] == task
    assert body.spec.title == "Land: t"
    assert (body.spec.unique_key, body.spec.budget) == (None, None)
    assignment = world.pushed(new.id)[-1]
    assert (assignment.landing_only, assignment.land) == (True, LandPolicy.MERGE)
    assert (assignment.commit, assignment.base_commit) == ("c" * 40, "b" * 40)
    world.accept(new.id)
    assert world.view.landing == {KEY: (new.id,)}
    assert world.land(new.id).state is TaskState.COMPLETED


def test_a_branch_goes_to_review_if_that_is_ordered() -> None:
    world = Reviewing()
    new = order(world, completed(world, report=None), LandPolicy.PULL_REQUEST)
    world.accept(new.id)

    after = world.opened(new.id)

    assert (after.wait, after.branch, after.verified) == (Wait.REVIEW, BRANCH, False)


def test_what_is_under_review_lands_itself() -> None:
    world = Reviewing()
    task = world.under_review()

    assert order(world, task).id == task
    assignment = world.pushed(task)[-1]
    assert (assignment.landing_only, assignment.land) == (True, LandPolicy.MERGE)
    assert (assignment.commit, assignment.pull_request) == ("d" * 40, URL)
    world.accept(task)
    assert world.land(task, LandStatus.LANDED).state is TaskState.COMPLETED


@pytest.mark.parametrize("review", [True, False])
def test_nothing_that_nobody_verified_is_merged(review: bool) -> None:
    world = Reviewing()
    if review:
        task = world.under_review(result=to_review(report=None))
    else:
        task = completed(world, report=None)

    with pytest.raises(NotAllowed, match="verified"):
        order(world, task)


def test_there_must_be_a_branch_and_a_task_that_is_done() -> None:
    world = Reviewing()
    bare = world.running()
    with pytest.raises(IllegalTransition):
        order(world, bare)
    world.finish(bare)

    with pytest.raises(NotFound, match="left no branch"):
        order(world, bare)
    with pytest.raises(NotFound):
        order(world, TaskId("nope"))
    with pytest.raises(InvalidInput):
        order(world, bare, LandPolicy.BRANCH)


def test_only_people_order_it_and_submitters_only_of_their_own() -> None:
    world = Reviewing()
    task = completed(world)

    with pytest.raises(NotAllowed):
        world.ask(LandAsked(task), machine("m1"))
    with pytest.raises(NotAllowed):
        world.ask(LandAsked(task), person("bot", Role.AGENT))
    with pytest.raises(NotFound):
        world.ask(LandAsked(task), person("eve", Role.SUBMITTER))
    assert isinstance(world.ask(LandAsked(task), person("ann", Role.SUBMITTER)), TaskChanged)


def test_what_a_person_adopted_can_be_landed_too() -> None:
    world = Reviewing()
    task = world.running(repo="https://git.example/api")
    world.ask(facts.Cancel(task))
    world.finish(task, done(land_key=KEY, report=report()))
    (kept,) = world.results(task)
    world.ask(facts.Adopt(task, kept.fence, kept.machine))
    assert world.task(task).state is TaskState.COMPLETED

    assert world.pushed(order(world, task).id)[-1].commit == "c" * 40
