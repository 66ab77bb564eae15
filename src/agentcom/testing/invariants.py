"""What must be true of a pool's view and rows after every batch, whatever came before."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from agentcom.core import budgets, graphs
from agentcom.core.gates import files_of, scopes
from agentcom.core.locks import owner_of, place_of
from agentcom.core.view import PoolView
from agentcom.model import requirement
from agentcom.model.agent import Account, Agent
from agentcom.model.ask import Ask, AskState
from agentcom.model.batch import ROW_TYPES, Row, Table, group_key, member_key
from agentcom.model.budget import task_used_up
from agentcom.model.graph import Edge, OnFailure, Tally
from agentcom.model.hold import Hold
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.limit import Limit, Usage
from agentcom.model.lock import Lock
from agentcom.model.pause import Pause
from agentcom.model.requirement import Capability
from agentcom.model.task import Phase, Task, TaskState, Wait
from agentcom.model.todo import Todo

Rows = Mapping[tuple[Table, str], Row]
Tables = Mapping[Table, Mapping[str, Row]]
_Kind = TypeVar("_Kind", bound=Row)
_TABLE_OF: Final = {kind: table for table, kind in ROW_TYPES.items()}


class _Rows:
    """Stored rows by table and key, and those of each kind that has a table of its own."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def table(self, table: Table) -> Mapping[str, Row]:
        return self._tables.get(table, {})

    def of(self, kind: type[_Kind]) -> Sequence[_Kind]:
        return cast("list[_Kind]", list(self.table(_TABLE_OF[kind]).values()))


def check(view: PoolView, stored: Rows) -> None:
    """Raise `AssertionError` with the first invariant that does not hold."""
    tables: dict[Table, dict[str, Row]] = {}
    for (table, key), row in stored.items():
        tables.setdefault(table, {})[key] = row
    check_tables(view, tables)


def check_tables(view: PoolView, tables: Tables) -> None:
    """As `check`, for rows that are kept by table already."""
    rows = _Rows(tables)
    live = {task.id: task for task in rows.of(Task) if not task.state.terminal}
    assert view.tasks == live, "memory and store disagree about the live tasks"
    _check_controls(view, rows)
    _check_holds(view, rows)
    _check_queue(view)
    _check_graph(view, rows)
    _check_gates(view, rows)
    _check_locks(view, rows)
    _check_books(view, rows)
    _check_accounts(view, rows)
    _check_budgets(view, rows)
    _check_asks(view, rows)
    _check_reviews(view)
    for task in live.values():
        _check_task(task)


def _check_task(task: Task) -> None:
    assert (task.wait is None) == (task.state is not TaskState.WAITING), task
    assert task.state.held == (task.phase is not None), task
    assert task.state.held == (task.deadline_at is not None), task
    assert task.stop_reason is None or task.state.held, task
    assert not task.state.held or (task.agent and task.machine and task.attempt), task
    assert task.expires_at is None or task.state is not TaskState.RUNNING, task
    if task.wait in (Wait.RETRY, Wait.QUOTA, Wait.START_TIME):
        assert task.until is not None, f"{task} would wait for ever"


def _check_asks(view: PoolView, rows: _Rows) -> None:
    """Open questions are in memory as they are stored, and their tasks know them."""
    open_ = {row.id: row for row in rows.of(Ask) if row.state is AskState.OPEN}
    assert view.asks == open_, "memory and store disagree about the open questions"
    asked = sorted((ask.task, ask.id) for ask in open_.values() if ask.task is not None)
    known = sorted((task.id, ask) for task in view.tasks.values() for ask in task.asks)
    assert asked == known, "the questions and the tasks that they keep disagree"
    for task in view.tasks.values():
        assert task.wait is not Wait.ANSWER or task.asks, f"{task} would wait for ever"
        queued = task.state is TaskState.QUEUED and not task.landing_only
        assert not (queued and task.asks), f"{task} cannot go on without an answer"
        assert not task.unheard or task.state.held, task


