"""What those who want to know are told of tasks and questions.

Records of tasks are looked at only while some destination wants to hear of them. How far that came
is stored with what is told, so a hub that starts goes on where the one before stopped.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

from agentcom.core.view import PoolView
from agentcom.hub import errands
from agentcom.hub.notifications import News, Notifications
from agentcom.hub.switchboard import Publisher
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address
from agentcom.model.address import HUB, Address
from agentcom.model.alert import Severity
from agentcom.model.ask import Ask, AskState
from agentcom.model.batch import Append, Table
from agentcom.model.event import BESIDE, TaskEvent
from agentcom.model.ids import TaskId, UserId
from agentcom.model.message import Head
from agentcom.model.notify import ChatCard, Topic
from agentcom.model.replies import Done
from agentcom.model.task import Task, TaskState, Wait
from agentcom.store.base import Query, Store

LOG: Final = "notify/events"
APPROVE: Final = "approve"
REJECT: Final = "reject"
RECORDS_MAX: Final = 1_000
"""Records that wait to be told; what is beyond them would be a line of a digest at most."""
CATCH_UP_MAX: Final = 20_000
"""Records that a hub which starts looks through: seconds. What ended before is not told."""
CURSOR_S: Final = 60.0
"""So often it is written how far one came, if nothing was told meanwhile."""
_PAGE: Final = 500
_TOPICS: Final = (Topic.APPROVALS, Topic.TASKS)


class TaskNews:
    """Passes committed records on to `feeds`, and tells what is of interest in them."""

    def __init__(
        self,
        feeds: Publisher,
        notifications: Notifications,
        writer: Writer,
        *,
        store: Store,
        view: Callable[[], PoolView],
    ) -> None:
        self._feeds = feeds
        self._notifications = notifications
        self._writer = writer
        self._store = store
        self._view = view
        self._wanted = False
        self._records: deque[tuple[int, TaskEvent]] = deque(maxlen=RECORDS_MAX)
        self._newest = 0
        self._told = 0
        self._awaiting: set[TaskId] = set()
        """Tasks that wait for a person's word, and of which somebody was told."""
        self._news = asyncio.Event()
        notifications.on_topics = self._note_topics

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Take committed records, numbered from `first`."""
        if self._wanted:
            for seq, append in enumerate(appends, first):
                if self._matters(append.record):
                    self._records.append((seq, append.record))
                    self._news.set()
            self._newest = max(self._newest, first + len(appends) - 1)
        self._feeds.publish(first, appends)

    async def run(self) -> None:
        """Tell until cancelled; a supervisor's child."""
        await self.catch_up()
        await errands.run(self._news, self.work, within_s=lambda: CURSOR_S)

    async def work(self) -> None:
        """Tell what there is to tell now."""
        while self._records:
            seq, event = self._records[0]
            await self._tell(seq, event)
            if self._records and self._records[0][0] == seq:
                self._records.popleft()
        if self._wanted and self._newest > self._told:
            await self._tell(self._newest, None)

    def _note_topics(self) -> None:
        self._wanted = any(map(self._notifications.wants, _TOPICS))

    def _matters(self, event: TaskEvent) -> bool:
        if event.kind in BESIDE:
            return False
        ends = event.state.terminal or event.wait is Wait.APPROVAL
        return ends or event.task in self._awaiting

    async def catch_up(self) -> None:
        """Find out what waits for a person, and look through what came since the last start."""
        if not self._wanted:
            return
        tasks = self._view().tasks.values()
        self._awaiting |= {task.id for task in tasks if task.wait is Wait.APPROVAL}
        page = await self._store.query(Query(table=Table.CHAT_CARD, after="", limit=_PAGE))
        for card in cast("list[ChatCard]", page.rows):
            kind, _, name = card.about.partition("/")
            if kind == "task":
                self._awaiting.add(TaskId(name))
        (head,) = await self._store.get([(Table.HEAD, LOG)])
        if not isinstance(head, Head):
            return
        self._told = head.seq
        found: list[tuple[int, TaskEvent]] = []
        after, left = head.seq, CATCH_UP_MAX
        while left > 0:
            records = await self._store.read(None, after, _PAGE)
            for one in records:
                if self._matters(one.record):
                    found.append((one.seq, one.record))
                    if one.record.wait is Wait.APPROVAL:
                        self._awaiting.add(one.record.task)
            if len(records) < _PAGE:
                break
            after, left = records[-1].seq, left - len(records)
        known = {seq for seq, _ in self._records}
        news = [one for one in found if one[0] not in known]
        self._records = deque([*news, *self._records], maxlen=RECORDS_MAX)
        self._news.set()

    async def _tell(self, seq: int, event: TaskEvent | None) -> None:
        news = None if event is None else await self._words(event)

        async def decide(draft: Draft) -> Done:
            head = cast("Head | None", await self._writer.get(draft, Table.HEAD, LOG))
            if head is not None and head.seq >= seq:
                return Done()
            version = 1 if head is None else head.version + 1
            draft.put(Table.HEAD, LOG, Head(log=LOG, seq=seq, version=version), head)
            if news is not None:
                self._notifications.put(draft, news)
            return Done()

        await self._writer.once(HUB, Asked(cause="news"), decide)
        self._told = max(self._told, seq)

    async def _words(self, event: TaskEvent) -> News | None:
        (task,) = await self._store.get([(Table.TASK, event.task)])
        if not isinstance(task, Task):
            return None
        if event.wait is Wait.APPROVAL and event.state is TaskState.WAITING:
            self._awaiting.add(event.task)
            return _approval(task)
        if event.task in self._awaiting and event.wait is not Wait.APPROVAL:
            self._awaiting.discard(event.task)
            return _decided(task, event)
        return _ended(task, event) if event.state.terminal else None


