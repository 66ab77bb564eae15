"""Agents and people who lock names and files, and whether they get what a lock promises.

They call the hub as MCP and HTTP do. Every durable batch is looked at: patterns are compared on a
few paths, and who waits for whom is found anew each time, not as the core does it.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final

from agentcom.model.batch import Batch, Change, Delete, Insert, Table, Update
from agentcom.model.errors import AgentComError
from agentcom.model.event import EventKind
from agentcom.model.identity import Identity
from agentcom.model.ids import Fence, TaskId, UserId, WallTime
from agentcom.model.lock import Lock
from agentcom.model.task import Task
from agentcom.protocol import calls, told
from agentcom.testing.simulation.bounds import PATHS
from agentcom.testing.simulation.kernel import SECOND
from agentcom.testing.simulation.talker import (
    AGAIN_US,
    OPERATOR,
    TRIES_MAX,
    Attempt,
    Talker,
    agent_of,
    person,
)

REPO: Final = "https://git.example/repo.git"
PAUSE_US: Final = 12 * SECOND
"""Mean time between two who ask for a lock."""
TTL_MAX_MS: Final = 120_000
NAMES: Final = ("deploy", "db", "docs")
CLAIMS: Final = (("src/**",), ("src/a.py",), ("docs/*", "src/b/**"))
SAMPLES: Final = (*NAMES, *PATHS)
"""What patterns are compared on."""

Owner = str
_EXCLUDE: Final = "locks exclude one another"
_FILES: Final = "a lock and a claim of files exclude each other"


class Locksmith(Talker):
    """All locks of a run: it has them asked for, and knows their rows."""

    kind = "locks"
    pause_us = PAUSE_US

    def __init__(self, *of_a_run: Any) -> None:
        super().__init__(*of_a_run)
        self.rows: dict[str, Lock] = {}
        self._newest = 0
        """The highest number that was ever given, also by a store that was lost."""
        self._got: dict[str, str] = {}
        """Request key -> lock."""
        self._back: dict[TaskId, Fence] = {}
        """Attempts that came back: what they had claimed may have been given away meanwhile."""

    @property
    def rests(self) -> bool:
        """Whether no lock is left."""
        return not self.rows

    def rest(self) -> None:
        """Break what lasts beyond its longest time, since a clock was set back meanwhile."""
        wall = self._hub.clock.now().wall
        for lock in list(self.rows.values()):
            if lock.expires_at is not None and lock.expires_at > wall + TTL_MAX_MS:
                call = calls.LockRelease(lock=lock.id, force=True)
                self._hub.converse(call, OPERATOR, _ignore, key=f"break-{self._next()}")

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin anew with what a restored store holds; numbers go on."""
        self._era += 1
        self._got.clear()
        self.rows.clear()
        self._back.clear()
        for batch in batches:
            self._take(batch)

    # Asking ---------------------------------------------------------------------------------------

    def _think(self) -> None:
        rng = self._rng
        held = self._held()
        files = rng.random() < 0.5
        call = calls.LockAcquire(
            globs=rng.choice(CLAIMS) if files else tuple(rng.sample(NAMES, rng.choice((1, 1, 2)))),
            repo=REPO if files else "",
            shared=rng.random() < 0.3,
            ttl_ms=rng.choice((5_000, 30_000, TTL_MAX_MS)),
            wait_ms=rng.choice((0, 2_000, 20_000)),
            queue_ms=rng.choice((None, 10_000, TTL_MAX_MS)),
        )
        if held and rng.random() < 0.6:
            task = rng.choice(held)
            self._ask(call, agent_of(task), (task.id, task.fence), f"lock-{self._next()}")
            return
        who = person(UserId(f"person-{rng.randrange(self._options.people)}"))
        self._ask(call, who, None, f"lock-{self._next()}")

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _ask(
        self,
        call: calls.LockAcquire | calls.LockRelease,
        who: Identity,
        attempt: Attempt | None,
        key: str,
        tries: int = 0,
    ) -> None:
        """Ask, and ask again under the same key if nobody knows what came of it."""
        era = self._era

        def answered(answer: object) -> None:
            if era != self._era or self.stopped:
                return
            if isinstance(answer, AgentComError):
                self._trace.counts[f"lock: {answer.code}"] += 1
                if answer.retryable and tries < TRIES_MAX:
                    again = (call, who, attempt, key, tries + 1)
                    self._kernel.after(AGAIN_US, self._ask, *again)
            elif isinstance(answer, told.LockShown):
                self._had(answer, who, attempt, key)

        self._hub.converse(call, who, answered, key=key, attempt=attempt)
        if tries == 0 and self._rng.random() < 0.1:  # in doubt, it asks for the second time
            self._kernel.after(AGAIN_US, self._ask, call, who, attempt, key, TRIES_MAX)

    def _had(
        self,
        answer: told.LockShown,
        who: Identity,
        attempt: Attempt | None,
        key: str,
    ) -> None:
        lock = answer.lock.id
        same = self._got.setdefault(key, lock) == lock
        self._trace.check("one key, one lock", same, (key, lock))
        self._trace.counts["lock: held" if answer.held else "lock: waits"] += 1
        if self._rng.random() < 0.7:
            name = f"give-{self._next()}"
            call = calls.LockRelease(lock=lock)
            after_us = int(self._rng.random() * 40 * SECOND)
            self._kernel.after(after_us, self._ask, call, who, attempt, name)

    # Looking --------------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """Look at a durable batch, which the books have taken down."""
        before = self._take(batch)
        for append in batch.appends:
            record = append.record
            if record.kind is EventKind.RESUMED:
                self._back[record.task] = self._books().tasks[record.task].fence
        if self.rows:
            self._check_attempts()
            self._check_begun(batch, before)
        changed = [c for c in batch.changes if c.table is Table.LOCK]
        # A batch has its rows as they were first touched, not in the order of the grants.
        for change in sorted(changed, key=_number):
            if not isinstance(change, Delete) and change.key in self.rows:
                lock = self.rows[change.key]
                old = before.get(lock.id)
                if lock.granted_at is not None and (old is None or old.granted_at is None):
                    self._check_given(lock, was_waiting=old is not None)
                elif lock.granted_at is None:
                    self._check_waits(lock)

    def _take(self, batch: Batch) -> dict[str, Lock]:
        before = dict(self.rows) if any(c.table is Table.LOCK for c in batch.changes) else self.rows
        for change in batch.changes:
            match change:
                case Insert(row=Lock() as lock) | Update(row=Lock() as lock):
                    self.rows[lock.id] = lock
                case Delete(table=Table.LOCK, key=key):
                    del self.rows[key]
                case _:
                    pass
        return before

    def _check_given(self, lock: Lock, *, was_waiting: bool) -> None:
        check = self._trace.check
        check("numbers of locks grow", lock.number > self._newest, (lock, self._newest))
        self._newest = lock.number
        rivals = [one for one in self.rows.values() if _conflict(one, lock)]
        held = [one for one in rivals if one.granted_at is not None]
        check(_EXCLUDE, not held, (lock, held))
        early = [one for one in rivals if one.granted_at is None and one.id < lock.id]
        if not was_waiting:  # who waits for its owner anyway does not count
            early = [one for one in early if _owner(lock) not in self._waits_for(one)]
        check("no lock overtakes who asked before", not early, (lock, early))
        twice = [one for one in self.rows.values() if _same(one, lock)]
        check("nobody has a lock twice", len(twice) == 1, twice)
        self._check_files(lock)

    def _check_files(self, lock: Lock) -> None:
        if not lock.repo:
            return
        for task in self._books().live.values():
            if task.state.held and task.files and self._back.get(task.id) != task.fence:
                self._trace.check(_FILES, not _claims(task, lock), (lock, task))

    def _check_waits(self, lock: Lock) -> None:
        """Nobody waits for itself, over however many others.

        Once the clock was set back, who asks later may come first, and then ends by its time alone.
        """
        if any(other > lock.id for other in self.rows):
            return
        found, look = set[Owner](), self._waits_for(lock)
        while look:
            owner = look.pop()
            if owner not in found:
                found.add(owner)
                for one in self.rows.values():
                    if _owner(one) == owner and one.granted_at is None:
                        look |= self._waits_for(one)
        self._trace.check("no lock waits for itself", _owner(lock) not in found, lock)

    def _waits_for(self, lock: Lock) -> set[Owner]:
        ahead = [one for one in self.rows.values() if _conflict(one, lock)]
        found = {_owner(one) for one in ahead if one.granted_at is not None or one.id < lock.id}
        for task in self._books().live.values():
            if task.state.held and task.files and lock.repo and _claims(task, lock):
                found.add(task.id)
        return found

    def _check_attempts(self) -> None:
        live = self._books().live
        for lock in self.rows.values():
            if lock.task is not None:
                task = live.get(lock.task)
                under_way = task is not None and task.state.held and task.fence == lock.fence
                self._trace.check("a lock ends with its attempt", under_way, (lock, task))

    def _check_begun(self, batch: Batch, before: dict[str, Lock]) -> None:
        """What begins claims no files of a lock that was there before, and still is."""
        there = [lock for lock in self.rows.values() if lock.repo and lock.id in before]
        for append in batch.appends if there else ():
            record = append.record
            task = self._books().live.get(record.task)
            if record.kind is not EventKind.ASSIGNED or task is None or not task.state.held:
                continue
            if task.files and task.attempt == record.attempt:
                shut = [lock for lock in there if _claims(task, lock)]
                self._trace.check(_FILES, not shut, (task, shut))

    def check_over(self, now: WallTime) -> None:
        """At the end of a run every lock has ended."""
        self._trace.check("every lock ends", not self.rows, (now, self.rows))


