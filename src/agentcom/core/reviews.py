"""Work under review: a task whose pull request is open waits, and holds nothing meanwhile.

The machine that opened the pull request looks at the forge, since the hub has no login there. It is
told what to watch when it connects and whenever that changes, and says what it sees for as long
as it is not told otherwise; so nothing here is acknowledged.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from agentcom.core import facts, loops, moves, watches
from agentcom.core.effects import TellClosed, Watch
from agentcom.core.facts import Fact
from agentcom.core.review_facts import ForgeHinted, Reviewed, ReviewsLeft
from agentcom.core.turn import Turn
from agentcom.model import note, refs
from agentcom.model.errors import InvalidInput, NotAllowed
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import MachineId
from agentcom.model.limits import REASON_CHARS, REVIEW_ROUNDS_MAX
from agentcom.model.replies import Reply
from agentcom.model.result import Landing, ReviewOutcome
from agentcom.model.task import Task, Wait


def opened(turn: Turn, task: Task, landing: Landing) -> None:
    """Let a task wait for what people say of its pull request; raises `InvalidInput`."""
    url = landing.pull_request or ""
    if not 0 < len(url) <= REASON_CHARS or not url.isprintable():
        raise InvalidInput("pull_request", f"an address of at most {REASON_CHARS} characters")
    event = moves.Opened(landing.commit or task.commit, landing.branch or task.branch, url)
    after = turn.move(task, event, EventKind.PARKED, url)
    machine = turn.view.machines.get(after.machine) if after.machine is not None else None
    if machine is not None and machine.removed:
        release(turn, machine.id)


def seen(turn: Turn, fact: Fact, body: Reviewed) -> None:
    """Follow what became of a pull request; what is late changes nothing.

    Raises:
        NotAllowed: who says so is no machine.
        UnsafeRef: the merged commit is none.
    """
    machine = fact.actor.machine
    if machine is None:
        raise NotAllowed("only a machine may report on pull requests")
    task = turn.view.tasks.get(body.task)
    if task is None or not watches.watched_by(task, machine) or task.fence != body.fence:
        turn.effects.append(Watch(machine, body.task, body.fence))
        return
    if body.commit is not None:
        refs.check_commit(body.commit)
    said = note.one_line(body.detail, REASON_CHARS)
    match body.outcome:
        case ReviewOutcome.MERGED:
            done = moves.Completed(body.commit or task.commit, task.branch, task.verified)
            turn.move(task, done, EventKind.COMPLETED, said)
            loops.completed(turn.view, task, done.commit, turn.now.wall)
        case ReviewOutcome.CLOSED:
            reason = said or "its pull request was closed without being merged"
            failed = moves.Failed(FailureClass.REJECTED, reason, turn.now.wall)
            turn.move(task, failed, EventKind.REJECTED, reason)
            turn.effects.append(TellClosed(task, reason))
        case _:
            wait = Wait.APPROVAL if task.rounds >= REVIEW_ROUNDS_MAX else None
            reason = f"{task.rounds} rounds of review: {said}" if wait else said
            wanted = moves.ReviewWanted(wait, reason[:REASON_CHARS])
            turn.move(task, wanted, EventKind.REVIEWED, said)


def hinted(turn: Turn, fact: Fact, body: ForgeHinted) -> None:
    """Have the machine look at once that watches a pull request; others are none of ours."""
    del fact
    for task_id in turn.view.books.pulls.get(body.url, ()):
        task = turn.view.tasks[task_id]
        if task.machine is not None:
            turn.effects.append(watches.watch(task, task.machine, at_once=True))


def left(turn: Turn, fact: Fact, body: ReviewsLeft) -> None:
    """Pass on what a machine watches that has been away for long."""
    del fact
    session = turn.view.sessions.get(body.machine)
    if session is None or session.connection is None:
        release(turn, body.machine)


def release(turn: Turn, machine: MachineId) -> None:
    """Have others take over what a machine watched that is gone."""
    for task_id in list(turn.view.books.under_review.get(machine, ())):
        task = turn.view.tasks[task_id]
        event = moves.Reopened(
            task.commit,
            task.branch,
            task.base_commit,
            task.land_key,
            land=task.land,
            verified=task.verified,
        )
        turn.move(task, event, EventKind.REOPENED, "the machine that looked at it is gone")


HANDLERS: Final[Mapping[type[facts.Body], Callable[[Turn, Fact, Any], Reply | None]]] = {
    Reviewed: seen,
    ForgeHinted: hinted,
    ReviewsLeft: left,
}
"""What each fact about pull requests comes to, for the table of `core/pool.py`."""
