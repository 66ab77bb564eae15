"""Looks at every durable batch: the one place where all that the hub decides passes in order.

It keeps rows of its own and knows nothing of the core but its map of transitions. What it checks
are the invariants I1, I4, I6, I9, I13, I14 and I16, the exclusive holds, and pauses.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, get_args

from agentcom.core.moves import Event
from agentcom.core.tasks import TRANSITIONS
from agentcom.core.view import PoolView
from agentcom.model.agent import Agent, Machine
from agentcom.model.batch import Batch, Delete, Insert, Table, Update
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.graph import Condition, Edge
from agentcom.model.hold import Hold, HoldMode
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.model.limit import Limit, Usage
from agentcom.model.pause import Pause
from agentcom.model.result import KeptResult
from agentcom.model.task import Phase, StopReason, Task, TaskState
from agentcom.testing.simulation import bounds, quota_checks, shutting
from agentcom.testing.simulation.books import Books
from agentcom.testing.simulation.graph_checks import GraphChecks
from agentcom.testing.simulation.trace import Trace

BEGINS: Final = frozenset({TaskState.WAITING, TaskState.QUEUED})
STEP: Final = 8.0
"""Tasks that one step of priority is worth."""
OTHERS_MAX: Final = 2
"""Submitters beside a task's own: each may overtake it as often as the bound says."""
_ISSUES: Final = frozenset({EventKind.ASSIGNED})

PAIRS: Final = frozenset(
    (before, after)
    for kind in get_args(Event)
    for before, afters in TRANSITIONS[kind].items()
    for after in afters
)
"""Every pair of states that the map allows, whatever the event."""


@dataclass(slots=True)
class Issue:
    """One attempt, as it was first written."""

    machine: MachineId
    agent: AgentId
    journal: int


