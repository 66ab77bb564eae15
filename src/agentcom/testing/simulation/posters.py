"""Agents and people who post to channels: whether each post keeps its place, and who sees it.

There are two channels: the project's own, and a private one whose members change all the time.
"""

from collections.abc import Iterable
from typing import Any, Final

from agentcom.model import address
from agentcom.model.address import Address
from agentcom.model.batch import Batch, Change, Delete, Table
from agentcom.model.channel import ChannelKind, ChannelRole, Reader
from agentcom.model.errors import AgentComError, NotFound
from agentcom.model.identity import Identity
from agentcom.model.ids import DEFAULT_PROJECT
from agentcom.model.message import Entry, channel_log
from agentcom.protocol import calls, told
from agentcom.testing.simulation.kernel import SECOND
from agentcom.testing.simulation.talker import (
    OWNER,
    Attempt,
    Talker,
    agent_of,
    person,
    told_as,
)

PAUSE_US: Final = 3 * SECOND
"""Mean time between two acts."""
PAGE_MAX: Final = 6
OPEN: Final = "project"
CLOSED: Final = "den"


class Posters(Talker):
    """All who post and read."""

    kind = "channels"
    pause_us = PAUSE_US

    def __init__(self, *of_a_run: Any) -> None:
        super().__init__(*of_a_run)
        self._sent: dict[str, tuple[str, told.Sent]] = {}
        """Request key -> channel, and what was promised."""
        self._posts: dict[str, dict[int, str]] = {}
        """Log -> place -> message."""
        self._places: dict[str, Reader] = {}
        """Rows of members, by key."""
        self._changes = 0
        """Of members of the private channel."""

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin anew with what a restored store holds."""
        self._era += 1
        self._posts.clear()
        self._places.clear()
        for batch in batches:
            self.committed(batch)
        self._sent = {
            key: (name, sent)
            for key, (name, sent) in self._sent.items()
            if self._posts.get(_log(name), {}).get(sent.seq) == sent.message
        }

    def committed(self, batch: Batch) -> None:
        """Look at a durable batch."""
        stored = {change.key for change in batch.changes if change.table is Table.MESSAGE}
        for change in batch.changes:
            if change.table is Table.ENTRY and change.key.startswith("channel/"):
                self._posted(change, stored)
            elif change.table is Table.READER:
                self._moved(change)

    def check_over(self) -> None:
        """At the end every post that was promised is where it was."""
        for name, sent in self._sent.values():
            self._check_there(name, sent)

    # Rows ---------------------------------------------------------------------------------------

    def _posted(self, change: Change, stored: set[str]) -> None:
        assert not isinstance(change, Delete)
        entry = change.row
        assert isinstance(entry, Entry)
        posts = self._posts.setdefault(entry.log, {})
        self._trace.check("a channel has no gaps", entry.seq == len(posts) + 1, entry)
        self._trace.check("a post is stored with its place", entry.message in stored, entry)
        posts[entry.seq] = entry.message

    def _moved(self, change: Change) -> None:
        before = self._places.pop(change.key, None)
        row = None if isinstance(change, Delete) else change.row
        if isinstance(row, Reader):
            seen = 0 if before is None else before.seen
            self._trace.check("a place only goes forward", row.seen >= seen, (before, row))
            self._places[change.key] = row
        if (before is None) is not (row is None):
            self._changes += 1

    def _is_member(self, who: Address) -> bool:
        return f"{DEFAULT_PROJECT}/{CLOSED}/{who}" in self._places

    # Acts ---------------------------------------------------------------------------------------

    def _think(self) -> None:
        me, who, attempt = self._someone()
        name, chance = self._rng.choice((OPEN, CLOSED)), self._rng.random()
        if chance < 0.2:
            self._admit()
        elif chance < 0.6:
            self._post(name, who, attempt)
        else:
            self._read(name, me, who, attempt)

    def _someone(self) -> tuple[Address, Identity, Attempt | None]:
        held = self._held()
        if held and self._rng.random() < 0.5:
            task = self._rng.choice(held)
            assert task.agent is not None
            return address.of_agent(task.agent), agent_of(task), (task.id, task.fence)
        one = self._rng.choice(self._people)
        return address.of_user(one), person(one), None

    def _admit(self) -> None:
        """Make the private channel, or let its owner add or remove somebody."""
        key = f"den-{self._kernel.now_us}"
        if not self._is_member(address.of_user(OWNER)):
            made = calls.ChannelCreate(channel=CLOSED, kind=ChannelKind.PRIVATE)
            self._hub.converse(made, person(OWNER), _nothing, key=key)
            return
        names = [address.of_user(one) for one in self._people[1:]]
        names += [address.of_agent(one) for one in sorted(self._books().agents)]
        if names:
            role = self._rng.choice((ChannelRole.MEMBER, ChannelRole.READER, None))
            call = calls.ChannelMember(channel=CLOSED, name=self._rng.choice(names), role=role)
            self._hub.converse(call, person(OWNER), _nothing, key=key)

    def _post(self, name: str, who: Identity, attempt: Attempt | None) -> None:
        self._count += 1
        call = calls.ChannelPost(channel=name, body=f"post {self._count}")
        key = f"post-{self._count}"

        def took(answer: object) -> None:
            sent = told_as(answer, told.Sent)
            self._trace.counts["channels: posted"] += 1
            _, known = self._sent.setdefault(key, (name, sent))
            same = (known.message, known.seq) == (sent.message, sent.seq)
            self._trace.check("one key, one post", same, (known, sent))
            self._check_there(name, sent)

        self._send(call, who, attempt, key, took)

    def _read(self, name: str, me: Address, who: Identity, attempt: Attempt | None) -> None:
        era, changes, member = self._era, self._changes, self._is_member(me)
        newest = len(self._posts.get(_log(name), ()))
        after = self._rng.choice((None, None, self._rng.randrange(newest + 1)))
        call = calls.ChannelHistory(
            channel=name, after=after, unread=after is None, limit=self._rng.randrange(1, PAGE_MAX)
        )

        def answered(answer: object) -> None:
            if era != self._era:
                return
            if name == CLOSED and changes == self._changes:
                hidden = isinstance(answer, NotFound)
                seen = not isinstance(answer, AgentComError)
                if not member:
                    self._trace.check("who is no member sees nothing", not seen, (me, answer))
                elif hidden:
                    self._trace.check("a member sees its channel", holds=False, detail=me)
            if not isinstance(answer, AgentComError):
                self._got(name, after, told_as(answer, told.History))

        self._hub.converse(call, who, answered, key=f"r-{self._kernel.now_us}", attempt=attempt)

    def _got(self, name: str, after: int | None, page: told.History) -> None:
        posts, seqs = self._posts.get(_log(name), {}), [one.seq for one in page.letters]
        self._trace.counts["channels: read"] += len(seqs)
        first = seqs[0] if seqs and after is None else (after or 0) + 1
        whole = seqs == [*range(first, first + len(seqs))]
        self._trace.check("posts come in order, without a gap", whole, (name, after, seqs))
        for one in page.letters:
            same = posts.get(one.seq) == one.message.id
            self._trace.check("a post keeps its place", same, (name, one))

    def _check_there(self, name: str, sent: told.Sent) -> None:
        there = self._posts.get(_log(name), {}).get(sent.seq) == sent.message
        self._trace.check("what was posted is stored", there, (name, sent))


def _nothing(_answer: object) -> None:
    return


def _log(channel: str) -> str:
    return channel_log(DEFAULT_PROJECT, channel)
