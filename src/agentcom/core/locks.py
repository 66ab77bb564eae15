"""Locks: who holds what, and who waits for whom.

Locks stand in places: a repository, whose files their patterns name, or the names of a project.
In one place two locks of different owners conflict if their patterns overlap and not both are
shared; the files that an attempt claims count as well. Who waits is served in the order of asking.
Questions only; `core/locking.py` gives and takes.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from agentcom.model import globs, ids, limits
from agentcom.model.ids import Fence, TaskId, WallTime
from agentcom.model.lock import Lock, LockId
from agentcom.model.message import Head

FILES: Final = "repo:"
NAMES: Final = "names:"
NEVER: Final = WallTime(1 << 62)
_SHOWN_MAX: Final = 20


class Claim(Protocol):
    """What someone keeps of a place."""

    @property
    def globs(self) -> tuple[str, ...]:
        """Canonical patterns."""
        ...

    @property
    def shared(self) -> bool:
        """Whether others may keep the same if they share it, too."""
        ...


Blocker = Lock | TaskId
"""What a lock waits for: another lock, or a task under way that claims files."""
Step = tuple[Lock, Blocker]


def meet(one: Claim, other: Claim) -> bool:
    """Return whether two claims in one place exclude each other."""
    return not (one.shared and other.shared) and globs.overlap(one.globs, other.globs)


def place_of(lock: Lock) -> str:
    """Return where a lock stands."""
    return f"{FILES}{lock.repo}" if lock.repo else f"{NAMES}{lock.project}"


def owner_of(lock: Lock) -> str:
    """Return whose lock it is: a task, for its attempt, or an address."""
    return lock.task or lock.holder


class Locks:
    """The locks of a pool, held and waited for."""

    __slots__ = ("_claims", "due_at", "ended", "head", "of", "places", "rows")

    def __init__(self, claims: Mapping[str, Mapping[TaskId, Claim]]) -> None:
        self._claims = claims
        """Repository -> what the attempts under way claim of its files."""
        self.rows: dict[LockId, Lock] = {}
        self.places: dict[str, dict[LockId, None]] = {}
        self.of: dict[str, dict[LockId, None]] = {}
        """Owner -> locks."""
        self.ended: dict[TaskId, Fence] = {}
        """Attempts that are over and had locks, the newest ones; a hint that a restart forgets."""
        self.head: Head | None = None
        """Which number was given last."""
        self.due_at = NEVER
        """When the one timer for their ends fires: not after the earliest."""

    def note_ended(self, task: TaskId, fence: Fence) -> None:
        """Remember for a while whose locks have ended: an attempt that was lost may come back."""
        if len(self.ended) >= limits.LOCKS_MAX:
            self.ended.clear()
        self.ended[task] = fence

    def owned(self, owner: str) -> Sequence[Lock]:
        """Return an owner's locks, the oldest first."""
        return [self.rows[lock] for lock in sorted(self.of.get(owner, ()))]

    def at(self, place: str) -> Sequence[Lock]:
        """Return the locks of a place in the order in which they were asked for."""
        return [self.rows[lock] for lock in sorted(self.places.get(place, ()))]

    def against(self, place: str, claim: Claim) -> Sequence[Lock]:
        """Return the locks of a place that exclude a claim, also those that wait."""
        return [lock for lock in self.at(place) if meet(lock, claim)]

    def waits(self, owner: str) -> Sequence[str]:
        """Return in words what an owner waits for."""
        waiting = [lock for lock in self.owned(owner) if lock.granted_at is None]
        return [
            f"it waits to lock {', '.join(lock.globs)}: "
            + ", ".join(shown(one, lock) for one in self.blockers(lock)[:_SHOWN_MAX])
            for lock in waiting
        ]

    def blockers(self, lock: Lock) -> Sequence[Blocker]:
        """Return what stands in a lock's way: what is held, and who asked before."""
        return list(self._ahead(lock))

    def is_blocked(self, lock: Lock) -> bool:
        """Return whether anything stands in a lock's way."""
        return next(self._ahead(lock), None) is not None

    def _ahead(self, lock: Lock) -> Iterator[Blocker]:
        place, owner = place_of(lock), owner_of(lock)
        for other in self.at(place):
            first = other.granted_at is not None or other.id < lock.id
            if first and owner_of(other) != owner and meet(other, lock):
                yield other
        for task, claim in self._claims.get(place, {}).items():
            if task != owner and meet(claim, lock):
                yield task

    def is_free(self, lock: Lock) -> bool:
        """Return whether a lock that is asked for now can be had at once.

        Who waits for its owner is overtaken: otherwise both would wait for each other.
        """
        return all(self._waits_for(one, owner_of(lock)) for one in self.blockers(lock))

    def _waits_for(self, one: Blocker, owner: str) -> bool:
        if not isinstance(one, Lock) or one.granted_at is not None:
            return False
        return any(_name(other) == owner for other in self.blockers(one))

    def cycle(self, lock: Lock) -> Sequence[Step]:
        """Return how a lock that would wait waits for its own owner; empty if it does not."""
        came: dict[str, tuple[str, Step]] = {}
        owner = owner_of(lock)
        look = deque([(owner, lock)])
        while look:
            by, waiting = look.popleft()
            for blocker in self.blockers(waiting):
                name = _name(blocker)
                if name in came:
                    continue
                came[name] = (by, (waiting, blocker))
                if name == owner:
                    return list(_way(came, owner))[::-1]
                look += [(name, one) for one in self.owned(name) if one.granted_at is None]
        return ()


def words(circle: Sequence[Step]) -> str:
    """Return in words who waits for whom."""
    asker = circle[0][0]
    steps = [f"{asker.holder} would wait for {shown(circle[0][1], asker)}"]
    steps += [
        f"{_whose(waiting, asker)} waits for {shown(blocker, asker)}"
        for waiting, blocker in circle[1:_SHOWN_MAX]
    ]
    return "; ".join(steps)


def shown(one: Blocker, to: Lock) -> str:
    """Return in words what stands in a lock's way, as far as its project may know."""
    if not isinstance(one, Lock):
        return f"task {ids.short(one)}"
    if one.project != to.project:
        return "a lock of another project"
    return f"{one.holder}{'' if one.granted_at is not None else ', who waits'} ({one.words})"


def _whose(lock: Lock, to: Lock) -> str:
    return lock.holder if lock.project == to.project else "another project"


def _name(one: Blocker) -> str:
    return owner_of(one) if isinstance(one, Lock) else one


def _way(came: Mapping[str, tuple[str, Step]], owner: str) -> Iterator[Step]:
    at = owner
    for _ in range(len(came)):
        at, step = came[at]
        yield step
        if at == owner:
            return
