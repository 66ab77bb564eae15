"""What somebody leaves behind passes on whole, whatever it does, and everything still adds up."""

import pytest

from agentcom.core import facts
from agentcom.core.ask_facts import PutAsk
from agentcom.model import address, limits
from agentcom.model.agent import AgentSpec
from agentcom.model.ask import Ask
from agentcom.model.batch import Table
from agentcom.model.errors import NotFound
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import AgentId, MachineId, TaskId, UserId
from agentcom.model.limit import Limit
from agentcom.model.replies import Done, Submitted
from agentcom.model.task import TaskSpec, TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.testing.world import agent
from tests.core.acts import Pool

EVE, ANN = UserId("eve"), UserId("ann")
HERS = Identity(role=Role.SUBMITTER, user=EVE, credential="e")


def hers(world: Pool, *titles: str, **fields: object) -> list[TaskId]:
    specs = tuple(TaskSpec(title=title, prompt="p", **fields) for title in titles)  # type: ignore[arg-type]  # fields
    reply = world.ask(facts.Submit(specs), HERS)
    assert isinstance(reply, Submitted)
    return list(reply.tasks)


def pass_on(world: Pool) -> None:
    assert world.ask(facts.PassOn(EVE, ANN)) == Done("passed on")


def test_what_waits_runs_and_lands_passes_and_goes_on() -> None:
    world = Pool()
    world.machine("m1", agent("a"))
    running, queued = hers(world, "one", "two")
    (later,) = hers(world, "later", not_before=world.now.wall + 60_000)
    before = {task: world.task(task) for task in (running, queued, later)}

    pass_on(world)

    for task, row in before.items():
        after = world.task(task)
        assert (after.submitter, after.state, after.attempt) == (ANN, row.state, row.attempt)
    world.finish(running)
    assert world.task(queued).agent == "a"


def test_what_others_have_stays_theirs_and_a_second_time_changes_nothing() -> None:
    world = Pool()
    (mine,) = world.submit("mine")
    hers(world, "one")
    pass_on(world)
    rows = dict(world.rows)

    pass_on(world)

    assert world.rows == rows
    assert world.task(mine).submitter == ANN


def test_places_in_limits_pass_with_the_attempt() -> None:
    world = Pool()
    world.machine("m1", agent("a", slots=3))
    for who in EVE, ANN:
        world.ask(facts.SetLimit(Limit(scope=f"submitter:{who}", concurrency=2)))
    running, _ = hers(world, "one", "two")

    pass_on(world)

    taken = world.view.gates.taken
    assert (taken.get("submitter:eve", 0), taken["submitter:ann"]) == (0, 2)
    (more,) = world.submit("more")
    assert world.task(more).state is TaskState.QUEUED
    world.finish(running)
    assert world.task(more).state is TaskState.ASSIGNED


def test_agents_that_choose_by_submitter_see_the_new_one() -> None:
    world = Pool()
    spec = AgentSpec(name=AgentId("picky"), runtime="r", accepts=("submitter=ann",))
    world.machine("m1", spec)
    (task,) = hers(world, "one")
    assert world.task(task).state is TaskState.QUEUED

    pass_on(world)

    assert world.task(task).agent == "picky"


def test_many_tasks_pass_in_steps_that_survive_a_restart() -> None:
    world = Pool()
    tasks = hers(world, *(f"t{n}" for n in range(limits.CASCADE_BATCH + 5)))
    todo = Todo(kind=TodoKind.INHERIT, task=TaskId("pass-on:eve"), submitter=EVE, heir=ANN)
    world.rows[Table.TODO, todo.task] = todo  # as a hub leaves it that dies on the way

    world.restart()

    assert all(world.task(task).submitter == ANN for task in tasks)
    assert not [key for key in world.rows if key[0] is Table.TODO]


def test_many_tasks_pass_however_many_there_are() -> None:
    world = Pool()
    tasks = hers(world, *(f"t{n}" for n in range(limits.CASCADE_BATCH + 5)))

    pass_on(world)

    assert all(world.task(task).submitter == ANN for task in tasks)
    assert not [key for key in world.rows if key[0] is Table.TODO]


def test_questions_pass_to_the_heir_or_to_the_operators() -> None:
    world = Pool()
    eve, bob = address.of_user(EVE), address.of_user(UserId("bob"))
    world.ask(PutAsk(asker=bob, question="?", to=eve), HERS)
    world.ask(PutAsk(asker=eve, question="?", to=address.of_user(ANN)), HERS)

    pass_on(world)

    rows = [row for row in world.rows.values() if isinstance(row, Ask)]
    ann = address.of_user(ANN)
    assert {(row.asker, row.to) for row in rows} == {(bob, ann), (ann, None)}


def test_a_machine_belongs_to_somebody_else_then() -> None:
    world = Pool()
    world.machine("m1", agent("a"))

    for _ in range(2):
        assert world.ask(facts.GiveMachine(MachineId("m1"), EVE)) == Done("given")

    assert world.view.machines[MachineId("m1")].owner == EVE
    with pytest.raises(NotFound):
        world.ask(facts.GiveMachine(MachineId("none"), EVE))