def _check_reviews(view: PoolView) -> None:
    """Each task under review is watched by a machine that is there."""
    under = [task for task in view.tasks.values() if task.wait is Wait.REVIEW]
    by_machine: dict[str, list[str]] = {}
    by_pull: dict[str, list[str]] = {}
    for task in under:
        assert task.machine is not None, task
        assert task.pull_request, task
        assert not view.machines[task.machine].removed, f"{task} would wait for ever"
        by_machine.setdefault(task.machine, []).append(task.id)
        by_pull.setdefault(task.pull_request, []).append(task.id)
    books = view.books
    assert _sets(books.under_review) == {name: sorted(ids) for name, ids in by_machine.items()}
    assert _sets(books.pulls) == {name: sorted(ids) for name, ids in by_pull.items()}


def _check_controls(view: PoolView, rows: _Rows) -> None:
    """Pauses, agents and what is left to do are in memory as they are stored."""
    paused = {row.key: row for row in rows.of(Pause)}
    assert view.pauses == paused, "memory and store disagree about the pauses"
    agents = {row.id: row for row in rows.of(Agent)}
    assert view.agents == agents, "memory and store disagree about the agents"
    todos = {row.task: row for row in rows.of(Todo)}
    assert view.todos == todos, "memory and store disagree about what is left to do"


def _check_holds(view: PoolView, rows: _Rows) -> None:
    holds = rows.of(Hold)
    assert sorted((h.task, h.key) for h in holds) == sorted(
        (task, key) for task, mine in view.holds.items() for key in mine
    ), "memory and store disagree about the holds"
    for hold in holds:
        task = view.tasks.get(hold.task)
        assert task is not None, f"{hold} outlived its task"
        assert task.state.held, f"{hold} outlived its attempt"
        assert task.attempt == hold.attempt, f"{hold} belongs to an older attempt"
    slots = Counter(
        t.agent for t in view.tasks.values() if t.state.held and t.phase is not Phase.LANDING
    )
    for agent, used in view.slots_used.items():
        assert used == slots.pop(agent, 0), f"{agent} has {used} slots in use"
    assert not slots, f"slots in use that are not counted: {slots}"
    _check_landing(view, holds)


def _check_landing(view: PoolView, holds: Sequence[Hold]) -> None:
    lands = Counter((h.key, h.amount) for h in holds if h.key.startswith("land:"))
    assert all(count == 1 for count in lands.values()), f"one base, two landings: {lands}"
    for key, queue in view.landing.items():
        assert queue, f"{key} has an empty queue"
        assert f"land:{key}" in view.holds.get(queue[0], {}), f"nobody may land on {key}"
        riding = [f"land:{key}" in view.holds.get(task, {}) for task in queue]
        assert sorted(riding, reverse=True) == riding, f"a rider behind who waits for {key}"
        places = [view.tasks[task].land_seq for task in queue]
        assert places == sorted(set(places)), f"out of order at {key}: {places}"
    waiting = [task for queue in view.landing.values() for task in queue]
    landing = [t.id for t in view.tasks.values() if t.state.held and t.phase is Phase.LANDING]
    assert sorted(waiting) == sorted(landing), "a landing that is in no queue"


def _check_queue(view: PoolView) -> None:
    queued = sum(task.state is TaskState.QUEUED for task in view.tasks.values())
    assert view.depth() == queued, "the matcher's queue and the tasks disagree"
    for machine, tasks in view.held_by.items():
        for task_id in tasks:
            task = view.tasks[task_id]
            assert task.state.held, f"{machine} does not hold {task}"
            assert task.machine == machine, f"{machine} does not hold {task}"
    using = {task.id: 1 for task in view.tasks.values() if task.uses}
    assert view.using == using, "the tasks that use resources are others"
    if not view.issuing:
        return
    waiting = [task for task in view.tasks.values() if task.state is TaskState.QUEUED]
    able = [task for task in waiting if all(map(view.gates.is_open, view.gates.gates_of(task)))]
    for agent_id, agent in view.agents.items():
        if view.free_slots(agent) > 0:
            for task in able:
                may = suits(view, task, agent_id) and graphs.may_review(view, task.id, agent)
                assert not may, f"{task} is runnable, {agent_id} is free"


