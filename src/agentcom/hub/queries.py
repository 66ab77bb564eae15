"""What people read of tasks: lists, one task with all about it, results, events, logs.

Rows come from the store, so an answer never shows what is not durable. A task of another project
is not there. The rest of what can be read is in `queries_fleet.py` and `queries_people.py`.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from agentcom.core import moves
from agentcom.hub.activities import Activities
from agentcom.hub.costs import Costs
from agentcom.hub.cursors import Cursors
from agentcom.hub.remote_logs import RemoteLogs
from agentcom.model import policy
from agentcom.model.archive import Archived, Dossier, Told
from agentcom.model.batch import Table
from agentcom.model.errors import AgentComError, InvalidInput, NotAllowed, NotFound
from agentcom.model.event import task_log
from agentcom.model.graph import Edge
from agentcom.model.identity import Identity
from agentcom.model.ids import DEFAULT_PROJECT, Fence, MachineId, TaskId, utc
from agentcom.model.limits import DEPENDENCIES_MAX, PAGE_MAX, RESULTS_KEPT
from agentcom.model.policy import Action, Reach
from agentcom.model.result import KeptResult
from agentcom.model.task import Task, TaskBody, TaskState
from agentcom.protocol.shown import (
    EventPage,
    EventRecord,
    LogTail,
    ResultList,
    TaskPage,
    TaskShown,
)
from agentcom.store.archive import Archive, NoArchive
from agentcom.store.base import LogRecord, Page, Query, Store

LAST: Final = "@last"
ID_CHARS_MAX: Final = 64
SEARCH_CHARS_MAX: Final = 256
SEARCH_ROWS_MAX: Final = 2_000  # rows that one search looks at; its cursor goes on from there
_READ_ROWS: Final = 500  # of one step of a search
_SHOWN_MAX: Final = 5  # candidates that a refusal names


class Ambiguous(AgentComError):
    """More than one thing has this in its id; give more of it."""

    code = "ambiguous"
    status = 409


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks to list."""

    state: tuple[TaskState, ...] = ()
    submitter: str | None = None
    """A user, or `@me`."""
    project: str | None = None
    q: str | None = None
    """Part of the title, in any case."""
    archived: bool = False
    """True: those in the archive, instead of those in the store."""
    cursor: str | None = None
    limit: int = PAGE_MAX