class Auditor:
    """Checks each batch against all batches before."""

    def __init__(self, trace: Trace) -> None:
        self.books = Books()
        self.issued: dict[tuple[TaskId, Fence], Issue] = {}
        """Every attempt ever, also those that a restore took back."""
        self.adopted: dict[TaskId, None] = {}
        """Tasks for which a person took a result that had been refused."""
        self.newest: dict[TaskId, Fence] = {}
        self.incarnation: Callable[[], int] = lambda: 0
        self.life: Callable[[], int] = lambda: 0
        self.view: Callable[[], PoolView | None] = lambda: None
        self._view: PoolView | None = None
        self._virtual = 0.0
        self._bounds: dict[TaskId, int] = {}
        """How often each queued task may still be overtaken."""
        self._entered: dict[TaskId, float] = {}
        self._last_id = ""
        self._last_life = -1
        self._trace = trace
        self._graphs = GraphChecks(trace)

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin the books anew with what a restored store holds."""
        self.books = Books()
        self._graphs.restored()
        for batch in batches:
            self._take(batch)
            self.books.length += 1
            self.books.records += len(batch.appends)
        self._bounds.clear()
        self._entered.clear()

    def committed(self, batch: Batch, first: int) -> None:  # noqa: PLR0915 - in order
        """Check one durable batch, and take it down."""
        books, check = self.books, self._trace.check
        view = self.view()
        if view is not self._view:  # virtual time of a view that was built anew may lie lower
            self._view, self._virtual = view, 0.0
            self._bounds.clear()
            self._entered.clear()
        if self.life() != self._last_life:
            self._last_life, self._last_id = self.life(), ""
            self._bounds.clear()
            self._entered.clear()
        check("I7 records follow one another", first == books.records + 1, (first, books.records))
        before = {
            change.key: books.tasks.get(TaskId(change.key))
            for change in batch.changes
            if change.table is Table.TASK
        }
        issues = any(append.record.kind in _ISSUES for append in batch.appends)
        live = books.live.values() if issues else ()
        was_queued = [task.id for task in live if task.state is TaskState.QUEUED]
        for change in batch.changes:
            self._check_change(change)
            if isinstance(change, Insert | Update) and isinstance(change.row, Task):
                self._enter(change.row)
        accounts = dict(books.accounts)
        shut = dict(books.pauses), dict(books.agents)
        self._take(batch)
        books.length += 1
        books.records += len(batch.appends)
        self._walk(batch, before)
        self._graphs.check(batch, books)
        quota_checks.check(batch, books, accounts, check)
        shutting.check(batch, books, self._trace, before, *shut)
        self._check_order(batch, was_queued)
        for change in batch.changes:
            if isinstance(change, Insert) and isinstance(change.row, Hold):
                self._check_hold(change.row)
        self._virtual = view.fairness.virtual_time if view is not None else 0.0

    def _take(self, batch: Batch) -> None:  # noqa: C901, PLR0912, PLR0915 - one case for each table
        books = self.books
        quota_checks.take(batch, books.accounts)
        for change in batch.changes:
            match change:
                case Insert(row=row) | Update(row=row):
                    match row:
                        case Task():
                            books.put(row)
                            self._issue(row)
                        case KeptResult():
                            books.results[change.key] = row
                            if row.applied and row.version > 1:
                                self.adopted[row.task] = None
                            if row.applied:
                                books.applied[row.task, row.fence] = row.machine
                        case Hold():
                            books.holds[change.key] = row
                        case Limit():
                            books.rules[row.scope] = row
                        case Usage():
                            books.rates[row.scope] = row
                        case Machine() if row.resources:
                            books.resources[row.id] = row.resources
                            books.machine_ids[row.id] = None
                        case Edge():
                            books.edges.setdefault(row.task, {})[row.on] = row
                        case Agent():
                            books.agents[row.id] = row
                        case Machine():
                            books.machine_ids[row.id] = None
                        case Pause():
                            books.pauses[row.key] = row
                        case _:
                            pass
                case Delete(table=Table.HOLD, key=key):
                    del books.holds[key]
                case Delete(table=Table.EDGE, key=key):
                    task, _, on = key.partition("/")
                    books.edges[TaskId(task)].pop(TaskId(on), None)
                case Delete(table=Table.RULE, key=key):
                    del books.rules[key]
                case Delete(table=Table.RATE, key=key):
                    del books.rates[key]
                case Delete(table=Table.PAUSE, key=key):
                    del books.pauses[key]
                case _:
                    pass
        self._graphs.take(batch, {name: issue.agent for name, issue in self._named(batch)})

    def _named(self, batch: Batch) -> Iterator[tuple[tuple[TaskId, Fence], Issue]]:
        """Yield the attempts whose results a batch brings."""
        for change in batch.changes:
            row = None if isinstance(change, Delete) else change.row
            if isinstance(row, KeptResult) and (row.task, row.fence) in self.issued:
                yield (row.task, row.fence), self.issued[row.task, row.fence]

    def _issue(self, task: Task) -> None:
        if task.attempt == 0 or task.machine is None or task.agent is None:
            return
        name = (task.id, task.fence)
        if name not in self.issued:
            self.issued[name] = Issue(task.machine, task.agent, self.books.length + 1)
        if task.fence > self.newest.get(task.id, Fence(0, 0)):
            self.newest[task.id] = task.fence

    # One change -----------------------------------------------------------------------------------

    def _check_change(self, change: Insert | Update | Delete) -> None:
        check = self._trace.check
        match change:
            case Delete(table=Table.TASK | Table.BODY | Table.RESULT, key=key):
                check("I1 nothing acknowledged is deleted", False, key)
            case Insert(table=Table.TASK, key=key):
                check("I9 ids ascend", key > self._last_id, (self._last_id, key))
                self._last_id = key
            case Update(table=Table.TASK, row=Task() as task):
                self._check_fence(task)
            case Insert(row=KeptResult() as result) if result.applied:
                self._check_applied(result)
            case _:
                pass

    def _check_fence(self, task: Task) -> None:
        check = self._trace.check
        old = self.books.tasks[task.id]
        check("I6 fences only grow", task.fence >= old.fence, (old.fence, task.fence))
        if task.fence == old.fence:
            moved = task.state.held and (task.machine, task.agent) != (old.machine, old.agent)
            check("I6 an attempt has one holder", not moved, task)
            return
        above = task.fence > self.newest.get(task.id, Fence(0, 0))
        check("I6 fences only grow", above, (self.newest.get(task.id), task.fence))
        current = task.incarnation == self.incarnation()
        check("I6 attempts bear the incarnation of their hub", current, task.fence)

    def _check_applied(self, result: KeptResult) -> None:
        check = self._trace.check
        task = self.books.tasks.get(result.task)
        highest = task is not None and task.fence == result.fence
        check("I4 only the newest attempt's result counts", highest, (task, result.fence))
        assert task is not None
        check("I4 only the holder's result counts", task.machine == result.machine, (task, result))
        again = (result.task, result.fence) in self.books.applied
        check("I4 a result counts once", not again, (result.task, result.fence))
        open_ = not task.state.terminal and (task.state.held or task.lost)
        check("I4 a result counts while its attempt is open", open_, task)
        live = task.stop_reason in (
            None,
            StopReason.BUDGET,
            StopReason.ASKED,
        )  # good work is not thrown away
        check("I4 a stopped attempt's result does not count", live, task)

    def check_begun(self, before: WallTime) -> None:
        """Nothing that was assigned before is still on its way."""
        for task_id in self.books.live:
            task = self.books.tasks[task_id]
            begun = task.state is not TaskState.ASSIGNED or task.changed_at > before
            self._trace.check("what is assigned is begun", begun, task)

    def _check_edges(self, task: Task) -> None:
        """What is assigned depends on nothing that has not ended as it must.

        What a person adopted only has to land: the person said that it is done.
        """
        if task.landing_only:
            return
        for edge in self.books.edges.get(task.id, {}).values():
            on = self.books.tasks[edge.on]
            good = edge.condition is Condition.ANY_END or on.state is TaskState.COMPLETED
            self._trace.check(
                "dependencies are met before work begins", edge.met and good, (edge, on)
            )

    def _check_hold(self, hold: Hold) -> None:
        same = [other for other in self.books.holds.values() if other.key == hold.key]
        shared = all(other.mode is HoldMode.SHARED for other in same)
        self._trace.check("holds exclude one another", shared or len(same) <= 1, same)

    # One batch ------------------------------------------------------------------------------------

    def _walk(self, batch: Batch, before: dict[str, Task | None]) -> None:
        """Follow each task through the states that its records tell."""
        state = {key: None if row is None else row.state for key, row in before.items()}
        for append in batch.appends:
            record = append.record
            last = state.get(record.task)
            if last is None and record.task not in state:
                known = self.books.tasks.get(record.task)
                last = known.state if known is not None else None
            self._check_step(record, last)
            state[record.task] = record.state
        for key, last in state.items():
            task = self.books.tasks.get(TaskId(key))
            old = before.get(key)
            if old is not None and old.state.terminal and task is not None and task.seq:
                anew = task.state.terminal or task.start_tag >= self._virtual
                self._trace.check("what is reopened lines up anew", anew, task)
            same = task is None or task.state is last
            self._trace.check("I13 rows and records tell the same", same, (task, last))

    def _check_step(self, record: TaskEvent, last: TaskState | None) -> None:
        if record.kind is EventKind.RESULT_KEPT:
            return  # tells of a result, not of a step
        if last is None:
            allowed = record.state in BEGINS
        else:
            allowed = last is record.state or (last, record.state) in PAIRS
        self._trace.check("I13 only listed transitions", allowed, (last, record))

    def _check_order(self, batch: Batch, was_queued: Sequence[TaskId]) -> None:
        """Of tasks that need the same, the first in order is dispatched first."""
        books = self.books
        # Who comes back with the newest fence goes on, though its place was given away meanwhile.
        back = {a.record.task for a in batch.appends if a.record.kind is EventKind.RESUMED}
        new = {change.key for change in batch.changes if change.table is Table.RULE}
        # Of these the row after the batch does not say where they stood when others were issued.
        moved = {a.record.task for a in batch.appends if a.record.kind in shutting.MOVES}
        opened = any(change.table is Table.PAUSE for change in batch.changes)
        for append in batch.appends:
            if append.record.kind not in _ISSUES:
                continue
            task = books.tasks[append.record.task]
            mine = _rank(task)
            self._bounds.pop(task.id, None)
            self._check_slots(task, back)
            bounds.check(books, self._trace, task, back=back, new=new)
            self._check_edges(task)
            for other_id in was_queued:
                other = books.tasks[other_id]
                if other.state is not TaskState.QUEUED or other.needs != task.needs:
                    continue
                if other.id == task.id or other.landing_only != task.landing_only:
                    continue
                if not _is_rival(other, task, limited=bool(books.rules)):
                    continue
                if opened or other.paused is not None or moved & {other.id, task.id}:
                    continue
                self._trace.check("I16 order is kept", mine < _rank(other), (task, other))
                self._overtaken(other, task)

    def _enter(self, task: Task) -> None:
        """Note from where a task that joins the queue may be overtaken (`core/fairness.py`)."""
        old = self.books.tasks.get(task.id)
        if task.seq == 0 or (old is not None and old.seq == task.seq):
            return
        self._entered[task.id] = task.start_tag - self._virtual
        self._bounds[task.id] = 0

    def _overtaken(self, task: Task, by: Task) -> None:
        if task.id not in self._bounds or by.seq < task.seq or by.emergency:
            return
        if by.submitter == task.submitter:
            return
        self._bounds[task.id] += 1
        ahead = self._entered[task.id] + (10 - task.priority) * STEP
        allowed = ceil(max(0.0, ahead)) * OTHERS_MAX
        within = self._bounds[task.id] <= allowed
        self._trace.check("I16 overtaking is bounded", within, (task, self._bounds[task.id]))

    def _check_slots(self, task: Task, back: set[TaskId]) -> None:
        if task.agent is None or not task.state.held:
            return
        agent = self.books.agents[task.agent]
        slots = 1 if agent.on_trial else agent.slots
        used = [
            other
            for other in self.books.live.values()
            if other.agent == task.agent and other.state.held and other.phase is not Phase.LANDING
            if other.id == task.id or other.id not in back
        ]
        few = len(used) <= slots
        self._trace.check("no agent has more attempts than slots", few, (agent, used))


def _is_rival(other: Task, task: Task, *, limited: bool) -> bool:
    """Return whether nothing but the order tells which of two tasks starts first."""
    if limited and other.submitter != task.submitter:
        return False
    same = (other.keys, other.files, other.files_shared, other.uses)
    return same == (task.keys, task.files, task.files_shared, task.uses)


def _rank(task: Task) -> tuple[int, float, int]:
    """Return a task's place in the queue, as DESIGN 4 has it; not as the core computes it."""
    return (0 if task.emergency else 1, task.start_tag - task.priority * STEP, task.seq)
