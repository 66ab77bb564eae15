"""What people read of graphs: groups and their progress, and what leads from task to task.

A group's figures are one row, counted by the core. Failures, the critical path and graphs are made
of the tasks themselves when someone asks, of a bounded number.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from agentcom.core import graphs
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import Queries, page_limit
from agentcom.model.batch import Table, children_key, group_key
from agentcom.model.errors import NotFound
from agentcom.model.graph import Member, Tally
from agentcom.model.identity import Identity
from agentcom.model.ids import TaskId
from agentcom.model.limits import GRAPH_TASKS_MAX
from agentcom.model.task import Task, TaskBody, TaskState
from agentcom.protocol.shown import GraphEdge, GraphShown, GraphTask, GroupList, GroupShown
from agentcom.store.base import Query, Store

FAILURES_SHOWN: Final = 10
_READ_ROWS: Final = 100  # at once: specifications may be long
_LISTING: Final = "groups"

Dependants = Mapping[TaskId, Mapping[TaskId, None]]
_Found = dict[TaskId, tuple[Task, TaskBody | None]]


class Graphs:
    """Reads groups and graphs for one caller at a time."""

    def __init__(self, store: Store, queries: Queries, cursors: Cursors) -> None:
        self._store = store
        self._queries = queries
        self._cursors = cursors

    async def groups(self, identity: Identity, *, cursor: str | None, limit: int) -> GroupList:
        """Return one page of the groups of the caller's project."""
        before = self._cursors.read(identity, _LISTING, cursor) if cursor else None
        prefix = group_key(identity.project, "")
        query = Query(table=Table.TALLY, prefix=prefix, before=before, limit=page_limit(limit))
        page = await self._store.query(query)
        shown = tuple(_shown(row) for row in page.rows if isinstance(row, Tally))
        after = self._cursors.make(identity, _LISTING, page.next) if page.next else None
        return GroupList(shown, after)

    async def group(self, identity: Identity, name: str) -> GroupShown:
        """Return one group with its failures and its critical path; raises `NotFound`."""
        tally = await self._tally(identity, name)
        found, more = await self._members(tally.id)
        failed = [task for task, _ in found.values() if task.state is TaskState.FAILED]
        first = tuple(_node(task) for task in failed[:FAILURES_SHOWN])
        return _shown(tally, failures=first, critical_path=_critical_path(found), more=more)

    async def members(self, identity: Identity, name: str) -> Sequence[Task]:
        """Return the tasks of a group, oldest first, a bounded number; raises `NotFound`."""
        tally = await self._tally(identity, name)
        found, _ = await self._members(tally.id)
        return [task for task, _ in found.values()]

    async def graph_of_group(self, identity: Identity, name: str) -> GraphShown:
        """Return the tasks of a group, and what leads from one to another; raises `NotFound`."""
        tally = await self._tally(identity, name)
        found, more = await self._members(tally.id)
        return _graph(found, more=more)

    async def graph_of_task(
        self, identity: Identity, text: str, dependants: Dependants
    ) -> GraphShown:
        """Return what a task depends on, what waits for it, and its sub-tasks, all the way.

        `dependants` are those of live tasks.

        Raises:
            NotFound: there is no such task.
            Ambiguous: several tasks have this in their id.
        """
        task = await self._queries.find(identity, text)
        found = await self._gather([task.id])
        more = await self._follow(found, [task.id], dependants, up=True)
        more |= await self._follow(found, [task.id], dependants, up=False)
        return _graph(dict(sorted(found.items())), more=more)

    async def _follow(
        self, found: _Found, start: Sequence[TaskId], dependants: Dependants, *, up: bool
    ) -> bool:
        """Add what lies above (or below) to `found`; return whether there is more than fits."""
        edge: Sequence[TaskId] = start
        seen = set(start)
        while edge:
            ways = [
                _above(found[at]) if up else [*dependants.get(at, ()), *await self._children(at)]
                for at in edge
                if at in found
            ]
            new = [at for at in dict.fromkeys(chain.from_iterable(ways)) if at not in seen]
            seen.update(new)
            room = GRAPH_TASKS_MAX - len(found)
            if len(new) > room:
                return True
            found.update(await self._gather([at for at in new if at not in found]))
            edge = new
        return False

    async def _children(self, task: TaskId) -> list[TaskId]:
        members, _ = await self._listed(children_key(task))
        return members

    async def _members(self, key: str) -> tuple[_Found, bool]:
        members, more = await self._listed(key)
        return await self._gather(members), more

    async def _listed(self, key: str) -> tuple[list[TaskId], bool]:
        query = Query(table=Table.MEMBER, prefix=f"{key}/", limit=GRAPH_TASKS_MAX)
        page = await self._store.query(query)
        members = [row.task for row in page.rows if isinstance(row, Member)]
        return members[::-1], page.next is not None

    async def _gather(self, tasks: Sequence[TaskId]) -> _Found:
        found: _Found = {}
        for at in range(0, len(tasks), _READ_ROWS):
            chunk = tasks[at : at + _READ_ROWS]
            rows = await self._store.get([(Table.TASK, task) for task in chunk])
            bodies = await self._store.get([(Table.BODY, task) for task in chunk])
            for row, body in zip(rows, bodies, strict=True):
                if isinstance(row, Task):
                    found[row.id] = (row, body if isinstance(body, TaskBody) else None)
        return found

    async def _tally(self, identity: Identity, name: str) -> Tally:
        graphs.check_group(name)
        (row,) = await self._store.get([(Table.TALLY, group_key(identity.project, name))])
        if not isinstance(row, Tally):
            raise NotFound(f"there is no group {name}, or not for this token")
        return row