class Queries:
    """Reads tasks for one caller at a time."""

    def __init__(
        self,
        store: Store,
        activities: Activities,
        cursors: Cursors,
        remote_logs: RemoteLogs | None = None,
        archive: Archive | None = None,
    ) -> None:
        """`remote_logs` asks machines; None: nobody is connected."""
        self._archive = archive or NoArchive()
        self._store = store
        self._activities = activities
        self._cursors = cursors
        self._remote_logs = remote_logs or RemoteLogs(lambda _machine, _frame: False)
        self.costs = Costs(store)

    async def tasks(self, identity: Identity, asked: TaskFilter) -> TaskPage:
        """Return one page of tasks, newest first.

        Raises:
            InvalidInput: a bound is broken, or the cursor is not of this listing.
            NotAllowed: the project is not the caller's.
        """
        limit = page_limit(asked.limit)
        if asked.project not in (None, identity.project):
            raise NotAllowed("this token is for another project")
        if len(asked.q or "") > SEARCH_CHARS_MAX:
            raise InvalidInput("q", f"at most {SEARCH_CHARS_MAX} characters")
        listing = _listing(asked)
        before = self._cursors.read(identity, listing, asked.cursor) if asked.cursor else None
        query = Query(table=Table.TASK, where=_where(identity, asked), before=before, limit=limit)
        read = self._archive.tasks if asked.archived else self._store.query
        if asked.q:
            found, place = await _search(read, query, asked.q.casefold())
        else:
            page = await read(query)
            found, place = [row for row in page.rows if isinstance(row, Task)], page.next
        after = self._cursors.make(identity, listing, place) if place else None
        return TaskPage(tuple(found), after)

    async def task(self, identity: Identity, text: str) -> TaskShown:
        """Return all about one task; raises `NotFound` and `Ambiguous`."""
        task, kept = await self.look(identity, text)
        if kept is not None:
            return TaskShown(
                task=task,
                body=kept.body,
                result=kept.results[0] if kept.results else None,
                cost=self.costs.of_archived(identity, kept),
                archived_at=kept.archived_at,
            )
        body, *_ = await self._store.get([(Table.BODY, task.id)])
        edges = await self._store.query(
            Query(table=Table.EDGE, where={"task": [task.id]}, limit=DEPENDENCIES_MAX)
        )
        results = await self._results(task.id, limit=1)
        return TaskShown(
            task=task,
            body=body if isinstance(body, TaskBody) else None,
            edges=tuple(row for row in edges.rows if isinstance(row, Edge)),
            result=results[0] if results else None,
            activity=self._activities.get(task.id) if task.state.held else None,
            cost=await self.costs.of_task(identity, task),
        )

    async def results(self, identity: Identity, text: str) -> ResultList:
        """Return the newest results of a task.

        Who may adopt also sees those of a task that a restored store does not know any more.
        """
        may_adopt = policy.reach(identity, Action.TASK_ADOPT) is Reach.ANY
        if may_adopt and identity.project == DEFAULT_PROJECT and text.isalnum():
            lost = await self._results(TaskId(text), limit=RESULTS_KEPT)
            if lost and await self._store.get([(Table.TASK, text)]) == [None]:
                return ResultList(lost)
        task, kept = await self.look(identity, text)
        if kept is not None:
            return ResultList(kept.results)
        return ResultList(await self._results(task.id, limit=RESULTS_KEPT))

    async def kept(self, task: TaskId, attempt: int) -> dict[MachineId, Fence]:
        """Return who reported an attempt, and the fence of each one's newest result.

        Raises:
            NotFound: nobody did, or what was reported is not kept any more.
        """
        found: dict[MachineId, Fence] = {}
        for row in await self._results(task, limit=RESULTS_KEPT):
            if row.fence.attempt == attempt:
                found.setdefault(row.machine, row.fence)
        if not found:
            raise NotFound(f"there is no kept result of attempt {attempt}")
        return found

    async def events(self, identity: Identity, text: str, *, after: int, limit: int) -> EventPage:
        """Return what happened to a task after a sequence."""
        task, kept = await self.look(identity, text)
        limit = page_limit(limit)
        records: Sequence[LogRecord | Told]
        if kept is not None:
            records = [told for told in kept.events if told.seq > after][: limit + 1]
        else:
            records = await self._store.read(task_log(task.id), after, limit + 1)
        shown = tuple(EventRecord(record.seq, record.record) for record in records[:limit])
        last = shown[-1].seq if shown else after
        return EventPage(shown, last, more=len(records) > limit)

    async def logs(
        self,
        identity: Identity,
        text: str,
        *,
        offset: int | None = None,
        attempt: int | None = None,
    ) -> LogTail:
        """Return the end of the newest log that is here, with the attempt that wrote it.

        With `offset` or `attempt`, the part of a log that begins there, from its machine.

        Raises:
            NotFound: there is no such task or attempt, or nothing of its log.
            Unavailable, Timeout: its machine is away, or does not answer.
        """
        task = await self.find(identity, text)
        if offset is None and attempt is None:
            tail = self._activities.tail(task.id)
            return LogTail(task.id, *(tail or (task.attempt, "", None)))
        fence, machine = _holder(task, attempt)
        part = await self._remote_logs.read(machine, task.id, fence, offset or 0)
        if not part.size:
            raise NotFound(f"its machine has no log of attempt {fence.attempt}")
        return LogTail(task.id, fence.attempt, part.text, part.next, part.size)

    async def find(self, identity: Identity, text: str) -> Task:
        """Return the task of an id, an unambiguous part of one, or `@last` (the caller's newest).

        Raises:
            NotFound: there is no such task, or not in the caller's project.
            Ambiguous: several tasks have this part.
            Archived: it is in the archive, so it can only be read.
        """
        task, kept = await self.look(identity, text)
        if kept is not None:
            at = utc(kept.archived_at)
            raise Archived(f"{task.id} is in the archive since {at}: it can be read, not changed")
        return task

    async def look(self, identity: Identity, text: str) -> tuple[Task, Dossier | None]:
        """Return the task as `find` does, or one in the archive with all that is kept of it.

        Raises:
            NotFound, Ambiguous: as `find`.
        """
        missing = NotFound("there is no such task, or not for this token")
        if not 1 <= len(text) <= ID_CHARS_MAX or not (text == LAST or text.isalnum()):
            raise missing
        if text == LAST:
            mine = _where(identity, TaskFilter(submitter=identity.user))
            newest = await self._store.query(Query(table=Table.TASK, where=mine, limit=1))
            found = [row for row in newest.rows if isinstance(row, Task)]
        else:
            found = await self._by_fragment(identity, text.lower())
        if not found and text != LAST:
            found = await self._archived(identity, text.lower())
            if len(found) == 1:
                kept = await self._archive.get(found[0].id)
                if kept is not None:
                    return kept.task, kept
        if not found:
            raise missing
        if len(found) > 1:
            ids = ", ".join(task.id for task in found[:_SHOWN_MAX])
            raise Ambiguous(f"several tasks have {text} in their id: {ids}")
        return found[0], None

    async def _archived(self, identity: Identity, text: str) -> list[Task]:
        kept = await self._archive.get(text)
        if kept is not None:
            return [kept.task] if kept.task.project == identity.project else []
        where = _where(identity, TaskFilter())
        query = Query(table=Table.TASK, where=where, fragment=text, limit=_SHOWN_MAX + 1)
        page = await self._archive.tasks(query)
        return [row for row in page.rows if isinstance(row, Task)]

    async def _by_fragment(self, identity: Identity, text: str) -> list[Task]:
        (row,) = await self._store.get([(Table.TASK, text)])
        if isinstance(row, Task):
            return [row] if row.project == identity.project else []
        where = _where(identity, TaskFilter())
        query = Query(table=Table.TASK, where=where, fragment=text, limit=_SHOWN_MAX + 1)
        page = await self._store.query(query)
        return [row for row in page.rows if isinstance(row, Task)]

    async def _results(self, task: TaskId, *, limit: int) -> tuple[KeptResult, ...]:
        query = Query(table=Table.RESULT, prefix=f"{task}/", limit=limit)  # of `result_key`
        page = await self._store.query(query)
        return tuple(row for row in page.rows if isinstance(row, KeptResult))


