"""Which pause keeps a task from its next attempt."""

import msgspec

from agentcom.core import pauses
from agentcom.core.view import PoolView
from agentcom.model.ids import DEFAULT_POOL, ProjectId, TaskId, UserId, WallTime
from agentcom.model.pause import Pause
from agentcom.model.task import Task, TaskState

ANN = UserId("ann")


def a_pause(scope: str, reason: str = "") -> Pause:
    return Pause(scope, ANN, WallTime(1), reason)


def a_task(project: str = "api", **fields: object) -> Task:
    base = Task(TaskId("t1"), ProjectId(project), ANN, "t", TaskState.QUEUED, WallTime(1))
    return msgspec.structs.replace(base, **fields)


def a_view(*closed: str) -> PoolView:
    view = PoolView(DEFAULT_POOL, incarnation=1, term=None)
    view.pauses.update({scope: a_pause(scope) for scope in closed})
    return view


def words(view: PoolView, task: Task) -> str:
    """Return what is told of the one gate that a task is behind."""
    (gate,) = view.gates.gates_of(task)
    blocked = view.gates.blocker(gate, task)
    assert blocked is not None
    return blocked[0]


def test_a_task_is_in_three_scopes_that_many_share() -> None:
    assert pauses.scopes(DEFAULT_POOL, ProjectId("api")) == ("all", "pool:default", "project:api")


def test_nothing_is_closed_without_a_pause() -> None:
    assert pauses.find(a_view(), a_task()) is None
    assert pauses.gates_of(a_view(), a_task()) == []


def test_the_pause_of_another_project_closes_nothing() -> None:
    assert pauses.find(a_view("project:web", "pool:other"), a_task()) is None


def test_each_level_closes_a_task_and_says_who_did_it() -> None:
    assert words(a_view("all"), a_task()) == "ann paused everything"
    assert words(a_view("pool:default"), a_task()) == "ann paused the pool default"
    assert words(a_view("project:api"), a_task()) == "ann paused the project api"
    own = a_task(paused=a_pause("task:t1", "wait for the review"))
    assert words(a_view(), own) == "ann paused the task: wait for the review"


def test_the_widest_pause_is_named() -> None:
    found = pauses.find(a_view("project:api", "all"), a_task(paused=a_pause("task:t1")))

    assert found is not None
    assert found.key == "all"
    assert pauses.gates_of(a_view("project:api", "all"), a_task(paused=a_pause("task:t1"))) == [
        ("all",),
        ("project:api",),
        pauses.OWN,
    ]
