"""Random histories of locks: against a naive book of them, and in the midst of all else."""

from itertools import product

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentcom.core.lock_facts import AcquireLock, ReleaseLock
from agentcom.model.batch import Table
from agentcom.model.errors import LockCycle
from agentcom.model.ids import TaskId
from agentcom.model.lock import Lock, LockId
from agentcom.model.replies import LockTold
from agentcom.testing.world import machine, person
from tests.core.acts import Pool

PATHS = ("a", "b", "src/x", "src/y")
COVERS = {"a": {"a"}, "b": {"b"}, "src/*": {"src/x", "src/y"}, "src/x": {"src/x"}, "**": {*PATHS}}
"""Patterns, and which of four paths each covers: all that the naive book knows of globs."""
WHO = ("ann", "bob", "cy", "agent")
MINUTE_MS = 60_000


class Naive:
    """A lock as one would write it down on paper."""

    def __init__(self, number: int, who: str, covers: set[str], *, shared: bool, ends: int) -> None:
        self.number = number
        self.who = who
        self.covers = covers
        self.shared = shared
        self.held = False
        self.ends = ends

    def conflicts(self, other: "Naive") -> bool:
        apart = self.shared and other.shared
        return self.who != other.who and not apart and bool(self.covers & other.covers)


class Paper:
    """The naive book: everything is compared with everything, each time."""

    def __init__(self) -> None:
        self.locks: dict[str, Naive] = {}

    def ahead(self, lock: Naive) -> list[Naive]:
        mine = (other for other in self.locks.values() if lock.conflicts(other))
        return [other for other in mine if other.held or other.number < lock.number]

    def waits_for(self, lock: Naive) -> set[str]:
        """Return everyone whom a lock waits for, over others too."""
        found: set[str] = set()
        look = [one.who for one in self.ahead(lock)]
        while look:
            who = look.pop()
            if who not in found:
                found.add(who)
                waiting = [one for one in self.locks.values() if one.who == who and not one.held]
                look += [ahead.who for one in waiting for ahead in self.ahead(one)]
        return found

    def may_have(self, lock: Naive) -> bool:
        return all(
            not one.held and any(other.who == lock.who for other in self.ahead(one))
            for one in self.ahead(lock)
        )

    def settle(self) -> None:
        for lock in sorted(self.locks.values(), key=lambda one: one.number):
            lock.held = lock.held or not self.ahead(lock)


class Comparison(RuleBasedStateMachine):
    """The pool and the paper say the same after every act."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Pool()
        self.paper = Paper()
        self.count = 0
        self.newest = 0
        self.task = self.begin()

    def begin(self) -> TaskId:
        task = self.world.running()
        assert self.world.task(task).state.held
        return task

    @rule(
        who=st.sampled_from(WHO),
        globs=st.sets(st.sampled_from(sorted(COVERS)), min_size=1, max_size=2),
        shared=st.booleans(),
        minutes=st.integers(1, 3),
    )
    def acquire(self, who: str, globs: set[str], *, shared: bool, minutes: int) -> None:
        ends = self.world.now_ms + minutes * MINUTE_MS
        covers = set().union(*(COVERS[glob] for glob in globs))
        naive = Naive(self.count, who, covers, shared=shared, ends=ends)
        known = self.same(who, globs, shared=shared)
        refused = (
            known is None and not self.paper.may_have(naive) and who in self.paper.waits_for(naive)
        )
        try:
            lock = self.ask(who, globs, shared=shared, ms=minutes * MINUTE_MS)
        except LockCycle:
            assert refused, "refused without a circle"
            return
        assert not refused, "a circle was let in"
        self.count += 1
        if known is not None:
            assert lock.id == known
            naive = self.paper.locks[known]
            naive.ends = ends
            return
        naive.held = self.paper.may_have(naive)
        self.paper.locks[lock.id] = naive

    def ask(self, who: str, globs: set[str], *, shared: bool, ms: int) -> Lock:
        fields = {"globs": tuple(globs), "shared": shared, "ttl_ms": ms, "queue_ms": ms}
        if who == "agent":
            fence = self.world.task(self.task).fence
            body = AcquireLock(task=self.task, fence=fence, **fields)  # type: ignore[arg-type]  # as named
            told = self.world.ask(body, machine("m1"))
        else:
            told = self.world.ask(AcquireLock(**fields), person(who))  # type: ignore[arg-type]  # as named
        assert isinstance(told, LockTold)
        return told.lock

    def same(self, who: str, globs: set[str], *, shared: bool) -> str | None:
        holder = "agent:m1" if who == "agent" else f"user:{who}"
        for lock in self.rows():
            if (lock.holder, {*lock.globs}, lock.shared) == (holder, globs, shared):
                return lock.id
        return None

    @rule(at=st.integers(0, 20), force=st.booleans())
    def release(self, at: int, *, force: bool) -> None:
        if not self.paper.locks:
            return
        lock = sorted(self.paper.locks)[at % len(self.paper.locks)]
        body = ReleaseLock(lock=LockId(lock), force=True)
        self.world.ask(body, person("op" if force else self.owner(lock)))
        del self.paper.locks[lock]
        self.paper.settle()

    def owner(self, lock: str) -> str:
        who = self.paper.locks[lock].who
        return "op" if who == "agent" else who

    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds: int) -> None:
        """Time passes, a second at a time: what ends in between frees others."""
        for _ in range(seconds):
            self.world.beat("m1", [self.world.holding(self.task)])
            self.world.advance(1_000)
            over = [k for k, one in self.paper.locks.items() if one.ends <= self.world.now_ms]
            for key in over:
                del self.paper.locks[key]
            if over:
                before = {key for key, one in self.paper.locks.items() if one.held}
                self.paper.settle()
                self.renew_ends(before)

    def renew_ends(self, before: set[str]) -> None:
        """What is given from the queue lasts from then."""
        for key, one in self.paper.locks.items():
            if one.held and key not in before:
                row = self.world.rows[Table.LOCK, key]
                assert isinstance(row, Lock)
                one.ends = self.world.now_ms + row.ttl_ms

    @rule()
    def end_attempt(self) -> None:
        self.world.finish(self.task)
        for key in [key for key, one in self.paper.locks.items() if one.who == "agent"]:
            del self.paper.locks[key]
        self.paper.settle()
        self.task = self.begin()

    @rule()
    def restart(self) -> None:
        self.world.restart()
        self.world.machine("m1", held=[self.world.holding(self.task)])

    def rows(self) -> list[Lock]:
        return [row for row in self.world.rows.values() if isinstance(row, Lock)]

    @invariant()
    def the_same(self) -> None:
        rows = {row.id: row.granted_at is not None for row in self.rows()}
        assert rows == {LockId(key): one.held for key, one in self.paper.locks.items()}
        for one, other in product(self.paper.locks.values(), repeat=2):
            assert not (one.held and other.held and one.conflicts(other))


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
