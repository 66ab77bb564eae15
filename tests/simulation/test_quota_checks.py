"""Checks of accounts: what they blame, and what they must not."""

from types import SimpleNamespace

import pytest

from agentcom.model.agent import Account, Canary
from agentcom.model.batch import Append, Batch
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    AccountId,
    AgentId,
    BatchId,
    Fence,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.task import Phase, Task, TaskState
from agentcom.testing.simulation import quota_checks

FIRST, SECOND, ACCOUNT = TaskId("t1"), TaskId("t2"), AccountId("a")
FENCE = Fence(1, 1)


def canary_passes(*kinds: EventKind) -> list[str]:
    """Let the canary pass from a task that works to another; return what is blamed."""
    works = Task(
        id=FIRST,
        project=DEFAULT_PROJECT,
        submitter=UserId("ann"),
        title="t",
        state=TaskState.RUNNING,
        phase=Phase.WORKING,
        changed_at=WallTime(1),
        agent=AgentId("ada"),
        incarnation=FENCE.incarnation,
        attempt=FENCE.attempt,
    )
    records = [
        TaskEvent(kind=kind, task=FIRST, state=works.state, at=WallTime(1), attempt=1)
        for kind in kinds
    ]
    batch = Batch(
        id=BatchId("b"),
        pool=DEFAULT_POOL,
        appends=tuple(Append("l", record) for record in records),
    )
    before = {ACCOUNT: Account(id=ACCOUNT, canary=Canary(FIRST, FENCE))}
    now = {ACCOUNT: Account(id=ACCOUNT, canary=Canary(SECOND, FENCE), version=2)}
    books = SimpleNamespace(tasks={FIRST: works}, agents={}, accounts=now)
    blamed: list[str] = []

    def check(name: str, holds: object, _detail: object) -> None:
        blamed.extend([] if holds else [name])

    quota_checks.check(batch, books, before, check)
    return blamed


@pytest.mark.parametrize("kinds", [(), (EventKind.PHASE,)])
def test_a_successor_of_a_canary_that_works_is_told(kinds: tuple[EventKind, ...]) -> None:
    assert canary_passes(*kinds) == [quota_checks.ONE]


def test_a_canary_that_was_given_up_and_comes_back_in_one_batch_has_a_successor() -> None:
    assert canary_passes(EventKind.RETURNED, EventKind.RESUMED) == []
