"""Agents and people who write to each other, and whether each gets what was sent, once, in order.

They call the hub as MCP and HTTP do, and repeat what they got no answer to. Rows of mailboxes are
looked at in `mail_checks.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from agentcom.model import address
from agentcom.model.address import Address
from agentcom.model.batch import Batch
from agentcom.model.errors import AgentComError
from agentcom.model.identity import Identity
from agentcom.model.ids import DEFAULT_PROJECT
from agentcom.model.message import Delivery, Urgency, mail_log
from agentcom.protocol import calls, told
from agentcom.testing.simulation.kernel import SECOND
from agentcom.testing.simulation.mail_checks import MailChecks
from agentcom.testing.simulation.talker import (
    Attempt,
    Talker,
    agent_of,
    person,
    told_as,
)

PAUSE_US: Final = 8 * SECOND
"""Mean time between two acts."""
PAGE_MAX: Final = 6
CLOCK_MS: Final = 2 * 86_400_000
"""A clock is set by less than this: what is late at a moment is known only for what ends later."""


@dataclass(slots=True)
class _Reader:
    """What one has got."""

    cursor: int = 0
    busy: bool = False
    got: dict[int, str] = field(default_factory=dict)
    """Place -> message."""
    named: dict[str, None] = field(default_factory=dict)
    """Messages to be acknowledged by name."""
    acked: dict[str, None] = field(default_factory=dict)
    tried: dict[str, None] = field(default_factory=dict)
    """Messages that were acknowledged, with or without an answer."""


class Correspondents(Talker):
    """All who write and read."""

    kind = "mail"
    pause_us = PAUSE_US

    def __init__(self, *of_a_run: Any) -> None:
        super().__init__(*of_a_run)
        self.checks = MailChecks(self._trace)
        self._readers: dict[Address, _Reader] = {}
        self._sent: dict[str, told.Sent] = {}
        """Request key -> what was promised."""

    @property
    def rests(self) -> bool:
        """Whether people have taken all their mail."""
        return not any(self.checks.open(_log(address.of_user(one))) for one in self._people)

    def rest(self) -> None:
        """Let people read what is left."""
        for one in self._people if self._options.mail else ():
            reader = self._reader(address.of_user(one))
            if reader.named:
                self._ack(address.of_user(one), person(one), None)
            else:
                self._read(address.of_user(one), person(one), None)

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin anew with what a restored store holds."""
        self._era += 1
        self._readers.clear()
        self.checks.forget()
        for batch in batches:
            self.checks.take(batch)
        here = self.checks.messages
        self._sent = {key: sent for key, sent in self._sent.items() if sent.message in here}

    def committed(self, batch: Batch) -> None:
        """Look at a durable batch."""
        self.checks.take(batch)

    def check_over(self) -> None:
        """At the end everyone has what was sent, and people have taken it."""
        for sent in self._sent.values():
            for one in sent.to:
                log = _log(one.address)
                has = self.checks.has(log, sent.message)
                self._trace.check("what was sent is there", has, (sent, log))
                if address.user_of(one.address) is not None:
                    taken = self.checks.is_taken(log, sent.message)
                    self._trace.check("what was sent is taken in the end", taken, (sent, log))

    # Acts ---------------------------------------------------------------------------------------

    def _think(self) -> None:
        held = self._held()
        if held and self._rng.random() < 0.5:
            task = self._rng.choice(held)
            assert task.agent is not None
            self._act(address.of_agent(task.agent), agent_of(task), (task.id, task.fence))
            return
        one = self._rng.choice(self._people)
        self._act(address.of_user(one), person(one), None)

    def _act(self, me: Address, who: Identity, attempt: Attempt | None) -> None:
        chance = self._rng.random()
        if chance < 0.5:
            self._write(me, who, attempt)
        elif chance < 0.85 or not self._reader(me).named:
            self._read(me, who, attempt)
        else:
            self._ack(me, who, attempt)

    def _write(self, me: Address, who: Identity, attempt: Attempt | None) -> None:
        rng = self._rng
        names = [address.of_user(one) for one in self._people]
        names += [address.of_agent(one) for one in self._books().agents]
        others = sorted(set(names) - {me})
        if not others:
            return
        self._count += 1
        body, named = f"letter {self._count}", rng.random() < 0.3
        expires = rng.choice((None, None, 60_000, 600_000))
        if rng.random() < 0.1:
            cast_ = calls.MessageBroadcast(body=body, ack_required=named, expires_in_ms=expires)
            self._tell(cast_, who, attempt, f"letter-{self._count}")
            return
        call = calls.MessageSend(
            to=tuple(rng.sample(others, min(len(others), rng.choice((1, 1, 2, 3))))),
            body=body,
            urgency=rng.choice((Urgency.LOW, Urgency.NORMAL, Urgency.URGENT)),
            ack_required=named,
            expires_in_ms=expires,
        )
        self._tell(call, who, attempt, f"letter-{self._count}")

    def _tell(self, call: calls.Call, who: Identity, attempt: Attempt | None, key: str) -> None:
        def took(answer: object) -> None:
            self._promised(told_as(answer, told.Sent), key)

        self._send(call, who, attempt, key, took)

    def _promised(self, sent: told.Sent, key: str) -> None:
        self._trace.counts["mail: sent"] += 1
        known = self._sent.setdefault(key, sent)
        self._trace.check("one key, one message", known.message == sent.message, (key, known))
        for one in sent.to:
            has = self.checks.has(_log(one.address), sent.message)
            self._trace.check("what was sent is stored", has, sent)

    def _read(self, me: Address, who: Identity, attempt: Attempt | None) -> None:
        reader, era = self._reader(me), self._era
        if reader.busy:
            return
        again = self._rng.random() < 0.2
        after = None if again or not reader.cursor else reader.cursor
        call = calls.InboxRead(after=after, limit=self._rng.randrange(1, PAGE_MAX))
        reader.busy = True

        def answered(answer: object) -> None:
            reader.busy = False
            if era != self._era or isinstance(answer, AgentComError):
                return
            self._got(me, reader, call, told_as(answer, told.Inbox))

        self._hub.converse(call, who, answered, key=f"read-{self._kernel.now_us}", attempt=attempt)

    def _got(self, me: Address, reader: _Reader, call: calls.InboxRead, page: told.Inbox) -> None:
        check, seqs = self._trace.check, [letter.seq for letter in page.letters]
        self._trace.counts["mail: got"] += len(seqs)
        check("mail comes in order", seqs == sorted(set(seqs)), (me, seqs))
        check("mail goes on after the cursor", all(s > (call.after or 0) for s in seqs), seqs)
        now = self._hub.clock.now().wall
        for seq in self.checks.open(_log(me), call.after or 0):
            if seqs and seq < seqs[-1] and seq not in seqs:
                message = self.checks.messages[self.checks.boxes[_log(me)][seq].message]
                late = message.expires_at is not None and message.expires_at <= now + CLOCK_MS
                check("no letter is passed over", late, (me, seq, seqs))
        for name in reader.named.keys() - reader.tried.keys():
            acked = self.checks.state_of(_log(me), name) is Delivery.ACKED
            check("what must be named is not taken by reading on", not acked, (me, name))
        for letter in page.letters:
            name = letter.message.id
            same = reader.got.setdefault(letter.seq, name) == name
            check("a place keeps its message", same, (me, letter))
            check("what was acknowledged does not come", name not in reader.acked, (me, letter))
            if letter.message.ack_required:
                reader.named[name] = None
        reader.cursor = max(page.cursor, reader.cursor)

    def _ack(self, me: Address, who: Identity, attempt: Attempt | None) -> None:
        reader, era = self._reader(me), self._era
        if reader.busy:
            return
        wanted = tuple(reader.named)
        reader.busy = True
        reader.tried.update(reader.named)

        def answered(answer: object) -> None:
            reader.busy = False
            if era != self._era or isinstance(answer, AgentComError):
                return
            self._trace.counts["mail: acknowledged"] += len(wanted)
            for name in wanted:
                reader.named.pop(name, None)
                reader.acked[name] = None
                taken = self.checks.is_taken(_log(me), name)
                self._trace.check("an acknowledgement is stored", taken, (me, name))

        call = calls.MessageAck(messages=wanted)
        self._hub.converse(call, who, answered, key=f"ack-{self._kernel.now_us}", attempt=attempt)

    def _reader(self, me: Address) -> _Reader:
        return self._readers.setdefault(me, _Reader())


def _log(of: Address) -> str:
    return mail_log(DEFAULT_PROJECT, of)