def suits(view: PoolView, task: Task, agent_id: AgentId) -> bool:
    """Return whether an agent could run a task: compared directly, not by shape and class."""
    agent = view.agents[agent_id]
    machine = view.machines[agent.machine]
    offers = {*requirement.canonical_capabilities(agent.capabilities)}
    offers |= {Capability("agent", agent.id), Capability("machine", machine.name)}
    offers |= {Capability("runtime", agent.runtime)}
    offers |= {Capability(name, value) for name, value in agent.labels.items()}
    told = {"project": task.project, "submitter": task.submitter, "kind": task.kind}
    about = [Capability(name, value) for name, value in told.items()]
    accepts = requirement.canonical(agent.accepts)
    used = Counter[str]()
    for other in view.tasks.values():
        if other.machine == machine.id and other.state.held and other.phase is not Phase.LANDING:
            used.update(dict(other.uses))
    return (
        all(requirement.satisfies(offers, need) for need in requirement.canonical(task.needs))
        and all(requirement.satisfies(about, rule) for rule in accepts)
        and all(used[name] + much <= machine.resources.get(name, 0) for name, much in task.uses)
    )


def _check_gates(view: PoolView, rows: _Rows) -> None:
    gates = view.gates
    held = [task for task in view.tasks.values() if task.state.held]
    counts = Counter(s for t in held for s in scopes(t) if gates.is_bounded(s))
    assert +Counter(gates.taken) == counts, "what limits count is not what runs"
    files = {t.id: files_of(t) for t in held if t.files}
    claimed = {task: claim for mine in gates.files_held.values() for task, claim in mine.items()}
    assert claimed == files, "claims of files are not those of what runs"
    for task_id, touched in gates.touched.items():
        mine = view.tasks[task_id]
        assert mine.state.held, f"{mine} is over, and its paths are remembered"
        assert mine.attempt == touched.attempt, f"the paths are of an attempt before that of {mine}"
    ruled = {row.scope: row for row in rows.of(Limit)}
    assert gates.rules == ruled, "memory and store disagree about the limits"
    rates = {row.scope: row for row in rows.of(Usage)}
    assert gates.rates == rates, "memory and store disagree about the rates"
    for task in view.tasks.values():
        if task.state is TaskState.QUEUED:
            shown = view.matcher.is_queued(task.id)
            behind = view.lanes.gates_of(task.id)
            if shown and behind:
                assert all(map(gates.is_open, behind)), f"{task} is shown behind a shut gate"


def _check_locks(view: PoolView, rows: _Rows) -> None:
    book = view.gates.locks
    stored = {row.id: row for row in rows.of(Lock)}
    assert book.rows == stored, "memory and store disagree about the locks"
    places: dict[str, set[str]] = {}
    owned: dict[str, set[str]] = {}
    for lock in stored.values():
        places.setdefault(place_of(lock), set()).add(lock.id)
        owned.setdefault(owner_of(lock), set()).add(lock.id)
        _check_lock(view, lock)
    assert {place: {*locks} for place, locks in book.places.items()} == places
    assert {owner: {*locks} for owner, locks in book.of.items()} == owned
    numbers = [lock.number for lock in stored.values() if lock.granted_at is not None]
    assert len(set(numbers)) == len(numbers), "two locks have one number"
    assert not numbers or (book.head is not None and max(numbers) <= book.head.seq)
    ends = [lock.expires_at for lock in stored.values() if lock.expires_at is not None]
    assert book.due_at <= min(ends, default=book.due_at), "a lock ends before its timer fires"


def _check_lock(view: PoolView, lock: Lock) -> None:
    """A lock is of an attempt under way, excludes nobody who is there, or waits for someone."""
    book = view.gates.locks
    if lock.task is not None:
        task = view.tasks.get(lock.task)
        assert task is not None, f"{lock} outlived its task"
        assert task.state.held, f"{lock} outlived its attempt"
        assert task.fence == lock.fence, f"{lock} is of an older attempt"
    if lock.granted_at is None:
        assert book.blockers(lock), f"{lock} waits for nothing"
        assert lock.expires_at is not None, f"{lock} would wait for ever"
        assert not book.cycle(lock), f"{lock} waits for itself"
        return
    assert lock.number, f"{lock} has no number"
    assert lock.task is not None or lock.expires_at is not None, f"{lock} would stay for ever"
    # Files of a task are no rule here: an attempt that comes back goes on with what it claims.
    held = [one for one in book.blockers(lock) if isinstance(one, Lock) and one.granted_at]
    assert not held, f"{lock} is held beside {held}"


