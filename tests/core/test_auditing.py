"""What the audit log says of facts, and that it says so only of what was done."""

from collections.abc import Sequence
from typing import get_args

import pytest

from agentcom.core import auditing, facts, lock_facts, review_facts
from agentcom.core.facts import Fact
from agentcom.model.audit import AuditNote, Door, Origin
from agentcom.model.batch import Batch
from agentcom.model.budget import Budget, Period
from agentcom.model.bulk import BulkAct
from agentcom.model.ids import AccountId, AgentId, Fence, MachineId, TaskId, UserId
from agentcom.model.limit import Limit
from agentcom.model.lock import LockId
from agentcom.model.policy import AUDITED, Action
from agentcom.testing.world import person
from tests.core.acts import Pool

HERE = Origin(Door.HTTP, "10.1.2.3")
TASK, MACHINE = TaskId("t1"), MachineId("m1")
TOLD = [
    (facts.Cancel(TASK, "why"), Action.TASK_CANCEL, "task:t1"),
    (facts.CancelGroup("g", "why"), Action.TASK_CANCEL, "group:g"),
    (facts.ActOnMany(BulkAct.CANCEL, (TASK,)), Action.TASK_CANCEL, "tasks:1"),
    (facts.Adopt(TASK, Fence(1, 2), MACHINE), Action.TASK_ADOPT, "task:t1"),
    (review_facts.LandAsked(TASK), Action.TASK_ADOPT, "task:t1"),
    (facts.Decide(TASK, approved=True), Action.TASK_APPROVE, "task:t1"),
    (facts.Pause("task:t1", paused=True), Action.TASK_PAUSE, "task:t1"),
    (facts.Pause("project:p", paused=True), Action.PROJECT_PAUSE, "project:p"),
    (facts.Pause("user:eve", paused=True), Action.PROJECT_PAUSE, "user:eve"),
    (facts.Pause("agent:a", paused=True), Action.AGENT_PAUSE, "agent:a"),
    (facts.Pause("machine:m1", paused=True), Action.MACHINE_REMOVE, "machine:m1"),
    (facts.Pause("all", paused=False), Action.POOL_PAUSE, "all"),
    (facts.PauseAgent(AgentId("a"), paused=True), Action.AGENT_PAUSE, "agent:a"),
    (facts.ResumeAccount(AccountId("acme")), Action.AGENT_PAUSE, "account:acme"),
    (facts.DrainMachine(MACHINE, draining=True), Action.MACHINE_DRAIN, "machine:m1"),
    (facts.RemoveMachine(MACHINE), Action.MACHINE_REMOVE, "machine:m1"),
    (facts.PassOn(UserId("eve"), UserId("ann")), Action.USER_REMOVE, "user:eve"),
    (facts.GiveMachine(MACHINE, UserId("ann")), Action.USER_REMOVE, "machine:m1"),
    (facts.SetLimit(Limit(scope="key:x", concurrency=2)), Action.LIMIT_SET, "key:x"),
    (facts.DropLimit("key:x"), Action.LIMIT_SET, "key:x"),
    (facts.SetBudget("project:p", Period.DAY, Budget()), Action.BUDGET_SET, "project:p"),
    (lock_facts.ReleaseLock(lock=LockId("l1")), Action.LOCK_BREAK, "lock:l1"),
]


class Kept(Pool):
    """A world that keeps what goes to the audit log."""

    audits: Sequence[AuditNote] = ()

    def apply(self, batch: Batch) -> None:
        self.audits = batch.audits
        super().apply(batch)


def notes(world: Kept, body: facts.Body, *, key: str | None = None) -> Sequence[AuditNote]:
    world.audits = ()
    payload = None if key is None else "p"
    fact = Fact(
        body=body,
        actor=person("ann"),
        cause="c1",
        reply_to=1,
        origin=HERE,
        key=key,
        payload=payload,
    )
    world.decide([fact])
    return world.audits


@pytest.mark.parametrize(("body", "action", "target"), TOLD, ids=lambda one: type(one).__name__)
def test_each_fact_names_its_act_and_what_it_was_done_to(
    body: facts.Body, action: Action, target: str
) -> None:
    found = auditing.DESCRIBED[type(body)](body)

    assert found[:2] == (action, target)
    assert action in AUDITED
    assert "why" not in str(found)


def test_only_what_people_ask_is_recorded() -> None:
    assert auditing.DESCRIBED.keys() <= {*get_args(facts.Asked), *get_args(lock_facts.LockAsked)}
    assert {type(body) for body, *_ in TOLD} == auditing.DESCRIBED.keys()


def test_an_entry_is_written_with_what_it_records() -> None:
    world = Kept()

    (note,) = notes(world, facts.SetLimit(Limit(scope="key:x", concurrency=2)))

    assert (note.who, note.action, note.target) == ("ann", "limit:set", "key:x")
    assert (note.address, note.door, note.cause) == ("10.1.2.3", Door.HTTP, "c1")
    assert note.detail == {"concurrency": "2"}


def test_what_is_refused_is_not_recorded_as_done() -> None:
    assert notes(Kept(), facts.Cancel(TaskId("none"))) == ()


def test_a_repeat_under_the_same_key_is_recorded_once() -> None:
    world = Kept()
    body = facts.SetLimit(Limit(scope="key:x", concurrency=2))

    assert len(notes(world, body, key="k")) == 1
    assert not notes(world, body, key="k")


def test_what_is_not_in_the_table_and_what_the_hub_does_itself_is_not_recorded() -> None:
    world = Kept()
    (task,) = world.submit("t")

    assert notes(world, facts.ActOnMany(BulkAct.RETRY, (task,))) == ()
    assert notes(world, facts.Retry(task)) == ()
    world.ask(facts.Cancel(task))
    assert world.audits == ()
