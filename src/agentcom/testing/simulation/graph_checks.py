"""What is true of graphs in every durable batch: reviews, families, and the cancel of a parent.

Like the auditor, whose books it reads, it knows nothing of the core but its rows and its bounds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from agentcom.model.batch import Batch, Delete, Insert, Table, Update
from agentcom.model.event import EventKind
from agentcom.model.graph import Edge, Tally
from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.model.limits import SUBTASK_DEPTH, SUBTASKS_PER_ROOT, SUBTASKS_PER_TASK
from agentcom.model.result import KeptResult, ResultStatus
from agentcom.model.task import StopReason, Task
from agentcom.model.todo import Todo
from agentcom.testing.simulation.trace import Trace

CASCADE: Final = "children/"
_SKIPPED: Final = "skipped"


class Books(Protocol):
    """The auditor's books, as far as they are read here."""

    @property
    def tasks(self) -> Mapping[TaskId, Task]:
        """Every row of a task."""
        ...

    @property
    def live(self) -> Mapping[TaskId, Task]:
        """The rows of tasks that are not over."""
        ...

    @property
    def edges(self) -> Mapping[TaskId, Mapping[TaskId, Edge]]:
        """Every edge there ever was."""
        ...


class GraphChecks:
    """Looks at each batch after the auditor has taken it down."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._authors: dict[TaskId, AgentId] = {}
        """Who made the result that counts."""
        self._reopened: dict[TaskId, None] = {}
        """Tasks that somebody wanted again: they may outlive their parent's cancel."""
        self._todos: dict[str, None] = {}
        self._children: Counter[TaskId] = Counter()
        self._families: Counter[TaskId] = Counter()

    def restored(self) -> None:
        """Begin anew: what follows are the batches of the restored store, from its first one."""
        self._authors.clear()
        self._reopened.clear()
        self._todos.clear()
        self._children.clear()
        self._families.clear()

    def take(self, batch: Batch, holders: Mapping[tuple[TaskId, Fence], AgentId]) -> None:
        """Take a batch down."""
        for change in batch.changes:
            match change:
                case Insert(row=Task(parents=(*_, parent) as parents)):
                    self._children[parent] += 1
                    self._families[parents[0]] += 1
                case Insert(row=KeptResult() as row) | Update(row=KeptResult() as row):
                    holder = holders.get((row.task, row.fence))
                    if row.applied and row.result.status is ResultStatus.DONE and holder:
                        self._authors[row.task] = holder
                case Insert(row=Todo() as todo):
                    self._todos[todo.task] = None
                case Delete(table=Table.TODO, key=key):
                    self._todos.pop(key, None)
                case _:
                    pass
        for append in batch.appends:
            if append.record.kind is EventKind.REOPENED:
                self._reopened[append.record.task] = None

    def check(self, batch: Batch, books: Books) -> None:
        """Check what a batch means, which was taken down."""
        for change in batch.changes:
            match change:
                case Insert(row=Task(parents=(*_, _) as parents)):
                    self._check_family(parents)
                case Insert(row=Tally() as tally) | Update(row=Tally() as tally):
                    self._check_tally(tally)
                case Delete(table=Table.TODO, key=key) if key.startswith(CASCADE):
                    self._check_below(TaskId(key.removeprefix(CASCADE)), books)
                case _:
                    pass
        for append in batch.appends:
            record = append.record
            if record.kind is EventKind.ASSIGNED:
                task = books.tasks[record.task]
                self._check_review(task, books.edges.get(task.id, {}))
                if not task.landing_only:  # what an earlier attempt made did not end the task
                    self._authors.pop(task.id, None)
            asked = record.kind is EventKind.STOP_ASKED
            asked = asked and record.stop_reason is StopReason.CANCELLED
            skipped = (record.detail or "").startswith(_SKIPPED)
            if asked or (record.kind is EventKind.CANCELLED and not skipped):
                self._check_below(record.task, books)

    def _check_review(self, task: Task, edges: Mapping[TaskId, Edge]) -> None:
        if task.landing_only:
            return  # a person adopted it: a machine lands it, and no agent looks at it
        for edge in edges.values():
            if edge.review is not None:
                author = self._authors.get(edge.on)
                good = author is None or task.agent != author
                self._trace.check("a review is never given to its author", good, (task, edge))

    def _check_family(self, parents: tuple[TaskId, ...]) -> None:
        few = self._children[parents[-1]] <= SUBTASKS_PER_TASK
        few = few and self._families[parents[0]] <= SUBTASKS_PER_ROOT
        shallow = len(parents) <= SUBTASK_DEPTH
        self._trace.check("families are bounded", few and shallow, parents)

    def _check_tally(self, tally: Tally) -> None:
        good = tally.live >= 0 and all(count > 0 for count in tally.states.values())
        good = good and (not tally.states or sum(tally.states.values()) == tally.made)
        self._trace.check("groups count right", good, tally)

    def _check_below(self, parent: TaskId, books: Books) -> None:
        """Once a cancel has been worked off, nothing that came of the task goes on."""
        if f"{CASCADE}{parent}" in self._todos:
            return
        left = [task.id for task in _below(parent, books.live.values()) if self._goes_on(task)]
        self._trace.check("no sub-task outlives the cancel of its parent", not left, (parent, left))

    def _goes_on(self, task: Task) -> bool:
        return task.stop_reason is not StopReason.CANCELLED and task.id not in self._reopened


def _below(parent: TaskId, live: Iterable[Task]) -> Iterable[Task]:
    return (task for task in live if parent in task.parents)
