"""One turn over the view: moves tasks, and everything that follows from a move.

`move` is the only way a task's row changes. What follows is derived from the old and the new row
in one place, so no path can forget it: queue, holds, timers, dependants, the feed, the store.
"""

from functools import partial
from heapq import heapify, heappop, heappush
from typing import Final

import msgspec

from agentcom.core import (
    accounts,
    expiry,
    fairness,
    graphs,
    holding,
    moves,
    placement,
    questions,
    tasks,
    watches,
)
from agentcom.core.due_facts import DeadlineReached, WaitEnded
from agentcom.core.effects import Push, SetTimer
from agentcom.core.facts import LookAgain
from agentcom.core.ledger import Ledger, Mark
from agentcom.core.view import PoolView
from agentcom.model.agent import Agent, Assignment
from agentcom.model.batch import (
    Append,
    Table,
    edge_key,
)
from agentcom.model.event import EventKind, TaskEvent, task_log
from agentcom.model.ids import (
    AgentId,
    Fence,
    IdSource,
    Instant,
    Now,
    ProjectId,
    Rng,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.limits import MOVED_MAX, RETRY_BASE_MS, RETRY_MAX_MS
from agentcom.model.task import Task, TaskBody, TaskState, Wait

replace: Final = msgspec.structs.replace
# A member looked up in its enum costs a call (Python 3.11); here it is a global.
_QUEUED: Final = TaskState.QUEUED
_WAITING: Final = TaskState.WAITING
_DEPENDENCIES: Final = Wait.DEPENDENCIES
_REVIEW: Final = Wait.REVIEW
_TASK: Final = Table.TASK
_BODY: Final = Table.BODY
_ASSIGNED: Final = EventKind.ASSIGNED

DEADLINES: Final = "deadlines"
"""The one timer for the deadlines of all attempts: most end long before theirs."""


class Turn(Ledger):
    """What one batch of facts does to the view."""

    def __init__(self, view: PoolView, *, now: Now, ids: IdSource, rng: Rng) -> None:
        super().__init__(view, now=now, ids=ids, rng=rng)
        self.ended: dict[TaskId, Task] = {}
        """Tasks that ended in this fact and have dependants."""
        self.over: dict[TaskId, None] = {}
        """Tasks that ended, or whose attempt ended, in this turn."""
        self._bodies: dict[TaskId, TaskBody] = {}
        self.queued: dict[TaskId, None] = {}
        """Tasks that joined the queue in this fact."""
        self._moved = 0
        self._cut_short = False

    def abandon(self, mark: Mark) -> None:
        super().abandon(mark)
        self.ended.clear()
        self.queued.clear()
        self.view.lanes.fresh.clear()

    def insert_body(self, body: TaskBody) -> None:
        """Store a specification, and have it at hand for an assignment in this turn."""
        self._bodies[body.id] = body
        self.write(_BODY, body.id, body, None)

    def update_body(self, body: TaskBody, old: int) -> None:
        """Store what a specification has become; `old` is the version before."""
        self._bodies[body.id] = body
        self.write(_BODY, body.id, body, old)

    # Tasks ------------------------------------------------------------------------------------

    def move(self, task: Task, event: moves.Event, kind: EventKind, detail: str = "") -> Task:
        """Let `event` happen to `task`, with all that follows; return the task after it.

        Raises:
            IllegalTransition: nothing has changed then.
        """
        after = tasks.decide(task, event, self.now.wall)
        return self.place(task, after, kind, detail)

    def place(self, before: Task | None, after: Task, kind: EventKind, detail: str = "") -> Task:
        """Put a task's new row into the view; `before` is None for a new task."""
        view, state = self.view, after.state
        if state is _QUEUED and not after.seq:
            tag, seq = self.line_up(after.project, after.submitter)
            after = replace(after, start_tag=tag, seq=seq)
        if (after if before is None else before).expires_at is not None:
            after = expiry.follow(self, before, after)
        task_id = after.id
        known = view.tasks.kept(task_id)  # not `before`, which may have been changed for the move
        if known is None:
            view.learn_shape(after)
        self.write(_TASK, task_id, after, None if before is None else before.version)
        if before is None or not holding.goes_on(before, after):
            self._follow(before, after)
        if after.group or after.parents:
            graphs.follow(self, before, after)
        if after.lost and not state.terminal:
            view.put(view.books.lost, task_id, None)
        elif view.books.lost:
            view.drop(view.books.lost, task_id)
        if state.terminal:
            self._end(after)
            if before is not None and before.asks:
                questions.over(self, before)
        else:
            view.journal.append((view.tasks.restore, task_id, known))
            view.tasks[task_id] = after
        self.record(after, kind, detail)
        return after

    def line_up(self, project: ProjectId, submitter: UserId) -> tuple[float, int]:
        """Return the start tag and the sequence number of a task that joins the queue."""
        view = self.view
        view.seq += 1  # a gap after a rollback is harmless
        if not view.gates.rules:
            return view.fairness.start_tag(submitter), view.seq
        weight = view.gates.weight(project, submitter)
        return view.fairness.start_tag(submitter, weight), view.seq

    def record(self, task: Task, kind: EventKind, detail: str = "") -> None:
        """Append one line to a task's feed."""
        event = TaskEvent(  # all by place: each keyword is searched for among the fields
            kind,
            task.id,
            task.state,
            self.now.wall,
            task.cause,
            self.actor,
            task.attempt or None,
            task.agent,
            task.machine,
            task.phase,
            task.wait,
            task.until,
            task.stop_reason,
            task.failure,
            task.commit,
            detail or task.reason,
            self._request(task),
        )
        self.appends.append(Append(task_log(task.id), event))

    def _request(self, task: Task) -> str:
        """Return the request behind a record, unless it is the one that the task came with."""
        fact = self.fact
        return "" if fact.reply_to is None or fact.cause == task.cause else fact.cause

    def retry_at(self, failures: int) -> WallTime:
        """Return when the next attempt may start: exponential, with full jitter (AWS, 2015)."""
        ceiling = min(RETRY_MAX_MS, RETRY_BASE_MS << min(failures, 16))
        return WallTime(self.now.wall + int(self.rng.random() * ceiling))

    def instant_of(self, wall: WallTime) -> Instant:
        """Return the moment on the monotonic clock that is now expected to be `wall`."""
        return Instant(self.now.instant + max(0, wall - self.now.wall))

    # Agents and matching ----------------------------------------------------------------------

    def match(self) -> None:
        """Assign until no runnable task stands beside a compatible idle agent."""
        view = self.view
        if view.issuing:
            for agent_id in self.looks:
                self._fill(agent_id)
            if view.matcher.idle_bits and (self.queued or view.lanes.fresh):
                self._find_agents()
        if view.lanes.vacant and not self._cut_short:
            self._cut_short = True
            self.again(LookAgain())  # others get their turn first
        self.queued.clear()
        view.lanes.fresh.clear()
        self.looks.clear()

    def _fill(self, agent_id: AgentId) -> None:
        """Give an agent the first tasks that it can run, as long as it has free slots."""
        view = self.view
        agent = view.agents.get(agent_id)
        if agent is None:
            return
        free = before = view.free_slots(agent)
        fits = partial(view.fits, agent.machine) if view.using else None
        allowed = graphs.reviewable(view, agent) if view.books.reviews else None
        while free:
            task_id = view.matcher.pick_task(view.class_of[agent_id], allowed, fits=fits)
            if task_id is None:
                break
            if view.gates.ruled and self._stands_elsewhere(view.tasks[task_id], agent_id):
                if self._moved >= MOVED_MAX:
                    break
                continue
            self._assign(view.tasks[task_id], agent)
            free = view.free_slots(agent) if view.purse.budgets else free - 1
        view.note_free(agent_id, free, used=free != before)

    def _find_agents(self) -> None:
        """Give the tasks that joined the queue to idle agents, first in order first."""
        fresh = self.view.lanes.fresh
        if len(self.queued) == 1 and not fresh:  # nearly always
            self._find_agent(next(iter(self.queued)))
            if not fresh:
                return
            self.queued.clear()
        waiting = [(self._rank(task), task) for task in {**self.queued, **fresh}]
        fresh.clear()
        heapify(waiting)
        while waiting and self.view.matcher.idle_bits:
            self._find_agent(heappop(waiting)[1])
            for task in fresh:
                heappush(waiting, (self._rank(task), task))
            fresh.clear()

    def _find_agent(self, task_id: TaskId) -> None:
        """Give a task to an idle agent, if there is one."""
        view = self.view
        task = view.tasks.get(task_id)
        if task is None or task.state is not _QUEUED or not view.matcher.is_queued(task_id):
            return
        agent_id = placement.pick(view, task)
        if agent_id is None:
            return
        moved = view.gates.ruled and self._stands_elsewhere(task, None)
        if not moved or view.matcher.is_queued(task_id):
            self._assign(task, view.agents[agent_id])
            view.refresh(agent_id)

    def _stands_elsewhere(self, task: Task, agent: AgentId | None) -> bool:
        """Put a task behind the gates of what was set after it; return whether it moved."""
        view = self.view
        if view.gates.gates_of(task) == view.lanes.gates_of(task.id):
            return False
        view.withdraw(task.id)
        view.enqueue(task)
        self._moved += 1
        if self._moved >= MOVED_MAX and agent is not None:
            self.again(LookAgain(agent))  # others get their turn first
        return True

    def _rank(self, task_id: TaskId) -> fairness.Rank:
        task = self.view.tasks.get(task_id)
        if task is None:
            return (2, 0.0, 0)
        return fairness.rank(task.start_tag, task.priority, task.seq, emergency=task.emergency)

    def _assign(self, task: Task, agent: Agent) -> None:
        view = self.view
        if task.keys:
            placement.note_warm(view, task, agent.machine)
        fence = Fence(view.incarnation, task.attempt + 1)
        deadline = WallTime(self.now.wall + task.deadline_ms)
        event = moves.Matched(agent.id, agent.machine, fence, deadline)
        if not task.emergency:
            view.fairness.dispatched(fairness.order_tag(task.start_tag, task.priority))
        after = self.move(task, event, _ASSIGNED)
        self.push(after)

    def push(self, task: Task) -> None:
        """Send a task's assignment to its holder."""
        assert task.agent is not None
        assert task.machine is not None
        assert task.deadline_at is not None
        edges = self.view.edges.get(task.id)
        assignment = Assignment(
            task.id,
            Fence(task.incarnation, task.attempt),
            task.agent,
            task.deadline_at,
            task.checkpoint,
            task.session,
            inputs=tuple(e.commit for e in edges.values() if e.commit) if edges else (),
            landing_only=task.landing_only,
            commit=task.commit,
            branch=task.branch,
            base_commit=task.base_commit,
            failures=task.failures,
            cause=task.cause,
            note=task.note,
            reason=task.reason,
            answered=task.answered,
            land=task.land,
            pull_request=task.pull_request,
            reviewed=task.reviewed,
        )
        self.effects.append(Push(task.machine, assignment, self._bodies.get(task.id)))

    # What follows from a move -----------------------------------------------------------------

    def _follow(self, before: Task | None, after: Task) -> None:
        """Bring queue, holds and timers to where `after` wants them."""
        was, state = None if before is None else before.state, after.state
        if was is _QUEUED and state is not _QUEUED:
            self.view.withdraw(after.id)
            if not after.attempt:  # it ended before it ever ran: its submitter is not charged
                weight = self.view.gates.weight(after.project, after.submitter)
                self.view.fairness.refund(after.submitter, weight)
        elif state is _QUEUED:
            self._queue(was, after)
        if state.held or (was is not None and was.held):
            holding.follow(self, before, after)
            if self.view.accounts:
                accounts.follow(self, before, after)
        if after.deadline_at is not None:
            self.watch_deadline(after.deadline_at)
        elif was is not None and was.held:
            self.over[after.id] = None
        if after.wait is _REVIEW or (before is not None and before.wait is _REVIEW):
            watches.follow(self, before, after)
        if state is _WAITING and after.wait is not _DEPENDENCIES and after.until:
            at = self.instant_of(after.until)
            self.effects.append(SetTimer(f"wait/{after.id}", at, WaitEnded(after.id)))

    def _queue(self, was: TaskState | None, after: Task) -> None:
        if was is _QUEUED:  # it was edited or paused: its needs, rank or gate are others now
            self.view.withdraw(after.id)
        self.view.enqueue(after)
        self.queued[after.id] = None

    def watch_deadline(self, at: WallTime) -> None:
        """Look at the deadlines of all attempts at `at`, or earlier."""
        if at < self.view.deadline_at:
            self.view.set_deadline(at)
            self.effects.append(SetTimer(DEADLINES, self.instant_of(at), DeadlineReached()))

    def _end(self, task: Task) -> None:
        view = self.view
        self.over[task.id] = None
        view.drop(view.tasks, task.id)
        view.forget_shape(task)
        if task.unique_key is not None and view.unique.get(task.unique_key) == task.id:
            view.drop(view.unique, task.unique_key)
        if task.id in view.edges:
            self._drop_edges(task)
        dependants = view.dependants.get(task.id)
        if dependants:
            self.ended[task.id] = task
        elif dependants is not None:
            view.drop(view.dependants, task.id)

    def _drop_edges(self, task: Task) -> None:
        view = self.view
        for on, edge in view.edges[task.id].items():
            self.write(Table.EDGE, edge_key(task.id, on), None, old=edge.version)
            if on in view.dependants and task.id in view.dependants[on]:
                view.drop(view.dependants[on], task.id)
        view.drop(view.edges, task.id)
        view.drop(view.books.reviews, task.id)
