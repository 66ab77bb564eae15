"""What waits for a person's word: a task that no agent runs, or a result that must be looked at.

Both are approved or rejected, and dependants follow.
"""

from agentcom.core import facts, moves
from agentcom.core.controls import adopt, find, newest_result
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.model import policy
from agentcom.model.errors import IllegalTransition, NotAllowed, NotFound
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.identity import Role
from agentcom.model.limits import REASON_CHARS
from agentcom.model.policy import Action, Reach
from agentcom.model.replies import TaskChanged
from agentcom.model.task import Task, Wait


def judged(turn: Turn, fact: Fact, body: facts.Decide) -> TaskChanged:
    """End a task that waits for a person, as that person says; an approved result may land first.

    What a task without an agent reviews is what its dependants get as their input.

    Raises:
        NotFound: there is no such task, or it is another submitter's.
        NotAllowed: a machine asks, or the role is too low for a result.
        IllegalTransition: it waits for something else, or is over.
    """
    if fact.actor.machine is not None or fact.actor.role is Role.AGENT:
        raise NotAllowed("only a person approves")
    task = find(turn, fact, body.task)
    if fact.actor.role is Role.SUBMITTER and task.submitter != fact.actor.user:
        raise NotFound(f"there is no task {task.id}")
    verb = "an approval" if body.approved else "a rejection"
    if task.wait is not Wait.APPROVAL:
        raise IllegalTransition(task.state.value, verb)
    said = f"by {fact.actor.user}" + (f": {body.message}" if body.message else "")
    said = said[:REASON_CHARS]
    if task.approval is None and body.approved:
        return TaskChanged(_taken(turn, fact, task, said))
    if not body.approved:
        rejected = moves.Failed(FailureClass.REJECTED, f"rejected {said}"[:REASON_CHARS],
                                turn.now.wall)  # fmt: skip
        return TaskChanged(turn.move(task, rejected, EventKind.REJECTED, said))
    done = moves.Completed(_reviewed(turn, task), None, verified=False)
    return TaskChanged(turn.move(task, done, EventKind.APPROVED, said))


def _taken(turn: Turn, fact: Fact, task: Task, said: str) -> Task:
    """Take the result of an attempt, which a person has looked at now."""
    taken = newest_result(task)
    if taken is None:
        raise NotAllowed("there is no result to approve: see agentcom task why, retry")
    if policy.reach(fact.actor, Action.TASK_ADOPT) is Reach.NONE:
        raise NotAllowed("a result that changes how work is checked is an operator's to approve")
    turn.record(task, EventKind.APPROVED, said)
    return adopt(turn, fact, taken)


def _reviewed(turn: Turn, task: Task) -> str | None:
    edges = turn.view.edges.get(task.id, {}).values()
    return next((edge.commit for edge in edges if edge.review is not None), None)
