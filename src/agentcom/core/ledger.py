"""What one turn leaves behind: rows to write, records to append, effects to carry out."""

from typing import Final, TypeVar

import msgspec

from agentcom.core.due_facts import WaitEnded
from agentcom.core.effects import Continue, Effect
from agentcom.core.facts import Body, Fact, Found
from agentcom.core.view import PoolView
from agentcom.model.audit import AuditNote
from agentcom.model.batch import Append, Batch, Change, Delete, Insert, Row, Table, Update
from agentcom.model.ids import AgentId, BatchId, IdSource, Now, Rng, TaskId, WallTime
from agentcom.model.limits import REQUEST_KEY_KEEP_MS

R = TypeVar("R", bound=Row)
Place = tuple[Table, str]
Mark = tuple[int, int, int, int, int]
_NO_FACT: Final = Fact(body=WaitEnded(TaskId("")))


class Ledger:
    """The books of one turn. Several changes of one row come to one write."""

    def __init__(self, view: PoolView, *, now: Now, ids: IdSource, rng: Rng) -> None:
        self.view = view
        self.now = now
        self.keys_until = WallTime(now.wall + REQUEST_KEY_KEEP_MS)
        """When the request keys of this turn may be forgotten."""
        self.ids = ids
        self.rng = rng
        self.effects: list[Effect] = []
        self.appends: list[Append] = []
        self.audits: dict[int, AuditNote] = {}
        """What the audit log gets, by the fact."""
        self.fact = _NO_FACT
        self.actor: str = _NO_FACT.actor.name
        self.looks: dict[AgentId, None] = {}
        """Agents that may be able to take work now."""
        self._writes: dict[Place, Change | None] = {}
        """What becomes of each row; None if it was neither there before nor is after."""
        self._before: list[tuple[Place, Change | None]] = []
        """What this fact wrote over."""

    def begin(self, fact: Fact) -> Mark:
        """Start one fact; return the mark for `abandon`."""
        self.fact = fact
        actor = fact.actor
        self.actor = actor.machine or actor.user
        self._before.clear()
        journal, writes = len(self.view.journal), len(self._writes)
        return journal, len(self.effects), len(self.appends), writes, 0

    def mark(self) -> Mark:
        """Return how far the books are, for `take_back`."""
        journal, before = len(self.view.journal), len(self._before)
        return journal, len(self.effects), len(self.appends), len(self._writes), before

    def abandon(self, mark: Mark) -> None:
        """Take back everything since `begin`."""
        self.take_back(mark)
        self.looks.clear()
        self.audits.pop(id(self.fact), None)

    def take_back(self, mark: Mark) -> None:
        """Take back everything since `mark`; what it brought forth besides does no harm."""
        self.view.rollback(mark[0])
        del self.effects[mark[1] :]
        del self.appends[mark[2] :]
        while len(self._before) > mark[4]:
            place, known = self._before.pop()
            self._writes[place] = known
        while len(self._writes) > mark[3]:
            self._writes.popitem()

    def write(self, table: Table, key: str, row: Row | None, old: int | None) -> None:
        """Note a row's new content (None: no row); `old` is the version that is stored now."""
        place = (table, key)
        writes = self._writes
        if place in writes:
            known = writes[place]
            self._before.append((place, known))
            old = _stored(known)
        if row is None:
            writes[place] = None if old is None else Delete(table, key, old)
        elif old is None:
            writes[place] = Insert(table, key, row)
        else:
            writes[place] = Update(table, key, row, old)

    def row(self, table: Table, key: str, found: Found) -> Row | None:
        """Return a stored row as this turn leaves it; `found` is how it was before."""
        place = (table, key)
        if place not in self._writes:
            return found.get(place)
        known = self._writes[place]
        return None if known is None or isinstance(known, Delete) else known.row

    def insert(self, table: Table, key: str, row: R) -> R:
        """Write a new row and return it; one that was deleted in this turn goes on from there."""
        stored = _stored(self._writes.get((table, key)))
        if stored is not None:
            row = msgspec.structs.replace(row, version=stored + 1)
        self.write(table, key, row, old=None)
        return row

    def ready(self, agent: AgentId) -> None:
        """Look again whether an agent can take work, at the end of this fact."""
        self.looks[agent] = None

    def again(self, body: Body) -> None:
        """Bring a fact in the next turn."""
        self.effects.append(Continue(body))

    def batch(self) -> Batch:
        """Return what this turn writes; an empty batch needs no id."""
        changes: tuple[Change, ...] = tuple(filter(None, self._writes.values()))
        return Batch(
            id=BatchId(self.ids.new() if changes or self.appends or self.audits else ""),
            pool=self.view.pool,
            term=self.view.term,
            changes=changes,
            appends=tuple(self.appends),
            audits=tuple(self.audits.values()),
        )


def _stored(change: Change | None) -> int | None:
    """Return the version that a change replaces; None if it replaces no row."""
    return None if change is None or isinstance(change, Insert) else change.expected
