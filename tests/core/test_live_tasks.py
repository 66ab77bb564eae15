"""Live tasks by id: whoever reads one gets it whole, however it is kept."""

import pytest
from msgspec.structs import replace

from agentcom.core import live_tasks
from agentcom.core.live_tasks import LiveTasks
from agentcom.model.ids import ProjectId, TaskId, UserId, WallTime
from agentcom.model.task import Task, TaskState


def a_task(number: int, **fields: object) -> Task:
    task = Task(
        TaskId(f"t{number}"),
        ProjectId("default"),
        UserId("ada"),
        f"title {number}",
        TaskState.QUEUED,
        WallTime(1_000 + number),
        needs=("prompt",),
        start_tag=number / 3,
        seq=number,
        cause=f"c{number}",
    )
    return replace(task, **fields)


def filled(*tasks: Task, whole_max: int = 0) -> LiveTasks:
    live = LiveTasks(whole_max)
    for task in tasks:
        live[task.id] = task
    return live


KINDS = [
    {},
    {"title": "title 0"},
    {"priority": 3},
    {"emergency": True},
    {"needs": ("gpu", "prompt")},
    {"submitter": UserId("bob")},
    {"project": ProjectId("other")},
    {"unique_key": "nightly"},
    {"keys": ("repo:api",), "kind": "review"},
    {"state": TaskState.WAITING},
    {"attempt": 2, "version": 7, "reason": "came back"},
]


@pytest.mark.parametrize("fields", KINDS)
def test_a_task_is_read_as_it_was_written(fields: dict[str, object]) -> None:
    tasks = [a_task(0), a_task(1), a_task(2, **fields), a_task(3)]

    live = filled(*tasks)

    assert list(live.values()) == tasks
    assert [live.get(task.id) for task in tasks] == tasks
    assert [live[task.id] for task in tasks] == tasks


def test_what_is_alike_is_cut_above_the_bound_and_only_while_it_waits_for_its_first_attempt() -> (
    None
):
    queued = [a_task(number) for number in range(4)]
    held = a_task(4, state=TaskState.ASSIGNED, attempt=1)

    live = filled(*queued, held, whole_max=1)

    kept = [live[task.id] is task for task in (*queued, held)]
    assert kept == [True, True, False, False, True]


def test_a_task_that_moves_on_is_kept_whole() -> None:
    live = filled(*(a_task(number) for number in range(3)))
    moved = replace(live[TaskId("t2")], state=TaskState.ASSIGNED, attempt=1)

    live[moved.id] = moved

    assert live[moved.id] is moved


def test_too_many_kinds_are_forgotten_and_learned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tasks, "KINDS_OF_TASKS", 2)
    tasks = [a_task(number, priority=number % 5) for number in range(20)]

    live = filled(*tasks)

    assert list(live.values()) == tasks


def test_it_is_a_mapping_in_order_of_arrival() -> None:
    live = filled(a_task(0), a_task(1), a_task(2))
    first = live.pop(TaskId("t0"))
    live[first.id] = first
    del live[TaskId("t1")]

    assert list(live) == ["t2", "t0"]
    assert len(live) == 2
    assert TaskId("t1") not in live
    assert live.get(TaskId("t1")) is None
    assert live.get(TaskId("t1"), 5) == 5
    assert live == {"t0": a_task(0), "t2": a_task(2)}
    with pytest.raises(KeyError):
        live[TaskId("t1")]


def test_a_row_is_put_back_as_it_was_or_was_not() -> None:
    live = filled(a_task(0), a_task(1))
    kept, nothing = live.kept(TaskId("t1")), live.kept(TaskId("t2"))
    live[TaskId("t1")] = replace(live[TaskId("t1")], priority=5)
    live[TaskId("t2")] = a_task(2)

    live.restore(TaskId("t1"), kept)
    live.restore(TaskId("t2"), nothing)
    live.pop(TaskId("t0"))

    assert live == {"t1": a_task(1)}
    assert live.pop(TaskId("t1"), None) == a_task(1)
    assert live.pop(TaskId("t1"), None) is None
