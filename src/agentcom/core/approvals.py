"""Tasks that no agent runs: a person approves or rejects them, and dependants follow."""

from agentcom.core import facts, moves
from agentcom.core.controls import find
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.model.errors import IllegalTransition, NotAllowed, NotFound
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.identity import Role
from agentcom.model.limits import REASON_CHARS
from agentcom.model.replies import TaskChanged
from agentcom.model.task import Task, Wait


def judged(turn: Turn, fact: Fact, body: facts.Decide) -> TaskChanged:
    """End a task that waits for a person, as that person says.

    What it reviews is what its dependants get as their input.

    Raises:
        NotFound: there is no such task, or it is another submitter's.
        NotAllowed: a machine asks, or the task is one that an agent runs.
        IllegalTransition: it is over, or what it depends on has not ended.
    """
    if fact.actor.machine is not None or fact.actor.role is Role.AGENT:
        raise NotAllowed("only a person approves")
    task = find(turn, fact, body.task)
    if fact.actor.role is Role.SUBMITTER and task.submitter != fact.actor.user:
        raise NotFound(f"there is no task {task.id}")
    if task.approval is None:
        raise NotAllowed("an agent runs this task: see agentcom task results, adopt, retry")
    verb = "an approval" if body.approved else "a rejection"
    if task.wait is not Wait.APPROVAL:
        raise IllegalTransition(task.state.value, verb)
    said = f"by {fact.actor.user}" + (f": {body.message}" if body.message else "")
    said = said[:REASON_CHARS]
    if not body.approved:
        rejected = moves.Failed(FailureClass.REJECTED, f"rejected {said}"[:REASON_CHARS],
                                turn.now.wall)  # fmt: skip
        return TaskChanged(turn.move(task, rejected, EventKind.REJECTED, said))
    done = moves.Completed(_reviewed(turn, task), None, verified=False)
    return TaskChanged(turn.move(task, done, EventKind.APPROVED, said))


def _reviewed(turn: Turn, task: Task) -> str | None:
    edges = turn.view.edges.get(task.id, {}).values()
    return next((edge.commit for edge in edges if edge.review is not None), None)
