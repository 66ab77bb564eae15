"""Whatever people, agents and the store do: no message is lost, doubled or out of order."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcom.core import mail
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked
from agentcom.model.batch import Batch, Table
from agentcom.model.errors import AgentComError
from agentcom.model.message import Delivery, Entry, Message, mail_log
from agentcom.store.base import Conflict, Full, Verdict
from agentcom.store.failures import CommitUnknown
from tests.hub.doubles import YieldingStore
from tests.hub.mail_house import ADA, ANN, BOB, CAT, House, build

EVERYONE = (ANN, CAT, ADA, BOB)
RANK = list(Delivery)
DAY = 86_400_000


class Send(NamedTuple):
    sender: int
    to: frozenset[int]
    named: bool
    """Whether it has to be acknowledged by name."""
    key: int


class Read(NamedTuple):
    reader: int
    back: int
    """How far before the end the cursor is; 0: at the end."""
    limit: int


class Ack(NamedTuple):
    reader: int
    which: frozenset[int]


class Wait(NamedTuple):
    days: int


Act = Send | Read | Ack | Wait
WHO = st.integers(0, 3)
ACTS = st.one_of(
    st.builds(Send, WHO, st.frozensets(WHO, min_size=1), st.booleans(), st.integers(0, 6)),
    st.builds(Read, WHO, st.integers(0, 3), st.integers(1, 5)),
    st.builds(Ack, WHO, st.frozensets(st.integers(0, 8), max_size=3)),
)
WAITS = st.lists(st.builds(Wait, st.sampled_from((1, 20, 95))), min_size=1, max_size=1)
STEPS = st.lists(st.lists(ACTS, min_size=1, max_size=4) | WAITS, min_size=1, max_size=8)
FAULTS = st.lists(st.sampled_from(("", "", "", "conflict", "full", "lost", "unknown")), max_size=20)


class FaultyStore(YieldingStore):
    """Refuses some commits, and of some does not say what became of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__()
        self.faults = list(faults)

    async def commit(self, batch: Batch) -> Verdict:
        match self.faults.pop() if self.faults else "":
            case "conflict":
                return Conflict(())
            case "full":
                return Full()
            case "lost":
                raise CommitUnknown(batch.id)
            case "unknown":
                await super().commit(batch)
                raise CommitUnknown(batch.id)
            case _:
                return await super().commit(batch)


class Model:
    """What was promised, and what has been seen of each mailbox."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.sent: dict[tuple[int, int], str] = {}
        self.promised: dict[int, set[str]] = {who: set() for who in range(4)}
        self.settled: dict[int, set[str]] = {who: set() for who in range(4)}
        self.newest = dict.fromkeys(range(4), 0)
        self.gone: dict[int, set[str]] = {who: set() for who in range(4)}
        self.before: dict[int, list[Entry]] = {who: [] for who in range(4)}

    async def do(self, act: Act) -> None:
        try:
            match act:
                case Send():
                    await self._send(act)
                case Read():
                    await self._read(act)
                case Ack():
                    await self._ack(act)
                case Wait():
                    self.house.clock.advance(act.days * DAY)
                    await self.house.expiry.work()
        except AgentComError:
            pass  # a refusal promises nothing

    async def _send(self, act: Send) -> None:
        who = EVERYONE[act.sender]
        to = sorted(act.to - {act.sender})
        names = ",".join(EVERYONE[one].address for one in to)
        asked = Asked(cause="t", key=f"{act.key}", payload=f"{act}")
        sent = await self.house.send(who, names, "x" * act.key, asked, ack_required=act.named)
        known = self.sent.setdefault((act.sender, act.key), sent.message)
        assert known == sent.message, "one key, one message"
        for one in to:
            self.promised[one].add(sent.message)

    async def _read(self, act: Read) -> None:
        who = EVERYONE[act.reader]
        head = await self.house.boxes.head(mail_log(who.project, who.address))
        after = max(0, head.seq - act.back)
        page = await self.house.inbox(who, after=after, limit=act.limit)
        seqs = [letter.seq for letter in page.letters]
        assert seqs == sorted(set(seqs)), "in order, each once"
        assert all(seq > after for seq in seqs)

    async def _ack(self, act: Ack) -> None:
        who = EVERYONE[act.reader]
        entries = await self.house.entries(who)
        wanted = [entry.message for at, entry in enumerate(entries) if at in act.which]
        if wanted:
            await self.house.ack(who, *wanted)
            self.settled[act.reader].update(wanted)

    async def check(self) -> None:
        for at, who in enumerate(EVERYONE):
            entries = await self.house.entries(who)
            await self._check_box(who, entries)
            self._check_forward(at, entries)
            names = [entry.message for entry in entries]
            assert len(set(names)) == len(names), "each once"
            lost = self.promised[at] - set(names)
            assert lost <= self.gone[at], "what was acknowledged is stored"
            taken = {e.message for e in entries if e.state in (Delivery.ACKED, Delivery.EXPIRED)}
            assert self.settled[at] & set(names) <= taken
            self.before[at] = entries

    async def _check_box(self, who: Speaker, entries: list[Entry]) -> None:
        head = await self.house.boxes.head(mail_log(who.project, who.address))
        still = [entry for entry in entries if not entry.state.over]
        assert head.open == len(still)
        assert head.open_bytes == sum(entry.bytes for entry in still)
        assert all(entry.seq > head.settled for entry in still)
        unread = await self.house.boxes.read(mail_log(who.project, who.address), head.settled, 100)
        now = self.house.clock.now().wall
        rows = await self.house.store.get([(Table.MESSAGE, one.message) for one in still])
        late = {row.id for row in rows if isinstance(row, Message) and mail.ends(row) <= now}
        shown = [entry.seq for entry in still if entry.message not in late]
        assert [one.seq for one in unread.letters] == shown

    def _check_forward(self, at: int, entries: list[Entry]) -> None:
        now = {entry.seq: entry for entry in entries}
        newest = self.newest[at]
        new = [seq for seq in now if seq > newest]
        assert new == list(range(newest + 1, newest + 1 + len(new))), "no gap"
        self.newest[at] += len(new)
        for entry in self.before[at]:
            after = now.get(entry.seq)
            if after is None:
                assert entry.state.over, "only what is over goes"
                self.gone[at].add(entry.message)
                continue
            assert after.message == entry.message
            assert RANK.index(after.state) >= RANK.index(entry.state), "only forward"


async def _play(steps: Sequence[Sequence[Act]], faults: Sequence[str], folder: Path) -> None:
    store = FaultyStore([])
    house = build(folder, store)
    await house.admit("ann", "cat")
    house.employ("ada", "bob")
    store.faults = list(faults)
    model = Model(house)
    for acts in steps:
        await asyncio.gather(*map(model.do, acts))
        await model.check()
    store.faults.clear()
    for _ in range(5):
        house.clock.advance(40 * DAY)
        await house.expiry.work()
        await model.check()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, faults=FAULTS)
def test_mailboxes_keep_their_promises(steps: list[list[Act]], faults: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(steps, faults, Path(folder)))