async def _search(
    read: Callable[[Query], Awaitable[Page]], query: Query, words: str
) -> tuple[list[Task], str | None]:
    """Look through titles, at most so many rows at once."""
    found: list[Task] = []
    place = query.before
    for _ in range(SEARCH_ROWS_MAX // _READ_ROWS):
        step = msgspec.structs.replace(query, before=place, limit=_READ_ROWS)
        page = await read(step)
        for row in page.rows:
            assert isinstance(row, Task)
            if words in row.title.casefold():
                found.append(row)
            if len(found) == query.limit:
                return found, row.id
        place = page.next
        if place is None:
            break
    return found, place


def reporter(named: Mapping[MachineId, str], attempt: int, wanted: str | None) -> MachineId:
    """Return the machine (by id or name; None: the only one) whose result of an attempt is meant.

    Raises:
        NotFound: that machine reported none.
        Ambiguous: several did, and none was named.
    """
    found = [machine for machine, name in named.items() if wanted in (None, machine, name)]
    if not found:
        raise NotFound(f"there is no kept result of attempt {attempt} of machine {wanted}")
    if len(found) > 1:
        times = Counter(named.values())
        names = [named[it] if times[named[it]] == 1 else it for it in found]
        shown = ", ".join(sorted(names))
        raise Ambiguous(f"several machines reported attempt {attempt}, so name one: {shown}")
    return found[0]


def page_limit(limit: int) -> int:
    """Return `limit` if a page may be so long; raises `InvalidInput`."""
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidInput("limit", f"from 1 to {PAGE_MAX}")
    return limit


def _holder(task: Task, attempt: int | None) -> tuple[Fence, MachineId]:
    """Return the fence and the machine of an attempt, by default the newest."""
    for fence, machine in reversed(moves.holders(task)):
        if attempt in {None, fence.attempt}:
            return fence, machine
    raise NotFound("there is no such attempt, or it is too long ago")


def _where(identity: Identity, asked: TaskFilter) -> dict[str, Sequence[str]]:
    where: dict[str, Sequence[str]] = {"project": [identity.project]}
    if asked.state:
        where["state"] = [state.value for state in asked.state]
    if asked.submitter:
        where["submitter"] = [identity.user if asked.submitter == "@me" else asked.submitter]
    return where


def _listing(asked: TaskFilter) -> str:
    states = ",".join(sorted(state.value for state in asked.state))
    kept = "&archived" * asked.archived
    return f"tasks?{states}&{asked.submitter or ''}&{asked.q or ''}{kept}"
