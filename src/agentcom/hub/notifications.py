"""Destinations, and the outbox of what they are to be told; who sends it: `hub/notify_sender.py`.

A notice is written together with what it is about. Its row goes once its destination has it, so
each comes at least once, and in order.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, cast

import msgspec
import structlog

from agentcom.hub import acting
from agentcom.hub.clock import Clock
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import limits
from agentcom.model.address import HUB
from agentcom.model.alert import RuleName, Severity
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict, NameTaken, NotFound
from agentcom.model.ids import IdSource, ProjectId, UserId
from agentcom.model.notify import Destination, DestinationKind, Notice, Topic
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.store.base import Query, Store
from agentcom.telemetry import events

_PAGE: Final = 500
_FOLLOWED: Final = (DestinationKind.TELEGRAM, DestinationKind.WEBHOOK)
"""Kinds that are told how a question ended, too."""
_TITLE_CHARS: Final = 300
_TEXT_CHARS: Final = 3_000  # a chat takes some 4,000 in one message

replace: Final = msgspec.structs.replace
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Something that happened, before it is known who is told."""

    topic: Topic
    event: str
    title: str
    text: str
    about: str
    severity: Severity = Severity.INFO
    project: ProjectId | None = None
    rule: RuleName | None = None
    to: tuple[str, ...] = ()
    """Destinations by name; empty: all that take it."""
    link: str = ""
    person: UserId | None = None
    options: tuple[str, ...] = ()
    ended: bool = False


