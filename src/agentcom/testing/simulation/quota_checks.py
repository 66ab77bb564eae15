"""Checks of accounts: one without quota gets no attempt, on no machine, but the one that tries it.

They read rows and records only, one durable batch after the other, and know nothing of the core.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from agentcom.model.agent import Account, Agent, Canary
from agentcom.model.batch import Batch, Delete, Table
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.ids import AccountId, AgentId, TaskId
from agentcom.model.task import Phase, Task, TaskState, Wait

ALONE: Final = "an account without quota gets no attempt but its canary"
NOT_EARLY: Final = "no attempt tries an account before its reset"
ONE: Final = "a canary that works has no successor"

Check = Callable[[str, object, object], None]


class Books(Protocol):
    """The rows after a batch, as the auditor has them."""

    tasks: dict[TaskId, Task]
    agents: dict[AgentId, Agent]
    accounts: dict[AccountId, Account]


def take(batch: Batch, accounts: dict[AccountId, Account]) -> None:
    """Take down what a batch says of accounts."""
    for change in batch.changes:
        if isinstance(change, Delete) and change.table is Table.ACCOUNT:
            del accounts[AccountId(change.key)]
        elif not isinstance(change, Delete) and isinstance(change.row, Account):
            accounts[change.row.id] = change.row


def check(batch: Batch, books: Books, before: Mapping[AccountId, Account], check: Check) -> None:
    """Check what a batch issued; `before` are the accounts as they were."""
    if not before and not books.accounts:
        return
    records = [append.record for append in batch.appends]
    last_parked = _last_parked(records, books)
    for at, record in enumerate(records):
        account = _account_of(books, record)
        row = books.accounts.get(account) if account is not None else None
        if record.kind is not EventKind.ASSIGNED or account is None or row is None:
            continue
        task = books.tasks[record.task]
        if not _works(task) or task.attempt != record.attempt:
            continue
        was = before.get(account)
        if _is_closed(row, was, at, last_parked.get(account)):
            check(ALONE, row.canary == Canary(task.id, task.fence), (row, was, task))
            until = was.parked_until if was is not None else None
            check(NOT_EARLY, until is None or record.at >= until, (row, was, record))
    came_back = {record.task for record in records if record.kind is EventKind.RESUMED}
    for account, was in before.items():
        row = books.accounts.get(account)
        if row is None or row.parked_until or was.canary in (None, row.canary):
            continue
        assert was.canary is not None
        tried = books.tasks.get(was.canary.task)
        works = tried is not None and _works(tried) and tried.fence == was.canary.fence
        works = works and was.canary.task not in came_back  # returned, succeeded, and heard again
        check(ONE, not works, (row, was, tried))


def _is_closed(row: Account, was: Account | None, at: int, parked: int | None) -> bool:
    """Return whether the account was certainly closed when record number `at` was written."""
    if parked is not None:
        return at > parked
    if was is None:
        return False  # it was parked in this batch, by an attempt that was asked to stop
    return row.parked_until in (None, was.parked_until)


def _last_parked(records: list[TaskEvent], books: Books) -> dict[AccountId, int]:
    """Return the number of the last record that parked each account."""
    parked: dict[AccountId, int] = {}
    for at, record in enumerate(records):
        account = _account_of(books, record)
        left = record.wait is Wait.QUOTA or record.state is TaskState.QUEUED
        if record.kind is EventKind.PARKED and left and account is not None:
            parked[account] = at
    return parked


def _account_of(books: Books, record: TaskEvent) -> AccountId | None:
    agent = books.agents.get(record.agent) if record.agent is not None else None
    return None if agent is None else agent.account


def _works(task: Task) -> bool:
    return task.state.held and task.phase is not Phase.LANDING
