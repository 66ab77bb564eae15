"""What only people can do, so that work ends once the faults have stopped."""

from agentcom.core import facts
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.task import TaskState, Wait
from agentcom.testing.simulation.books import Books
from agentcom.testing.simulation.nemesis import Nemesis


def say(books: Books, nemesis: Nemesis, now: WallTime) -> None:
    """Accept work, end what waits for nothing, and do not wait until a wrong clock's time."""
    far = now + 60_000
    for task in list(books.live.values()):
        if task.paused is not None:
            nemesis.once(facts.Pause(f"task:{task.id}", paused=False))
        if task.state is not TaskState.WAITING:
            continue
        if task.approval is not None and task.wait is Wait.APPROVAL:
            nemesis.insist(facts.Decide(task.id, approved=True))
        elif task.wait is Wait.DEPENDENCIES and _waits_for_a_retry(books, task.id):
            nemesis.insist(facts.Cancel(task.id))
        elif task.wait is Wait.APPROVAL:
            nemesis.approve(task.id)
        elif task.wait is Wait.QUOTA and (task.until or 0) > far:
            nemesis.insist(facts.Retry(task.id))
    for account in list(books.accounts.values()):
        if (account.parked_until or 0) > far:
            nemesis.insist(facts.ResumeAccount(account.id))


def _waits_for_a_retry(books: Books, task: TaskId) -> bool:
    edges = books.edges.get(task, {})
    return any(not e.met and books.tasks[e.on].state.terminal for e in edges.values())
