"""What a mailbox costs by its size: a page, a message, an acknowledgement.

Two mailboxes in one SQLite store, a small and a large one; acts alternate between them, so that
both meet the same machine. The ratio is what matters.

python -m bench.mailbox [--sizes 1000 100000] [--acts 20]
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from agentcom.core.view import PoolView
from agentcom.hub import speaking
from agentcom.hub.blobs import Blobs
from agentcom.hub.clock import SystemClock
from agentcom.hub.identifiers import UuidIds
from agentcom.hub.logs import Logs
from agentcom.hub.mail import Mail
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.recipients import Recipients
from agentcom.hub.rows import write
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model.batch import Insert, Table
from agentcom.model.identity import Identity, Role, User
from agentcom.model.ids import DEFAULT_POOL, UserId
from agentcom.model.message import Message, MessageId, Why
from agentcom.model.replies import Done
from agentcom.protocol import calls, told
from agentcom.store.sqlite import SMALL, SqliteStore

FILL_STEP: Final = 500
PAGE: Final = 20
ONCE: Final = Asked(cause="bench")
Row = dict[str, Any]


def person(name: str) -> Speaker:
    """Return someone who calls."""
    return speaking.person(Identity(role=Role.SUBMITTER, user=UserId(name), credential="c"))


WRITER: Final = person("writer")


class Post:
    """A store with mailboxes of some sizes."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "hub.sqlite", options=SMALL)
        self.clock = SystemClock()
        self.ids = UuidIds(self.clock)
        self.writer = Writer(self.store, self.clock, self.ids)
        boxes = Mailboxes(self.store, self.writer, Logs(self.store, self.writer), self.clock)
        view = PoolView(DEFAULT_POOL, incarnation=1, term=None)
        self.mail = Mail(
            self.store,
            self.writer,
            boxes,
            Recipients(self.store, lambda: view),
            blobs=Blobs(folder, self.store, self.writer, self.clock),
            sees=self._sees,
            view=lambda: view,
            clock=self.clock,
            ids=self.ids,
        )
        self.cursors: dict[int, int] = {}
        self._names = itertools.count()

    async def fill(self, size: int) -> None:
        """Make a mailbox with so many messages, the first of which is never acknowledged."""
        reader = person(f"reader-{size}")
        at = self.clock.now().wall
        user = User(id=reader.identity.user, role=Role.SUBMITTER, created_at=at)
        await write(self.store, self.ids, Insert(Table.USER, user.id, user))
        for start in range(0, size, FILL_STEP):

            async def decide(draft: Draft, start: int = start) -> Done:
                for number in range(start, min(start + FILL_STEP, size)):
                    name = MessageId(self.ids.new())
                    message = Message(
                        id=name,
                        sender=WRITER.address,
                        at=self.clock.now().wall,
                        body=f"message {number} of a long mailbox",
                        thread=name,
                        to=(reader.address,),
                        ack_required=number == 0,
                    )
                    draft.put(Table.MESSAGE, name, message, None)
                    await self.mail.put(draft, message, reader.address, Why.DIRECT)
                return Done()

            await self.writer.once("bench", ONCE, decide)
        while not await self.store.index(FILL_STEP):
            pass
        self.cursors[size] = size // 2
        call = calls.InboxRead(after=self.cursors[size], limit=1)
        await self.mail.inbox(reader, call, ONCE)

    async def page(self, size: int) -> None:
        """Acknowledge a page, and read the next one."""
        call = calls.InboxRead(after=self.cursors[size], limit=PAGE)
        page = await self.mail.inbox(person(f"reader-{size}"), call, ONCE)
        assert isinstance(page, told.Inbox)
        assert page.letters
        self.cursors[size] = page.cursor

    async def send(self, size: int) -> None:
        """Send one more message, under a key as doors do."""
        call = calls.MessageSend(to=(f"reader-{size}",), body="one more")
        asked = Asked(cause="bench", key=f"k{next(self._names)}", payload="p")
        await self.mail.send(WRITER, call, asked)

    async def ack(self, size: int) -> None:
        """Acknowledge the next message by its id."""
        reader = person(f"reader-{size}")
        call = calls.InboxRead(after=self.cursors[size], limit=1, all=True)
        page = await self.mail.inbox(reader, call, ONCE)
        assert isinstance(page, told.Inbox)
        self.cursors[size] = page.cursor
        named = calls.MessageAck(messages=(page.letters[0].message.id,))
        await self.mail.ack(reader, named, ONCE)

    async def _sees(self, who: Speaker, message: Message) -> bool:
        return await self.mail.may_see(who, message)


async def measure(sizes: Sequence[int], acts: int) -> list[Row]:
    """Return a row for each act: its median time by size, and the ratio of largest to smallest."""
    with tempfile.TemporaryDirectory() as folder:
        post = Post(Path(folder))
        await post.store.open()
        try:
            for size in sizes:
                await post.fill(size)
            return [await _compare(act, sizes, acts) for act in (post.page, post.send, post.ack)]
        finally:
            await post.store.close()


async def _compare(act: Callable[[int], Awaitable[None]], sizes: Sequence[int], acts: int) -> Row:
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(acts):
        for size in sizes:
            began = time.perf_counter()
            await act(size)
            times[size].append(time.perf_counter() - began)
    medians = {size: statistics.median(found) * 1e6 for size, found in times.items()}
    name = getattr(act, "__name__", "act")
    return {"act": name, "us": medians, "ratio": medians[sizes[-1]] / medians[sizes[0]]}


def main() -> None:
    """Print the rows."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--sizes", type=int, nargs=2, default=(1_000, 100_000))
    asked.add_argument("--acts", type=int, default=20)
    options = asked.parse_args()
    for row in asyncio.run(measure(options.sizes, options.acts)):
        costs = "  ".join(f"{size:>7}: {cost:8.0f} us" for size, cost in row["us"].items())
        print(f"{row['act']:<5}  {costs}  ratio {row['ratio']:.2f}")


if __name__ == "__main__":
    main()
