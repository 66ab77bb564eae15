"""A house where agents and people write to each other: the services of mail on a store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agentcom.core.view import PoolView
from agentcom.hub import speaking
from agentcom.hub.blobs import Blobs
from agentcom.hub.broadcasts import Broadcasts
from agentcom.hub.logs import Logs
from agentcom.hub.mail import Mail
from agentcom.hub.mail_expiry import MailExpiry
from agentcom.hub.mail_reading import MailReading
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.recipients import Recipients
from agentcom.hub.searching import Searching
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Handler
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address
from agentcom.model.address import Address
from agentcom.model.agent import Agent
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.identity import Identity, Role, User
from agentcom.model.ids import (
    DEFAULT_POOL,
    AgentId,
    BatchId,
    Fence,
    MachineId,
    ProjectId,
    TaskId,
    UserId,
)
from agentcom.model.message import Entry, Message, MessageId, Why, mail_log
from agentcom.model.task import Task, TaskState
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.store.base import Committed, Query
from agentcom.store.memory_archive import MemoryArchive
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore

ONCE = Asked(cause="t")
BOX = MachineId("box")
A = TypeVar("A", bound=msgspec.Struct)


def person(name: str, project: str = "default") -> Speaker:
    identity = Identity(
        role=Role.SUBMITTER, user=UserId(name), credential="c", project=ProjectId(project)
    )
    return speaking.person(identity)


def agent(name: str, task: str | None = None) -> Speaker:
    identity = Identity(role=Role.AGENT, user=UserId("ann"), credential="m", machine=BOX)
    at = AgentId(name)
    return Speaker(
        identity=identity,
        address=address.of_agent(at),
        agent=at,
        task=TaskId(task or f"task-{name}"),
        fence=Fence(1, 1),
    )


ANN, CAT, ADA, BOB = person("ann"), person("cat"), agent("ada"), agent("bob")


@dataclass
class House:
    """Mail, and what it works with."""

    mail: Mail
    boxes: Mailboxes
    store: YieldingStore
    clock: ManualClock
    view: PoolView
    writer: Writer
    expiry: MailExpiry
    handlers: dict[type[Call], Handler]

    async def admit(self, *people: str, project: str = "default") -> None:
        """Let people in."""
        rows = [
            User(id=UserId(name), role=Role.SUBMITTER, created_at=self.clock.now().wall,
                 project=ProjectId(project))
            for name in people
        ]  # fmt: skip
        changes = tuple(Insert(Table.USER, row.id, row) for row in rows)
        batch = Batch(id=BatchId(f"in-{people}"), pool=DEFAULT_POOL, changes=changes)
        assert isinstance(await self.store.commit(batch), Committed)

    def employ(self, *names: str, **more: Any) -> None:
        """Add agents."""
        for name in names:
            row = Agent(id=AgentId(name), machine=BOX, runtime="test", **more)
            self.view.agents[row.id] = row

    def assign(self, name: str, task: str, project: str = "default", attempt: int = 1) -> None:
        """Let an agent work on a task."""
        row = Task(
            id=TaskId(task),
            project=ProjectId(project),
            submitter=UserId("ann"),
            title="t",
            changed_at=self.clock.now().wall,
            state=TaskState.RUNNING,
            incarnation=1,
            attempt=attempt,
            agent=AgentId(name),
            machine=BOX,
        )
        self.view.tasks[row.id] = row
        self.view.held_by.setdefault(BOX, {})[row.id] = None

    async def do(self, who: Speaker, call: calls.Call, kind: type[A], asked: Asked = ONCE) -> A:
        """Make a call, and return its answer as its kind."""
        answer = await self.handlers[type(call)](who, call, asked)
        if isinstance(answer, msgspec.Raw):
            return msgspec.json.decode(answer, type=kind)
        assert isinstance(answer, kind)
        return answer

    async def send(
        self, who: Speaker, to: str, body: str = "hello", asked: Asked = ONCE, **more: Any
    ) -> told.Sent:
        """Send to names, separated by commas."""
        call = calls.MessageSend(to=tuple(to.split(",")), body=body, **more)
        return await self.do(who, call, told.Sent, asked)

    async def inbox(self, who: Speaker, **asked: Any) -> told.Inbox:
        """Read a mailbox."""
        return await self.do(who, calls.InboxRead(**asked), told.Inbox)

    async def bodies(self, who: Speaker, **asked: Any) -> list[str]:
        """Return what a mailbox says."""
        return [letter.message.body for letter in (await self.inbox(who, **asked)).letters]

    async def ack(self, who: Speaker, *messages: str) -> told.Acked:
        """Acknowledge messages."""
        return await self.do(who, calls.MessageAck(messages=messages), told.Acked)

    async def entries(self, who: Speaker) -> list[Entry]:
        """Return the places of a mailbox as they are stored."""
        log = mail_log(who.project, who.address)
        query = Query(table=Table.ENTRY, prefix=f"{log}/", after="", limit=10_000)
        return [row for row in (await self.store.query(query)).rows if isinstance(row, Entry)]

    async def rows(self, table: Table) -> int:
        """Return how many rows of a table there are."""
        return len((await self.store.query(Query(table=table, limit=10_000))).rows)

    async def put(self, to: Address, body: str = "hello", why: Why = Why.MENTION) -> Message:
        """Put a message into a mailbox as another service does."""
        name = MessageId(f"put-{body}")
        message = Message(
            id=name, sender=CAT.address, at=self.clock.now().wall, body=body, thread=name,
            channel="general",
        )  # fmt: skip

        async def decide(draft: Draft) -> told.Told:
            await self.mail.put(draft, message, to, why)
            draft.put(Table.MESSAGE, name, message, None)
            return told.Told()

        await self.writer.once("hub", ONCE, decide)
        return message


def build(folder: Path, store: YieldingStore | None = None) -> House:
    """Return an empty house."""
    store, clock, ids = store or YieldingStore(), ManualClock(), CountingIds()
    view = PoolView(DEFAULT_POOL, incarnation=1, term=None)
    writer = Writer(store, clock, ids)
    boxes = Mailboxes(store, writer, Logs(store, writer), clock)

    async def sees(who: Speaker, message: Message) -> bool:
        return await mail.may_see(who, message)

    mail = Mail(
        store,
        writer,
        boxes,
        Recipients(store, lambda: view),
        blobs=Blobs(folder, store, writer, clock),
        sees=sees,
        view=lambda: view,
        clock=clock,
        ids=ids,
    )
    expiry = MailExpiry(mail, boxes, store, writer, clock)
    handlers = dict(mail.handlers())
    handlers.update(Broadcasts(mail, boxes, writer, lambda: view).handlers())
    handlers.update(MailReading(mail, boxes, store, sees).handlers())
    handlers.update(Searching(store, sees, MemoryArchive()).handlers())
    return House(mail, boxes, store, clock, view, writer, expiry, handlers)


async def furnish(folder: Path) -> House:
    """Return a house where the people ann and cat live, and the agents ada and bob."""
    house = build(folder)
    await house.admit("ann", "cat")
    house.employ("ada", "bob")
    return house
