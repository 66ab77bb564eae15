"""What must be true of mailboxes, looked at with every durable batch.

It keeps rows of its own, and knows of the hub's code only how rows are named.
"""

from typing import Final

from agentcom.model import address
from agentcom.model.batch import Batch, Change, Delete, Table
from agentcom.model.message import Delivery, Entry, Head, Message, Sort, Why, owner_of
from agentcom.testing.simulation.trace import Trace

LIFE_MS: Final = 86_400_000
"""No run is longer; so what expires in one was sent to expire soon."""
_RANK: Final = {state: rank for rank, state in enumerate(Delivery)}


class MailChecks:
    """The mailboxes of a run."""

    def __init__(self, trace: Trace) -> None:
        self.messages: dict[str, Message] = {}
        self.boxes: dict[str, dict[int, Entry]] = {}
        """Mailbox -> its places."""
        self._heads: dict[str, Head] = {}
        self._newest: dict[str, int] = {}
        self._check = trace.check

    def forget(self) -> None:
        """Begin anew: the store is another one."""
        self.messages.clear()
        self.boxes.clear()
        self._heads.clear()
        self._newest.clear()

    def take(self, batch: Batch) -> None:
        """Take down what a batch brings, and look at it."""
        touched: dict[str, None] = {}
        for change in batch.changes:
            if change.table is Table.MESSAGE and not isinstance(change, Delete):
                assert isinstance(change.row, Message)
                self.messages[change.key] = change.row
        for change in batch.changes:
            if change.table is Table.ENTRY and change.key.startswith("mail/"):
                touched[change.key.rpartition("/")[0]] = None
                self._entry(change)
            elif change.table is Table.HEAD and change.key.startswith("mail/"):
                touched[change.key] = None
                assert not isinstance(change, Delete)
                assert isinstance(change.row, Head)
                self._heads[change.key] = change.row
        for log in touched:
            self._box(log)

    def is_taken(self, log: str, message: str) -> bool:
        """Return whether the reader of a mailbox has taken a message, or its time was over."""
        state = self.state_of(log, message)
        return state is not None and state.over

    def state_of(self, log: str, message: str) -> Delivery | None:
        """Return how far a message has come in a mailbox; None if it is not there."""
        places = self.boxes.get(log, {}).values()
        return next((place.state for place in places if place.message == message), None)

    def has(self, log: str, message: str) -> bool:
        """Return whether a message stands in a mailbox."""
        return self.state_of(log, message) is not None

    def open(self, log: str, after: int = 0) -> list[int]:
        """Return the places of a mailbox that are open, in order."""
        box = self.boxes.get(log, {})
        return sorted(seq for seq, place in box.items() if seq > after and not place.state.over)

    def _entry(self, change: Change) -> None:
        check = self._check
        log, _, number = change.key.rpartition("/")
        seq, box = int(number), self.boxes.setdefault(log, {})
        before = box.get(seq)
        if isinstance(change, Delete):
            check("only mail that is over goes", before is not None and before.state.over, before)
            del box[seq]
            return
        entry = change.row
        assert isinstance(entry, Entry)
        if before is None:
            follows = seq == self._newest.get(log, 0) + 1
            check("a mailbox has no gaps", follows, (entry, self._newest.get(log)))
            twice = [one for one in box.values() if one.message == entry.message]
            check("nobody gets a message twice", not twice, twice)
            self._newest[log] = seq
            self._wakes(entry)
        else:
            check("a place keeps its message", entry.message == before.message, (before, entry))
            forward = _RANK[entry.state] >= _RANK[before.state] and not before.state.over
            check("mail only goes forward", forward, (before, entry))
            self._ends(before, entry)
        box[seq] = entry

    def _ends(self, before: Entry, entry: Entry) -> None:
        """What is sent to stay does not expire, and is taken only by whom it was shown to."""
        message = self.messages.get(entry.message)
        ends = 0 if message is None else message.expires_at or 0
        if message is None or message.at + LIFE_MS >= ends:
            return
        expired = entry.state is Delivery.EXPIRED
        self._check("what is to stay does not expire", not expired, (entry, message))
        if entry.state is Delivery.ACKED:
            self._check("nothing is taken unseen", before.state is Delivery.SEEN, (before, entry))

    def _wakes(self, entry: Entry) -> None:
        message = self.messages.get(entry.message)
        self._check("a message is stored with its places", message is not None, entry)
        if message is None or not entry.wakes:
            return
        owner = owner_of(entry.log)
        self._check("no message wakes its author", owner != message.sender, entry)
        called = entry.why is not Why.BROADCAST or message.sort is Sort.ANSWER
        rightly = called and message.urgency > 0 and address.agent_of(owner) is not None
        self._check("only agents are woken, and for what is theirs", rightly, (entry, message))

    def _box(self, log: str) -> None:
        check, head, box = self._check, self._heads.get(log), self.boxes.get(log, {})
        check("a mailbox has a head", head is not None, log)
        if head is None:
            return
        check("a head names the newest place", head.seq == self._newest.get(log, 0), head)
        still = [place for place in box.values() if not place.state.over]
        check("a head counts what is open", head.open == len(still), (head, len(still)))
        size = sum(place.bytes for place in still)
        check("a head counts what is open", head.open_bytes == size, (head, size))
        first = min((place.seq for place in still), default=head.seq + 1)
        check("what is settled is over", head.settled < first, (head, first))
        for place in still:
            if place.seq <= head.passed:
                named = self.messages[place.message].ack_required
                check("what was passed is taken", named, (head, place))
