"""All that agents and people say to each other: a hub's calls, and the services behind them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agentcom.core.facts import Fact
from agentcom.core.view import PoolView
from agentcom.hub.ask_letters import AskLetters
from agentcom.hub.asks import Asks
from agentcom.hub.blobs import FOLDER, Blobs
from agentcom.hub.broadcasts import Broadcasts
from agentcom.hub.channels import Channels
from agentcom.hub.channels_expiry import PostExpiry
from agentcom.hub.channels_members import Members
from agentcom.hub.channels_posts import Posts
from agentcom.hub.clock import Clock
from agentcom.hub.limits_guard import Budgets
from agentcom.hub.listening import Listening
from agentcom.hub.locks import LockDesk
from agentcom.hub.logs import Logs
from agentcom.hub.mail import Mail
from agentcom.hub.mail_delivery import MailDelivery
from agentcom.hub.mail_expiry import MailExpiry
from agentcom.hub.mail_reading import MailReading
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.notes import Notes
from agentcom.hub.presence import Presences
from agentcom.hub.presence_watch import PresenceWatch
from agentcom.hub.recipients import Recipients
from agentcom.hub.review_letters import ReviewLetters
from agentcom.hub.searching import Searching
from agentcom.hub.speaking import Speaker
from agentcom.hub.supervisor import ChildSpec
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.talk import Talk
from agentcom.hub.writing import Writer
from agentcom.model.ids import IdSource, WallTime
from agentcom.model.message import Message
from agentcom.model.replies import Reply
from agentcom.store.archive import Archive
from agentcom.store.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the services of a conversation work with."""

    home: Path
    store: Store
    archive: Archive
    clock: Clock
    ids: IdSource
    budgets: Budgets
    switchboard: Switchboard
    view: Callable[[], PoolView]
    ask: Callable[[Fact], Awaitable[Reply | msgspec.Raw]]
    """Brings a fact to the pool and returns its answer; raises its refusal."""
    posts_ms: int = 0
    """How long a post stays; 0: for ever."""


class Conversation:
    """Puts the services together; each offers its calls to `talk`."""

    def __init__(self, means: Means) -> None:
        self.talk = Talk(means.clock, means.budgets)
        self.writer = Writer(means.store, means.clock, means.ids)
        self.logs = Logs(means.store, self.writer)
        self.notes = Notes(means.store, self.writer, means.clock)
        self.blobs = Blobs(means.home / FOLDER, means.store, self.writer, means.clock)
        self.recipients = Recipients(means.store, means.view)
        boxes = Mailboxes(means.store, self.writer, self.logs, means.clock)
        self.mail = Mail(
            means.store,
            self.writer,
            boxes,
            self.recipients,
            blobs=self.blobs,
            sees=self.may_see,
            view=means.view,
            clock=means.clock,
            ids=means.ids,
        )
        self._open_channels(means)
        self.presence = Presences(means.store, means.view)
        self.watch = PresenceWatch(self.presence)
        self.delivery = MailDelivery(boxes, means.switchboard, means.view)
        self.expiry = MailExpiry(self.mail, boxes, means.store, self.writer, means.clock)
        self.ask_letters = AskLetters(
            self.mail, self.writer, store=means.store, clock=means.clock, view=means.view
        )
        self.review_letters = ReviewLetters(
            self.mail, self.writer, store=means.store, clock=means.clock, view=means.view
        )
        means.switchboard.on_ask = self.ask_letters.told
        means.switchboard.on_closed = self.review_letters.told
        boxes.on_arrival, boxes.on_read = self.delivery.arrived, self.delivery.read
        means.switchboard.on_pushed = self.delivery.pushed
        self.listening.on_delivered = self.delivery.followed
        self._offer(means, boxes)

    def _offer(self, means: Means, boxes: Mailboxes) -> None:
        """Let every service answer its calls."""
        services = (
            self.notes,
            self.mail,
            self.channels,
            self.posts,
            self.presence,
            Broadcasts(self.mail, boxes, self.writer, means.view),
            MailReading(self.mail, boxes, means.store, self.may_see),
            Searching(means.store, self.may_see, means.archive),
            LockDesk(
                means.ask,
                means.view,
                means.switchboard,
                writer=self.writer,
                notice=self.mail.notice,
            ),
            Asks(
                means.ask,
                means.view,
                means.switchboard,
                store=means.store,
                recipients=self.recipients,
            ),
        )
        for service in services:
            self.talk.offer(service.handlers())

    def children(self, shutdown_ms: int) -> list[ChildSpec]:
        """Return what runs beside the calls, in the order in which it starts."""
        runs = {
            "asks": self.ask_letters.run,
            "reviews": self.review_letters.run,
            "mail": self.delivery.run,
            "expiry": self.expiry.run,
        }
        return [
            ChildSpec(name=name, run=run, shutdown_ms=shutdown_ms) for name, run in runs.items()
        ]

    async def may_see(self, who: Speaker, message: Message) -> bool:
        """Return whether someone may see a message, wherever it stands."""
        return await self.posts.may_see(who, message) or await self.mail.may_see(who, message)

    async def prune(self, now: WallTime) -> int:
        """Take out of the store what is over; return how many rows went."""
        gone = await self.notes.prune(now) + await self.blobs.prune(now)
        gone += await self.channels.prune(now) + await self.posts_expiry.work(now)
        return gone + await self.ask_letters.prune(now)

    def _open_channels(self, means: Means) -> None:
        self.members = members = Members(means.store, self.writer, self.recipients)
        self.channels = Channels(
            means.store, self.writer, means.clock, logs=self.logs, members=members
        )
        self.posts_expiry = PostExpiry(means.store, self.writer, keep_ms=means.posts_ms)
        self.posts = Posts(
            self.writer,
            members,
            self.mail,
            logs=self.logs,
            blobs=self.blobs,
            clock=means.clock,
            ids=means.ids,
        )
        self.listening = Listening(self.logs, members)
