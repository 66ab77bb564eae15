"""Which tasks an act on many is about."""

import pytest

from agentcom.hub import choosing
from agentcom.hub.choosing import Chooser
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.bulk import BulkAct
from agentcom.model.errors import InvalidInput, NotAllowed
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import DEFAULT_POOL, BatchId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.task import Task, TaskBody, TaskSpec, TaskState
from agentcom.protocol.asked import TaskChoice
from agentcom.store.base import Committed
from agentcom.store.memory import MemoryStore

ANN = Identity(role=Role.OPERATOR, user=UserId("ann"), credential="c")
BEN = Identity(role=Role.SUBMITTER, user=UserId("ben"), credential="c")
FAILED, QUEUED = TaskState.FAILED, TaskState.QUEUED


def rows(
    name: str, state: TaskState, *, by: str = "ann", at: int = 1, project: str = "", **labels: str
) -> tuple[Insert, Insert]:
    project = project or "default"
    task = Task(TaskId(name), ProjectId(project), UserId(by), "t", state, WallTime(at))
    spec = TaskSpec(title="t", labels=labels)
    body = TaskBody(task.id, task.submitter, WallTime(1), "", spec)
    return Insert(Table.TASK, name, task), Insert(Table.BODY, name, body)


async def chooser(*each: tuple[Insert, Insert]) -> Chooser:
    store = MemoryStore()
    await store.open()
    changes = tuple(change for pair in each for change in pair)
    batch = Batch(id=BatchId("b"), pool=DEFAULT_POOL, changes=changes)
    assert isinstance(await store.commit(batch), Committed)
    return Chooser(store)


@pytest.fixture
async def some() -> Chooser:
    return await chooser(
        rows("a", FAILED, at=10, team="red"),
        rows("b", QUEUED, at=20, team="red"),
        rows("c", FAILED, at=30, by="ben", team="blue"),
        rows("d", TaskState.CANCELLED, at=40),
        rows("e", FAILED, at=50, project="other"),
        rows("f", TaskState.COMPLETED, at=60),
    )


@pytest.mark.parametrize(
    ("act", "asked", "found"),
    [
        (BulkAct.RETRY, TaskChoice(since=0), ["a", "c", "d"]),
        (BulkAct.CANCEL, TaskChoice(since=0), ["b"]),
        (BulkAct.RETRY, TaskChoice(state=(FAILED,)), ["a", "c"]),
        (BulkAct.RETRY, TaskChoice(since=30), ["c", "d"]),
        (BulkAct.RETRY, TaskChoice(labels={"team": "red"}), ["a"]),
        (BulkAct.RETRY, TaskChoice(labels={"team": "red", "more": "x"}), []),
        (BulkAct.RETRY, TaskChoice(submitter="ben"), ["c"]),
        (BulkAct.RETRY, TaskChoice(submitter="@me"), ["a", "d"]),
        (BulkAct.RETRY, TaskChoice(project="default"), ["a", "c", "d"]),
    ],
)
async def test_what_fits_all_that_is_said_is_found_oldest_first(
    some: Chooser, act: BulkAct, asked: TaskChoice, found: list[str]
) -> None:
    tasks, states = await some.choose(ANN, act, asked)

    assert tasks == found
    assert states


async def test_a_submitter_finds_only_their_own(some: Chooser) -> None:
    assert (await some.choose(BEN, BulkAct.RETRY, TaskChoice(since=0)))[0] == ["c"]
    with pytest.raises(NotAllowed):
        await some.choose(BEN, BulkAct.RETRY, TaskChoice(submitter="ann"))


async def test_everything_and_another_project_are_no_choice(some: Chooser) -> None:
    with pytest.raises(InvalidInput, match="say which tasks"):
        await some.choose(ANN, BulkAct.CANCEL, TaskChoice())
    with pytest.raises(NotAllowed):
        await some.choose(ANN, BulkAct.CANCEL, TaskChoice(project="other"))


async def test_a_choice_that_is_too_wide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = await chooser(*(rows(f"t{n}", FAILED, at=n) for n in range(5)))
    every = TaskChoice(state=(FAILED,))
    monkeypatch.setattr(choosing, "_STEP", 2)
    monkeypatch.setattr(choosing, "BULK_TASKS_MAX", 5)
    assert len((await wide.choose(ANN, BulkAct.RETRY, every))[0]) == 5

    for name in ("BULK_TASKS_MAX", "BULK_LOOK_MAX"):
        monkeypatch.setattr(choosing, name, 4)
        with pytest.raises(InvalidInput, match="narrow the choice"):
            await wide.choose(ANN, BulkAct.RETRY, every)
        monkeypatch.setattr(choosing, name, 100)
