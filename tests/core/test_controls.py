"""What people ask of tasks, agents and machines."""

import pytest

from agentcom.core import controls, facts
from agentcom.core.controls import CLOSE_REVOKED
from agentcom.core.effects import ClearTimer, CloseConnection, Stop
from agentcom.model.batch import Table, result_key
from agentcom.model.errors import IllegalTransition, NameTaken, NotAllowed, NotFound
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass, OnQuota
from agentcom.model.graph import Dependency
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import (
    AccountId,
    AgentId,
    Fence,
    MachineId,
    ProjectId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.replies import Done, TaskChanged
from agentcom.model.result import KeptResult, ResultStatus
from agentcom.model.task import StopReason, TaskSpec, TaskState, Wait
from agentcom.testing.world import machine, person
from tests.core.acts import Pool, done, failed, merging
from tests.core.quota_acts import ANN, account, fleet, quota, working

M1 = MachineId("m1")
KEY = result_key("t", Fence(7, 1), "m1")
KEPT = KeptResult(
    task=TaskId("t"),
    fence=Fence(7, 1),
    agent=None,
    machine=M1,
    at=WallTime(1),
    result=done(),
    applied=False,
)
EVE = Identity(role=Role.SUBMITTER, user=UserId("eve"), credential="e")
STRANGER = Identity(role=Role.ADMIN, user=UserId("x"), credential="x", project=ProjectId("other"))


def test_a_waiting_or_queued_task_is_cancelled_at_once() -> None:
    world = Pool()
    (task,) = world.submit("t")

    reply = world.ask(facts.Cancel(task, "not needed"))

    assert isinstance(reply, TaskChanged)
    assert world.task(task) == reply.task
    assert reply.task.state is TaskState.CANCELLED
    assert world.feed[-1].record.detail == "not needed"


def test_a_held_task_is_cancelled_when_its_machine_confirms() -> None:
    world = Pool()
    task = world.running()

    world.ask(facts.Cancel(task))
    row = world.task(task)
    assert (row.state, row.stop_reason) == (TaskState.RUNNING, StopReason.CANCELLED)
    assert world.effects[-1] != Stop(M1, task, row.fence)
    assert Stop(M1, task, row.fence, StopReason.CANCELLED) in world.effects
    world.tell(facts.Stopped(task, row.fence), machine("m1"))

    assert world.task(task).state is TaskState.CANCELLED
    assert world.feed[-1].record.kind is EventKind.CANCELLED


def test_cancelling_again_changes_nothing() -> None:
    world = Pool()
    (task,) = world.submit("t")
    world.ask(facts.Cancel(task))
    before = world.task(task)

    assert world.ask(facts.Cancel(task)) == TaskChanged(before)


@pytest.mark.parametrize("who", [EVE, STRANGER])
@pytest.mark.parametrize("act", [facts.Cancel, facts.Retry])
def test_what_belongs_to_others_does_not_exist(who: Identity, act: type) -> None:
    world = Pool()
    (task,) = world.submit("t")

    with pytest.raises(NotFound):
        world.ask(act(task), who)


def test_what_has_ended_cannot_be_cancelled() -> None:
    world = Pool()
    task = world.running()
    world.finish(task)

    with pytest.raises(IllegalTransition):
        world.ask(facts.Cancel(task))


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_retry_reopens_with_the_next_attempt(end: str) -> None:
    world = Pool()
    task = world.running(failures_max=1)
    if end == "failed":
        world.finish(task, failed())
    else:
        world.ask(facts.Cancel(task))
        world.tell(facts.Stopped(task, world.task(task).fence), machine("m1"))
    assert world.task(task).state.terminal
    world.restart()
    world.machine("m1")

    world.ask(facts.Retry(task))

    row = world.task(task)
    assert (row.state, row.attempt, row.failures) == (TaskState.ASSIGNED, 2, 0)


def test_what_is_reopened_queues_behind_what_waits_already() -> None:
    world = Pool()
    (old,) = world.submit("old")
    world.ask(facts.Cancel(old))
    world.restart()  # it forgets that the number was given away
    others = [world.submit(f"other {n}")[0] for n in range(3)]

    world.ask(facts.Retry(old))

    rows = [world.task(task) for task in (*others, old)]
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert [row.start_tag for row in rows] == sorted(row.start_tag for row in rows)


@pytest.mark.parametrize("wait", [Wait.RETRY, Wait.QUOTA, Wait.APPROVAL])
def test_retry_ends_a_pause(wait: Wait) -> None:
    world = Pool()
    results = {
        Wait.RETRY: failed(),
        Wait.QUOTA: failed(failure=FailureClass.QUOTA),
        Wait.APPROVAL: done(needs_person=("look",)),
    }
    task = world.running()
    assert world.finish(task, results[wait]).wait is wait

    world.ask(facts.Retry(task))

    assert world.task(task).state is TaskState.ASSIGNED


def test_there_is_nothing_to_retry_in_a_task_that_runs_or_is_completed() -> None:
    world = Pool()
    task = world.running()
    with pytest.raises(IllegalTransition):
        world.ask(facts.Retry(task))
    world.finish(task)

    with pytest.raises(IllegalTransition):
        world.ask(facts.Retry(task))


def test_retry_takes_up_the_unique_key_again_unless_another_has_it() -> None:
    world = Pool()
    spec = TaskSpec(title="t", prompt="p", unique_key="nightly")
    (old,) = world.submit(spec)
    world.ask(facts.Cancel(old))
    (new,) = world.submit(spec)

    with pytest.raises(NotAllowed, match=new):
        world.ask(facts.Retry(old))
    world.ask(facts.Cancel(new))
    world.ask(facts.Retry(old))

    assert world.view.unique == {"nightly": old}


def test_retry_of_a_task_without_a_specification_just_queues_it() -> None:
    world = Pool()
    (task,) = world.submit("t")
    world.ask(facts.Cancel(task))
    del world.rows["body", task]  # type: ignore[arg-type]  # a table's name is its text

    world.ask(facts.Retry(task))

    assert world.task(task).state is TaskState.QUEUED


def test_only_a_kept_result_with_something_in_it_can_be_adopted() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    with pytest.raises(IllegalTransition):
        world.ask(facts.Adopt(task, fence, M1))
    world.finish(task, failed())

    with pytest.raises(NotFound, match="no kept result of attempt 9"):
        world.ask(facts.Adopt(task, Fence(7, 9), M1))
    with pytest.raises(NotFound, match="no commit"):
        world.ask(facts.Adopt(task, fence, M1))


def test_a_failed_attempts_commit_can_be_adopted_as_unverified() -> None:
    world = Pool()
    task = world.running(failures_max=1)
    result = failed(commit="c" * 40)
    world.finish(task, result)
    assert result.status is ResultStatus.FAILED

    world.ask(facts.Adopt(task, world.task(task).fence, M1))

    row = world.task(task)
    assert (row.state, row.commit, row.verified) == (TaskState.COMPLETED, "c" * 40, False)


def test_adopting_verified_work_that_shall_merge_sends_it_to_land() -> None:
    world = Pool()
    task = world.running()
    world.finish(task, merging(needs_person=("look",)))

    world.ask(facts.Adopt(task, world.task(task).fence, M1))

    assert world.pushed(task)[-1].landing_only
    assert world.pushed(task)[-1].fence == Fence(7, 2)


def test_what_is_completed_stays_so() -> None:
    world = Pool()
    task = world.running()
    world.finish(task)

    with pytest.raises(IllegalTransition):
        world.ask(facts.Adopt(task, world.task(task).fence, M1))


def test_a_paused_agent_gets_nothing_until_it_is_resumed() -> None:
    world = Pool()
    world.machine("m1")
    assert world.ask(facts.PauseAgent(AgentId("m1"), paused=True)) == Done("paused")
    (task,) = world.submit("t")
    assert world.task(task).state is TaskState.QUEUED

    assert world.ask(facts.PauseAgent(AgentId("m1"), paused=False)) == Done("resumed")

    assert world.task(task).state is TaskState.ASSIGNED


def test_a_draining_machine_finishes_what_it_has_and_gets_nothing_new() -> None:
    world = Pool()
    first = world.running()
    assert world.ask(facts.DrainMachine(M1, draining=True)) == Done("draining")
    (second,) = world.submit("t")
    world.finish(first)
    assert world.task(first).state is TaskState.COMPLETED
    assert world.task(second).state is TaskState.QUEUED

    assert world.ask(facts.DrainMachine(M1, draining=False)) == Done("resumed")

    assert world.task(second).state is TaskState.ASSIGNED


def test_removing_a_machine_revokes_what_it_holds() -> None:
    world = Pool()
    task = world.running()

    assert world.ask(facts.RemoveMachine(M1)) == Done("removed")

    assert world.task(task).stop_reason is StopReason.REVOKED
    closed = [(e.connection, e.code) for e in world.effects if isinstance(e, CloseConnection)]
    assert closed == [(1, CLOSE_REVOKED)]
    world.vanish("m1")
    world.machine("m2")
    assert world.task(task).machine == "m2"


def test_a_removed_machine_that_is_not_connected_has_nothing_to_close() -> None:
    world = Pool()
    world.machine("m1")
    world.tell(facts.MachineDisconnected(M1, 1))

    world.ask(facts.RemoveMachine(M1))

    assert not any(isinstance(effect, CloseConnection) for effect in world.effects)
    with pytest.raises(NotFound):
        world.ask(facts.RemoveMachine(M1))


@pytest.mark.parametrize(
    "body",
    [
        facts.PauseAgent(AgentId("none"), paused=True),
        facts.DrainMachine(MachineId("none"), draining=True),
        facts.RemoveMachine(MachineId("none")),
        facts.Cancel(TaskId("none")),
        facts.Adopt(TaskId("none"), Fence(7, 1), M1),
    ],
)
def test_what_does_not_exist_is_not_found(body: facts.Body) -> None:
    with pytest.raises(NotFound):
        Pool().ask(body)


def test_a_machines_name_is_its_own_until_it_is_removed() -> None:
    world = Pool()
    world.machine("m1")
    again = facts.Enrol(MachineId("m9"), "m1", UserId("ann"))
    with pytest.raises(NameTaken):
        world.ask(again, person("ann"))
    world.ask(facts.RemoveMachine(M1))

    assert world.ask(again, person("ann")) == Done("m1")


def test_a_retried_task_waits_for_its_dependencies_again() -> None:
    world = Pool()
    (first,) = world.submit("a")
    (second,) = world.submit(TaskSpec(title="b", prompt="p", depends_on=(Dependency(first),)))
    world.ask(facts.Cancel(second))

    world.ask(facts.Retry(second))

    assert world.task(second).wait is Wait.DEPENDENCIES


def test_a_person_opens_an_account() -> None:
    world = fleet("m1", "m2")
    tasks = [working(world, f"t{n}", on_quota=OnQuota.WAIT) for n in range(2)]
    for task in tasks:
        world.finish(task, quota(world))

    reply = world.ask(facts.ResumeAccount(ANN))

    assert reply == Done("resumed")
    assert account(world) is None
    assert [world.task(task).state for task in tasks] == [TaskState.ASSIGNED] * 2
    assert any(isinstance(e, ClearTimer) and e.key == f"account/{ANN}" for e in world.effects)
    assert world.ask(facts.ResumeAccount(ANN)) == Done("resumed")
    with pytest.raises(NotFound):
        world.ask(facts.ResumeAccount(AccountId("nobody")))


def test_a_result_that_was_fetched_is_at_hand() -> None:
    assert controls.kept({(Table.RESULT, KEY): KEPT}, KEY) == KEPT


def test_a_result_that_is_not_stored_or_was_not_asked_for_is_not() -> None:
    assert controls.kept({(Table.RESULT, KEY): None}, KEY) is None
    assert controls.kept(facts.NOTHING_FOUND, KEY) is None
