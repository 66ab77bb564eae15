"""What people order: that a branch which an agent left, or a pull request, lands now.

A completed task stays so: its landing is a task of its own, which lands without an agent. One
under review lands itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from agentcom.core import facts, intake, moves, reviews
from agentcom.core.controls import find, kept, own
from agentcom.core.facts import Fact
from agentcom.core.review_facts import LandAsked
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.batch import Table, result_key
from agentcom.model.errors import IllegalTransition, InvalidInput, NotAllowed, NotFound
from agentcom.model.event import EventKind
from agentcom.model.identity import Role
from agentcom.model.ids import TaskId
from agentcom.model.limits import TITLE_CHARS
from agentcom.model.replies import Reply, TaskChanged
from agentcom.model.task import LandPolicy, Task, TaskBody, TaskState, Wait

Keys = Sequence[tuple[Table, str]]
LANDS: Final = "lands"
"""The label of a task that lands another's branch: that one's id."""

replace: Final = msgspec.structs.replace


def wanted(view: PoolView, fact: Fact, body: LandAsked) -> Keys:
    """Return the rows of a completed task, and of the result that it kept."""
    if body.task in view.tasks:
        return ()
    keys = [(Table.TASK, body.task), (Table.BODY, body.task)]
    task = fact.found.get((Table.TASK, body.task))
    return [*keys, (Table.RESULT, _result_of(task))] if isinstance(task, Task) else keys


def land(turn: Turn, fact: Fact, body: LandAsked) -> TaskChanged:
    """Send a branch to its base; return the task that lands it.

    Raises:
        NotFound: there is no such task, or it left no branch.
        NotAllowed: a machine asks, or nobody has verified the work.
        IllegalTransition: it is neither completed nor under review.
    """
    if fact.actor.machine is not None or fact.actor.role is Role.AGENT:
        raise NotAllowed("only a person orders a landing")
    if body.land is LandPolicy.BRANCH:
        raise InvalidInput("land", "merge or pull-request: the branch is there already")
    task = find(turn, fact, body.task)
    own(fact, task)
    if task.wait is Wait.REVIEW:
        return TaskChanged(_reviewed(turn, task, body.land))
    if task.state is not TaskState.COMPLETED:
        raise IllegalTransition(task.state.value, "a landing")
    return TaskChanged(_completed(turn, fact, task, body.land))


def _reviewed(turn: Turn, task: Task, land_by: LandPolicy) -> Task:
    _check(verified=task.verified, land_by=land_by)
    order = moves.Reopened(
        task.commit,
        task.branch,
        task.base_commit,
        task.land_key,
        land=land_by,
        verified=task.verified,
    )
    return turn.move(task, order, EventKind.REOPENED, f"to land: {land_by.value}")


def _completed(turn: Turn, fact: Fact, task: Task, land_by: LandPolicy) -> Task:
    known = fact.found.get((Table.BODY, task.id))
    found = kept(fact.found, _result_of(task))
    result = found.result if found is not None else None
    if not isinstance(known, TaskBody) or result is None or not (result.commit and result.land_key):
        raise NotFound(f"task {task.id} left no branch that could land")
    _check(verified=result.verified, land_by=land_by)
    spec = replace(
        known.spec,
        title=f"Land: {known.spec.title}"[:TITLE_CHARS],
        land=land_by,
        labels={**known.spec.labels, LANDS: task.id},
        repeats=True,
        **dict.fromkeys(("ref", "group", "parent", "reviews", "unique_key", "budget"), None),
        **dict.fromkeys(("not_before", "start_by", "approval"), None),
        **dict.fromkeys(("depends_on", "prefers"), ()),
    )
    intake.check_spec(spec)
    new = intake.create(turn, fact, TaskId(turn.ids.new()), spec)
    order = moves.Reopened(
        result.commit,
        result.branch,
        result.base_commit,
        result.land_key,
        land=land_by,
        verified=result.verified,
    )
    return turn.move(new, order, EventKind.REOPENED, f"lands the branch of {task.id}")


def _check(*, verified: bool, land_by: LandPolicy) -> None:
    if land_by is LandPolicy.MERGE and not verified:
        raise NotAllowed(
            "nobody has verified this work: land it with --pull-request, or merge it by hand"
        )


def _result_of(task: Task) -> str:
    machine = task.author_machine or task.machine
    return result_key(task.id, task.fence, machine) if machine is not None else ""


HANDLERS: Final[Mapping[type[facts.Body], Callable[[Turn, Fact, Any], Reply | None]]] = {
    LandAsked: land,
    **reviews.HANDLERS,
}
"""What orders and news of reviews come to, for the table of `core/pool.py`."""
WANTED: Final[Mapping[type[facts.Body], Callable[[PoolView, Fact, Any], Keys]]] = {
    LandAsked: wanted,
}
