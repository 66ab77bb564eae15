"""What its agents' questions make of one task."""

from agentcom.core import moves, task_asks, tasks
from agentcom.model.ask import AskId
from agentcom.model.ids import WallTime
from agentcom.model.limits import ASKS_TOLD
from agentcom.model.task import TaskState, Wait
from tests.core.test_tasks import a_task

NOW = WallTime(1_000)
FIRST, SECOND = AskId("a"), AskId("b")


def test_a_question_that_ends_while_the_attempt_works_is_to_be_heard() -> None:
    task = a_task(TaskState.RUNNING, asks=(FIRST, SECOND))

    task = tasks.decide(task, moves.AskEnded(FIRST, told=True), NOW)
    assert (task.asks, task.answered, task.unheard) == ((SECOND,), (FIRST,), (FIRST,))
    task = tasks.decide(task, moves.AskEnded(SECOND, told=False), NOW)
    assert (task.asks, task.answered, task.unheard) == ((), (FIRST,), (FIRST,))

    heard = tasks.decide(task, moves.AskHeard(FIRST), NOW)
    assert (heard.answered, heard.unheard) == ((FIRST,), ())


def test_the_last_answer_queues_a_task_that_waits_for_it() -> None:
    task = a_task(TaskState.WAITING, wait=Wait.ANSWER, until=None, asks=(FIRST, SECOND))

    task = tasks.decide(task, moves.AskEnded(FIRST, told=True), NOW)
    assert (task.state, task.unheard) == (TaskState.WAITING, ())
    task = tasks.decide(task, moves.AskEnded(SECOND, told=True), NOW)

    assert (task.state, task.wait, task.answered) == (TaskState.QUEUED, None, (FIRST, SECOND))


def test_an_answer_does_not_cut_another_wait_short() -> None:
    task = a_task(TaskState.WAITING, asks=(FIRST,))

    after = tasks.decide(task, moves.AskEnded(FIRST, told=True), NOW)

    assert (after.state, after.wait, after.until) == (task.state, Wait.RETRY, task.until)
    assert tasks.decide(after, moves.Released(), NOW).state is TaskState.QUEUED
    assert tasks.decide(task, moves.Released(), NOW).wait is Wait.ANSWER


def test_only_the_newest_answers_are_told() -> None:
    told = tuple(AskId(str(number)) for number in range(ASKS_TOLD))
    task = a_task(TaskState.RUNNING, asks=(FIRST,), answered=told)

    after = tasks.decide(task, moves.AskEnded(FIRST, told=True), NOW)

    assert after.answered == (*told[1:], FIRST)


def test_work_that_only_has_to_land_needs_no_answer() -> None:
    task = a_task(TaskState.QUEUED, asks=(FIRST,), landing_only=True)

    assert not task_asks.keeps(task)
    assert task_asks.after(task) == task
    assert tasks.decide(task, moves.AskEnded(FIRST, told=True), NOW).state is TaskState.QUEUED