def _above(found: tuple[Task, TaskBody | None]) -> list[TaskId]:
    task, body = found
    depends = body.spec.depends_on if body is not None else ()
    return [*[TaskId(one.task) for one in depends], *task.parents[-1:]]


def _graph(found: _Found, *, more: bool) -> GraphShown:
    nodes = tuple(_node(task) for task, _ in found.values())
    return GraphShown(tasks=nodes, edges=tuple(_edges(found)), more=more)


def _edges(found: _Found) -> Iterable[GraphEdge]:
    for task, body in found.values():
        for one in body.spec.depends_on if body is not None else ():
            reviews = body is not None and body.spec.reviews == one.task
            if one.task in found:
                yield GraphEdge(
                    task=task.id,
                    on=TaskId(one.task),
                    kind="reviews" if reviews else "depends",
                    condition=one.condition,
                    on_failure=one.on_failure,
                    children=one.children,
                )
        if task.parents and task.parents[-1] in found:
            yield GraphEdge(task=task.id, on=task.parents[-1], kind="parent")


def _critical_path(found: _Found) -> int:
    """Return the longest chain of tasks that are not over; dependencies are acyclic."""
    live = {at: row for at, row in found.items() if not row[0].state.terminal}
    above = {
        at: [TaskId(one.task) for one in body.spec.depends_on if TaskId(one.task) in live]
        for at, (_, body) in live.items()
        if body is not None
    }
    length: dict[TaskId, int] = {}
    for start in live:
        path = [start]
        while path:
            at = path[-1]
            missing = [one for one in above.get(at, ()) if one not in length]
            if missing:
                path.append(missing[0])
                continue
            length[at] = 1 + max((length[one] for one in above.get(at, ())), default=0)
            path.pop()
    return max(length.values(), default=0)


def _node(task: Task) -> GraphTask:
    return GraphTask(
        id=task.id,
        title=task.title,
        state=task.state,
        wait=task.wait,
        phase=task.phase,
        agent=task.agent,
        failure=task.failure,
        reason=task.reason,
    )


def _shown(
    tally: Tally,
    *,
    failures: tuple[GraphTask, ...] = (),
    critical_path: int = 0,
    more: bool = False,
) -> GroupShown:
    return GroupShown(
        name=tally.id.rpartition("/")[2],
        tasks=tally.made,
        live=tally.live,
        states=tally.states,
        percent=100 * (tally.made - tally.live) // tally.made,
        created_at=tally.created_at,
        changed_at=tally.changed_at,
        failures=failures,
        critical_path=critical_path,
        more=more,
    )