def _check_budgets(view: PoolView, rows: _Rows) -> None:
    purse = view.purse
    assert purse.budgets == rows.table(Table.BUDGET), "memory and store disagree about the budgets"
    fresh = PoolView(view.pool, incarnation=view.incarnation, term=view.term)
    fresh.tasks, fresh.agents, fresh.held_by = view.tasks, view.agents, view.held_by
    budgets.know(fresh, list(purse.budgets.values()))
    budgets.load(fresh)
    running = {key: count for key, count in purse.reserved.items() if count}
    assert running == fresh.purse.reserved, "reserved is not what the attempts reserve"
    assert purse.shut == fresh.purse.shut, "agents are shut out, or not, without a reason"
    for row in rows.of(Task):
        if row.spent is not None and row.state is TaskState.QUEUED:
            lacks = task_used_up(row.budget, row.spent)
            assert lacks is None or row.landing_only or row.lost, f"{row} can never begin"


def _check_graph(view: PoolView, rows: _Rows) -> None:
    edges = rows.of(Edge)
    for edge in edges:
        assert view.edges[edge.task][edge.on] == edge, f"{edge} is not in memory"
        if not edge.met and edge.on not in view.tasks and edge.on_failure is not OnFailure.WAIT:
            assert edge.on in view.todos, f"{edge} waits for a task that is over"
        told = edge.task in view.dependants.get(edge.on, {})
        assert edge.met or told, f"nobody would tell {edge} of an end"
    for task in view.tasks.values():
        mine = view.edges.get(task.id, {})
        for edge in mine.values():
            held = task.state.held and task.agent is not None and edge.review is not None
            assert not held or edge.author != task.agent, f"{task} reviews its own work"
        if task.wait is Wait.DEPENDENCIES:
            assert any(not edge.met for edge in mine.values()), f"{task} waits for nothing"


def _check_books(view: PoolView, rows: _Rows) -> None:
    every = rows.of(Task)
    books = view.books
    members: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    states: dict[str, Counter[str]] = {}
    for task in every:
        key = group_key(task.project, task.group) if task.group is not None else ""
        if key:
            states.setdefault(key, Counter())[task.state.value] += 1
            assert member_key(key, task.id) in rows.table(Table.MEMBER), f"{task} is no member"
        if not task.state.terminal:
            for name, index in ((key, members), *((parent, below) for parent in task.parents)):
                index.setdefault(name, []).append(task.id)
    members.pop("", None)
    assert _sets(books.members) == {key: sorted(tasks) for key, tasks in members.items()}
    assert _sets(books.below) == {key: sorted(tasks) for key, tasks in below.items()}
    tallies = {row.id: row for row in rows.of(Tally)}
    assert books.tallies == {key: row for key, row in tallies.items() if row.live}
    for key, counted in states.items():
        assert tallies[key].states == dict(counted), f"{key} counts wrong"
        assert tallies[key].live == len(members.get(key, ())), f"{key} counts wrong"
    lost = {task.id for task in view.tasks.values() if task.lost}
    assert set(books.lost) == lost, "the tasks that may come back are others"
    reviews = {task for task, edges in view.edges.items() if any(e.review for e in edges.values())}
    assert set(books.reviews) == reviews, "memory and store disagree about reviews"


def _sets(index: Mapping[Any, Mapping[TaskId, None]]) -> dict[str, list[str]]:
    return {key: sorted(tasks) for key, tasks in index.items() if tasks}


def _check_accounts(view: PoolView, rows: _Rows) -> None:
    stored = {row.id: row for row in rows.of(Account)}
    assert view.accounts == stored, "memory and store disagree about the accounts"
    for account in stored.values():
        if account.canary is None:
            continue
        assert account.parked_until is None, f"{account} is tried before its reset"
        task = view.tasks.get(account.canary.task)
        assert task is not None, f"{account} is tried by a task that is over"
        mine = task.state.held and task.fence == account.canary.fence
        assert mine, f"{account} is tried by an attempt that is over: {task}"
        assert task.phase is not Phase.LANDING, f"{account} is tried by a landing: {task}"
