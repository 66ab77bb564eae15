"""Channels without doors: a store in memory, some people, some agents."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agentcom.core.view import PoolView
from agentcom.hub import speaking
from agentcom.hub.blobs import Blobs
from agentcom.hub.channels import Channels
from agentcom.hub.channels_members import Members
from agentcom.hub.channels_posts import Posts
from agentcom.hub.identifiers import UuidIds
from agentcom.hub.logs import Logs
from agentcom.hub.mail import Mail
from agentcom.hub.mail_reading import MailReading
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.recipients import Recipients
from agentcom.hub.rows import write
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Handler
from agentcom.hub.writing import Asked, Writer
from agentcom.model import address
from agentcom.model.agent import Agent
from agentcom.model.batch import Insert, Table
from agentcom.model.identity import Identity, Role, User
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    AgentId,
    MachineId,
    ProjectId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.message import Message
from agentcom.protocol import calls, told
from agentcom.protocol.call_table import RULES
from agentcom.protocol.calls import Call
from agentcom.store.base import Query
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore

T = TypeVar("T", bound=msgspec.Struct)
BOX = MachineId("box")


def person(name: str, role: Role = Role.SUBMITTER, project: ProjectId = DEFAULT_PROJECT) -> Speaker:
    identity = Identity(role=role, user=UserId(name), credential=name, project=project)
    return speaking.person(identity)


def agent(name: str, task: str = "t1") -> Speaker:
    identity = Identity(role=Role.AGENT, user=UserId("ann"), credential="m", machine=BOX)
    at = address.of_agent(AgentId(name))
    return Speaker(identity=identity, address=at, agent=AgentId(name), task=TaskId(task))


ANN, EVE, OPS = person("ann"), person("eve"), person("ops", Role.OPERATOR)
BOB = agent("bob")
STRANGER = person("zoe", project=ProjectId("other"))


@dataclass
class House:
    store: YieldingStore
    clock: ManualClock
    channels: Channels
    posts: Posts
    logs: Logs
    writer: Writer
    handlers: dict[type[Call], Handler] = field(default_factory=dict)

    async def do(self, who: Speaker, call: Call, key: str | None = None) -> Any:
        """Return the answer of a call, which must be of its kind."""
        asked = Asked(cause="t", key=key, payload="p")
        answer = await self.handlers[type(call)](who, call, asked)
        kind = RULES[type(call)].reply
        if isinstance(answer, msgspec.Raw):
            return msgspec.json.decode(answer, type=kind)
        assert isinstance(answer, kind)
        return answer

    async def create(self, name: str, who: Speaker = ANN, **more: Any) -> told.ChannelShown:
        shown = await self.do(who, calls.ChannelCreate(channel=name, **more))
        assert isinstance(shown, told.ChannelShown)
        return shown

    async def post(self, name: str, *texts: str, who: Speaker = ANN, **more: Any) -> told.Sent:
        sent = [
            await self.do(who, calls.ChannelPost(channel=name, body=text, **more)) for text in texts
        ]
        assert isinstance(sent[-1], told.Sent)
        return sent[-1]

    async def texts(self, name: str, who: Speaker = ANN, **asked: Any) -> list[str]:
        history = await self.do(who, calls.ChannelHistory(channel=name, **asked))
        return [letter.message.body for letter in history.letters]

    async def show(self, name: str, who: Speaker = ANN) -> told.ChannelShown:
        shown = await self.do(who, calls.ChannelShow(channel=name))
        assert isinstance(shown, told.ChannelShown)
        return shown

    async def names(self, who: Speaker = ANN, **asked: Any) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            page = await self.do(who, calls.ChannelList(after=after, **asked))
            found += [one.channel.name for one in page.channels]
            after = page.next
            if after is None:
                return found

    async def rows(self, table: Table, prefix: str | None = None) -> int:
        query = Query(table=table, prefix=prefix, limit=10_000)
        return len((await self.store.query(query)).rows)


async def build(home: Path, *, timed: bool = False) -> House:
    """Return a house; `timed`: ids begin with the time, as they do in a hub."""
    store, clock = YieldingStore(), ManualClock()
    ids = UuidIds(clock) if timed else CountingIds()
    view = PoolView(DEFAULT_POOL, incarnation=1, term=None)
    for name in ("bob", "kim", "ann"):  # ann is a person, too
        view.agents[AgentId(name)] = Agent(id=AgentId(name), machine=BOX, runtime="test")
    for speaker in (ANN, EVE, OPS, STRANGER):
        identity = speaker.identity
        user = User(
            id=identity.user, role=identity.role, created_at=WallTime(1), project=identity.project
        )
        assert await write(store, ids, Insert(Table.USER, identity.user, user))
    writer = Writer(store, clock, ids)
    logs, recipients = Logs(store, writer), Recipients(store, lambda: view)
    blobs = Blobs(home, store, writer, clock)
    boxes = Mailboxes(store, writer, logs, clock)

    async def sees(who: Speaker, message: Message) -> bool:
        return await posts.may_see(who, message) or await mail.may_see(who, message)

    mail = Mail(
        store,
        writer,
        boxes,
        recipients,
        blobs=blobs,
        sees=sees,
        view=lambda: view,
        clock=clock,
        ids=ids,
    )
    members = Members(store, writer, recipients)
    channels = Channels(store, writer, clock, logs=logs, members=members)
    posts = Posts(writer, members, mail, logs=logs, blobs=blobs, clock=clock, ids=ids)
    reading = MailReading(mail, boxes, store, sees)
    handlers = {**mail.handlers(), **reading.handlers(), **channels.handlers(), **posts.handlers()}
    return House(store, clock, channels, posts, logs, writer, handlers)