def _owner(lock: Lock) -> Owner:
    return lock.task or lock.holder


def _same(one: Lock, other: Lock) -> bool:
    return (_owner(one), one.repo, one.globs, one.shared) == (
        *(_owner(other), other.repo, other.globs),
        other.shared,
    )


def _conflict(one: Lock, other: Lock) -> bool:
    apart = (one.shared and other.shared) or _owner(one) == _owner(other)
    if apart or one.repo != other.repo:  # all locks of a simulation are of one project
        return False
    return bool(_paths(one.globs) & _paths(other.globs))


def _claims(task: Task, lock: Lock) -> bool:
    repo = next((key for key in task.keys if key.startswith("repo:")), "repo:")
    apart = task.id == lock.task or (task.files_shared and lock.shared)
    return (
        repo == f"repo:{lock.repo}" and not apart and bool(_paths(task.files) & _paths(lock.globs))
    )


def _paths(globs: tuple[str, ...]) -> set[str]:
    return {path for path in SAMPLES if any(fnmatchcase(path, glob) for glob in globs)}


def _ignore(_answer: object) -> None:
    """Nobody looks at it; the rows show what was done."""


def _number(change: Change) -> int:
    return (
        0 if isinstance(change, Delete) or not isinstance(change.row, Lock) else change.row.number
    )