class Notifications:
    """The destinations of a hub, in memory and in the store, and their outbox."""

    def __init__(self, store: Store, writer: Writer, clock: Clock, ids: IdSource) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._ids = ids
        self._rows: dict[str, Destination] = {}
        self._waiting: dict[str, int] = {}
        self._seqs = count(1)
        """Places in the queues; none is given twice while a notice stands there."""
        self._lost: dict[str, int] = {}
        """Notices for which there was no room, and that no row says so far."""
        self._topics: frozenset[Topic] = frozenset()
        self.resumed: set[str] = set()
        """Destinations that a person let go on: they wait no longer."""
        self.news = asyncio.Event()
        """Set when there is something to send, or a destination has changed."""
        self.on_topics: Callable[[], None] = lambda: None

    async def load(self) -> None:
        """Read the destinations, and count what waits for each."""
        after, newest = "", 0
        while True:
            query = Query(table=Table.DESTINATION, after=after, limit=_PAGE)
            page = await self._store.query(query)
            for row in cast("list[Destination]", page.rows):
                self._rows[row.name] = row
                waiting = await self.next_of(row.name, limits.NOTICES_MAX)
                self._waiting[row.name] = len(waiting)
                newest = max(newest, *(notice.seq for notice in waiting), 0)
            if page.next is None:
                break
            after = page.next
        self._seqs = count(newest + 1)
        self._note_topics()
        self.news.set()

    def wants(self, topic: Topic) -> bool:
        """Return whether any destination wants to hear of something."""
        return topic in self._topics

    def put(self, draft: Draft, news: News) -> int:
        """Add notices to a draft for all who are told; return how many destinations that are."""
        told = [row for row in self._rows.values() if self._takes(row, news)]
        for row in told:
            if self._waiting[row.name] >= limits.NOTICES_MAX:
                draft.after.append(partial(self._lose, row.name))
                continue
            notice = self._notice(row.name, news)
            draft.put(Table.NOTICE, notice.key, notice, None)
            draft.after.append(partial(self._added, row.name))
        return len(told)

    def _takes(self, row: Destination, news: News) -> bool:
        if news.ended and row.kind not in _FOLLOWED:
            return False
        if news.to and news.topic is Topic.ALERTS:
            return row.name in news.to
        return row.takes(news.topic, project=news.project, severity=news.severity, rule=news.rule)

    def _notice(self, destination: str, news: News) -> Notice:
        return Notice(
            id=self._ids.new(),
            destination=destination,
            seq=next(self._seqs),
            topic=news.topic,
            event=news.event,
            at=self._clock.now().wall,
            title=news.title[:_TITLE_CHARS],
            text=news.text[:_TEXT_CHARS],
            about=news.about,
            severity=news.severity,
            project=news.project,
            link=news.link,
            person=news.person,
            options=news.options,
            ended=news.ended,
        )

    def _added(self, name: str) -> None:
        if name in self._waiting:
            self._waiting[name] += 1
            self.news.set()

    def _lose(self, name: str) -> None:
        self._lost[name] = self._lost.get(name, 0) + 1
        log.warning(events.DELIVERY_LOST, destination=name)

    # Destinations ---------------------------------------------------------------------------------

    def listed(self) -> Sequence[tuple[Destination, int]]:
        """Return the destinations by name, and how many notices wait for each."""
        found = sorted(self._rows.values(), key=lambda row: row.name)
        return [(self._shown(row), self._waiting[row.name]) for row in found]

    def find(self, name: str) -> Destination:
        """Return the destination of a name; raises `NotFound`."""
        row = self._rows.get(name)
        if row is None:
            raise NotFound(f"there is no destination {name[:100]}: agentcom notify ls")
        return row

    def waiting(self, name: str) -> int:
        """Return how many notices wait for a destination; 0 if it is none any more."""
        return self._waiting.get(name, 0)

    def waiting_by_kind(self) -> Mapping[str, int]:
        """Return how many notices wait, by the kind of their destination."""
        counts: Counter[str] = Counter()
        for row in self._rows.values():
            counts[row.kind.value] += self._waiting[row.name]
        return counts

    def parked_by_kind(self) -> Mapping[str, int]:
        """Return how many destinations get nothing until a person lets them go on, by kind."""
        return Counter(row.kind.value for row in self._rows.values() if row.parked)

    def names(self) -> Sequence[str]:
        """Return all destinations for which something waits and that take it."""
        return [name for name, row in self._rows.items() if self._waiting[name] and not row.parked]

    def of_kind(self, kind: DestinationKind) -> Sequence[Destination]:
        """Return the destinations of one kind."""
        return [row for row in self._rows.values() if row.kind is kind]

    async def add(self, row: Destination) -> Destination:
        """Add a destination.

        Raises:
            NameTaken: there is one of that name.
            Conflict: there are too many.
        """
        self.check_new(row.name)

        async def decide(draft: Draft) -> Done:
            draft.put(Table.DESTINATION, row.name, row, None)
            self._audit(draft, row, "add")
            return Done()

        await self._writer.once(HUB, Asked(cause="notify"), decide)
        self._rows[row.name] = row
        self._waiting[row.name] = 0
        self._note_topics()
        self.news.set()
        return row

    def check_new(self, name: str) -> None:
        """Return if a destination of that name can be added; raises as `add` does."""
        if name in self._rows:
            raise NameTaken(f"there is a destination {name}; remove it first")
        if len(self._rows) >= limits.DESTINATIONS_MAX:
            raise Conflict(f"there are {limits.DESTINATIONS_MAX} destinations: remove some")

    async def remove(self, name: str) -> None:
        """Remove a destination with all that waits for it, and its people's accounts there."""
        row = self.find(name)
        del self._rows[name], self._waiting[name]
        self._note_topics()
        self.news.set()
        for table in (Table.NOTICE, Table.CHAT_CARD, Table.CHAT_LINK):
            await self._clear(table, f"{name}/")

        async def decide(draft: Draft) -> Done:
            draft.drop(Table.DESTINATION, name, row)
            self._audit(draft, row, "remove")
            return Done()

        await self._writer.once(HUB, Asked(cause="notify"), decide)

    async def park(self, name: str, reason: str) -> None:
        """Send nothing more to a destination until somebody lets it go on."""
        row = self.find(name)
        now = self._clock.now().wall
        await self.write(row, replace(row, parked=reason, parked_at=now, problem=reason))

    async def resume(self, name: str) -> Destination:
        """Let a parked destination go on; raises `NotFound`."""
        row = self.find(name)
        after = replace(row, parked="", parked_at=None, problem="", failures=0, next_at=None)
        row = await self.write(row, after)
        self.resumed.add(name)
        self.news.set()
        return row

    async def test(self, name: str) -> None:
        """Send a destination a notice that says that it is a test."""
        row = await self.resume(name)
        news = News(
            topic=Topic.ALERTS,
            event="test",
            title="a test of AgentCom",
            text=f"This is a test of the destination {row.name}. Nothing is wrong.",
            about="test",
            to=(name,),
        )

        async def decide(draft: Draft) -> Done:
            self.put(draft, news)
            return Done()

        await self._writer.once(HUB, Asked(cause="test"), decide)

    # The outbox -----------------------------------------------------------------------------------

    async def next_of(self, name: str, limit: int) -> Sequence[Notice]:
        """Return what waits for a destination, the oldest first."""
        query = Query(table=Table.NOTICE, prefix=f"{name}/", after=f"{name}/", limit=limit)
        return cast("list[Notice]", (await self._store.query(query)).rows)

    def found_none(self, name: str, count: int) -> None:
        """Note that nothing waits for a destination, though `count` notices were thought to."""
        if self._waiting.get(name) == count:
            self._waiting[name] = 0

    async def settled(
        self, row: Destination, notices: Sequence[Notice], after: Destination | None = None
    ) -> Destination:
        """Note that a destination has some notices; they go."""

        async def decide(draft: Draft) -> Done:
            for notice in notices:
                draft.drop(Table.NOTICE, notice.key, notice)
            self._put(draft, row, after or row)
            return Done()

        await self._writer.once(HUB, Asked(cause="notify"), decide)
        if row.name in self._waiting:
            self._waiting[row.name] = max(0, self._waiting[row.name] - len(notices))
        return self._rows.get(row.name, row)

    async def write(self, row: Destination, after: Destination) -> Destination:
        """Write how a destination is now."""
        return await self.settled(row, (), after)

    async def audit(self, name: str, how: str) -> None:
        """Note in the audit log what somebody did with a destination."""
        row = self.find(name)

        async def decide(draft: Draft) -> Done:
            self._put(draft, row, row)
            self._audit(draft, row, how)
            return Done()

        await self._writer.once(HUB, Asked(cause="notify"), decide)

    def _audit(self, draft: Draft, row: Destination, how: str) -> None:
        now, detail = self._clock.now().wall, {"how": how, "kind": row.kind.value}
        target = f"destination:{row.name}"
        draft.audits.append(acting.note(now, Action.NOTIFY_MANAGE, target, detail=detail))

    def _put(self, draft: Draft, row: Destination, after: Destination) -> None:
        """Add a destination's row to a draft, unless it was removed meanwhile."""
        old = self._rows.get(row.name)
        if old is None:
            return
        lost = self._lost.get(row.name, 0)
        new = replace(after, version=old.version + 1, lost=old.lost + lost)
        draft.put(Table.DESTINATION, row.name, new, old)

        def keep() -> None:
            if row.name in self._rows:
                self._rows[row.name] = new
                self._lost[row.name] = self._lost.get(row.name, 0) - lost
                self.news.set()

        draft.after.append(keep)

    def _shown(self, row: Destination) -> Destination:
        lost = self._lost.get(row.name, 0)
        return replace(row, lost=row.lost + lost) if lost else row

    async def _clear(self, table: Table, prefix: str) -> None:
        while True:
            query = Query(table=table, prefix=prefix, after=prefix, limit=_PAGE)
            page = await self._store.query(query)

            async def decide(draft: Draft, rows: object = page.rows) -> Done:
                for row in cast("list[Notice]", rows):
                    draft.drop(table, row.key, row)
                return Done()

            await self._writer.once(HUB, Asked(cause="notify"), decide)
            if page.next is None:
                return

    def _note_topics(self) -> None:
        self._topics = frozenset(topic for row in self._rows.values() for topic in row.topics)
        self.on_topics()