def _approval(task: Task) -> News:
    return News(
        topic=Topic.APPROVALS,
        event="approval.needed",
        title=f"approve? {task.title}",
        text=f"{task.title}\n{task.reason or ''}\n(agentcom task approve {task.id})",
        about=f"task/{task.id}",
        project=task.project,
        person=task.submitter,
        options=(APPROVE, REJECT),
    )


def _decided(task: Task, event: TaskEvent) -> News:
    said = f"{event.kind.value} {event.detail or ''}".strip()
    return News(
        topic=Topic.APPROVALS,
        event="approval.over",
        title=f"{event.kind.value}: {task.title}",
        text=said,
        about=f"task/{task.id}",
        project=task.project,
        ended=True,
    )


def _ended(task: Task, event: TaskEvent) -> News:
    reason = f": {task.reason}" if task.reason and task.state is TaskState.FAILED else ""
    return News(
        topic=Topic.TASKS,
        event=f"task.{event.state.value}",
        title=f"{event.state.value}: {task.title}",
        text=f"task {task.id} is {event.state.value}{reason}",
        about=f"task/{task.id}",
        project=task.project,
        severity=Severity.WARNING if event.state is TaskState.FAILED else Severity.INFO,
    )


def of_ask(ask: Ask, to: Address | None) -> News | None:
    """Return what is told of a question that was put, or has ended; None: it asks no person."""
    about = f"ask/{ask.id}"
    if ask.state is not AskState.OPEN:
        by = f" by {ask.answered_by}" if ask.answered_by is not None else ""
        said = f"{ask.state.value}{by}: {ask.answer}" if ask.answer else ask.state.value
        return News(
            topic=Topic.ASKS,
            event=f"ask.{ask.state.value}",
            title=f"{ask.state.value}: {ask.question}",
            text=said,
            about=about,
            project=ask.project,
            ended=True,
        )
    person: UserId | None = None if to is None else address.user_of(to)
    if person is None:
        return None
    return News(
        topic=Topic.ASKS,
        event="ask.opened",
        title=f"{ask.asker} asks {person}",
        text=f"{ask.question}\n(agentcom ask answer {ask.id} TEXT)",
        about=about,
        project=ask.project,
        person=person,
        options=ask.options,
    )
