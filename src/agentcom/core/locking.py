"""Giving locks and taking them back: at once, in turn, when their time or their attempt ends."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from agentcom.core import lock_facts, locks
from agentcom.core.effects import Notify, SetTimer
from agentcom.core.facts import Fact
from agentcom.core.gates import Claims, files_of
from agentcom.core.ledger import Ledger
from agentcom.core.lock_facts import LocksDue
from agentcom.core.locks import owner_of, place_of
from agentcom.core.view import PoolView
from agentcom.model import address, globs, limit, limits, policy
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput, LockCycle, NotAllowed, NotFound, Stale, TooManyLocks
from agentcom.model.identity import Identity
from agentcom.model.ids import Fence, Instant, Now, TaskId, WallTime
from agentcom.model.lock import Lock, LockId, numbers_log
from agentcom.model.message import Head
from agentcom.model.policy import Action
from agentcom.model.replies import Done, LockTold
from agentcom.model.task import Task

replace: Final = msgspec.structs.replace

TIMER: Final = "locks"
"""The one timer for the ends of all locks."""
NUMBERS_PER_S: Final = 1_000
"""Incarnations count seconds: what a restored hub gives is above what any before it gave."""


# What is asked -----------------------------------------------------------------------------------


def acquire(ledger: Ledger, fact: Fact, body: lock_facts.AcquireLock) -> LockTold:
    """Give a lock, or a place among those who wait; the same again renews it.

    Raises:
        InvalidInput: a pattern or a time makes no sense.
        Stale: the attempt that asks is over.
        TooManyLocks: there is no room for it.
        LockCycle: those it would wait for wait for its owner.
    """
    view, book = ledger.view, ledger.view.gates.locks
    asked = _asked(ledger, fact.actor, body)
    known = _same(book.owned(owner_of(asked)), asked)
    if known is not None:
        return _told(view, _renew(ledger, known, asked))
    _check_room(view, asked)
    if book.is_free(asked):
        return _told(view, _put(ledger, _granted(ledger, asked), None))
    circle = book.cycle(asked)
    if circle:
        raise LockCycle(f"{locks.words(circle)}; give something back first")
    return _told(view, _put(ledger, asked, None))


def show(ledger: Ledger, fact: Fact, body: lock_facts.ShowLock) -> LockTold:
    """Return a lock as it is; raises `NotFound`."""
    return _told(ledger.view, _find(ledger, fact, body.lock))


def release(ledger: Ledger, fact: Fact, body: lock_facts.ReleaseLock) -> Done:
    """Take a lock back from its owner, or from whom it is broken.

    Raises:
        NotFound: there is no such lock.
        NotAllowed: it is another's, and who asks may not break locks.
        Stale: the attempt that asks is over.
    """
    lock = _find(ledger, fact, body.lock)
    task = _attempt(ledger, fact.actor, body.task, body.fence)
    owner = task.id if task is not None else address.of_user(fact.actor.user)
    mine = owner_of(lock) == owner
    if not mine and not body.force:
        raise NotAllowed(f"{lock.holder} has it; an operator may break it with force")
    if not mine:
        policy.authorize(fact.actor, Action.LOCK_BREAK)
        _tell(ledger, lock, f"was broken by {ledger.actor}")
    _drop(ledger, lock)
    _settle(ledger, place_of(lock))
    return Done("released" if mine else f"broken; it was {lock.holder}'s")


def _asked(ledger: Ledger, actor: Identity, body: lock_facts.AcquireLock) -> Lock:
    """Return a lock as it would stand in the queue."""
    task = _attempt(ledger, actor, body.task, body.fence)
    if task is None and body.ttl_ms is None:
        raise InvalidInput("ttl_ms", "say how long: nothing else ends a person's lock")
    queue_ms = limits.LOCK_QUEUE_MS if body.queue_ms is None else body.queue_ms
    for name, value in (
        ("ttl_ms", 1 if body.ttl_ms is None else body.ttl_ms),
        ("queue_ms", queue_ms),
    ):
        if not 1 <= value <= limits.LOCK_TTL_MAX_MS:
            raise InvalidInput(name, f"1 to {limits.LOCK_TTL_MAX_MS} ms")
    if not body.repo.isprintable() or not 1 <= len(body.globs) <= limits.LOCK_GLOBS_MAX:
        raise InvalidInput("globs", f"1 to {limits.LOCK_GLOBS_MAX}, of a repository or names")
    agent = None if task is None else task.agent
    return Lock(
        id=LockId(ledger.ids.new()),
        holder=address.of_user(actor.user) if agent is None else address.of_agent(agent),
        at=ledger.now.wall,
        project=actor.project,
        repo=limit.repository_name(body.repo),
        globs=globs.canonical(body.globs, field="globs"),
        shared=body.shared,
        task=None if task is None else task.id,
        fence=None if task is None else task.fence,
        ttl_ms=body.ttl_ms or 0,
        expires_at=WallTime(ledger.now.wall + queue_ms),
    )


def _attempt(
    ledger: Ledger, actor: Identity, task_id: TaskId | None, fence: Fence | None
) -> Task | None:
    """Return the task whose agent asks; None if a person does."""
    if task_id is None:
        return None
    task = ledger.view.tasks.get(task_id)
    held = task is not None and task.state.held and task.fence == fence
    if task is None or not held or task.machine != actor.machine:
        raise Stale("this attempt is not yours, or is over")
    return task


def _find(ledger: Ledger, fact: Fact, lock_id: LockId) -> Lock:
    lock = ledger.view.gates.locks.rows.get(lock_id)
    if lock is None or lock.project != fact.actor.project:
        raise NotFound(f"there is no lock {lock_id}, or it is over")
    return lock


def _same(known: Sequence[Lock], asked: Lock) -> Lock | None:
    what = (asked.repo, asked.globs, asked.shared, asked.project)
    same = (one for one in known if (one.repo, one.globs, one.shared, one.project) == what)
    return next(same, None)


def _check_room(view: PoolView, asked: Lock) -> None:
    book = view.gates.locks
    if len(book.rows) >= limits.LOCKS_MAX:
        raise TooManyLocks(f"all projects together have at most {limits.LOCKS_MAX} locks")
    if len(book.of.get(owner_of(asked), ())) >= limits.LOCKS_PER_OWNER:
        raise TooManyLocks(f"at most {limits.LOCKS_PER_OWNER} locks; give some back")
    there = book.at(place_of(asked))
    if sum(len(one.globs) for one in there) + len(asked.globs) > limits.LOCK_PATTERNS_MAX:
        raise TooManyLocks(f"locks have at most {limits.LOCK_PATTERNS_MAX} patterns in one place")
    if sum(one.granted_at is None for one in there) >= limits.LOCK_WAITERS_MAX:
        raise TooManyLocks(f"at most {limits.LOCK_WAITERS_MAX} wait in one place; ask later")


def _told(view: PoolView, lock: Lock) -> LockTold:
    if lock.granted_at is not None:
        return LockTold(lock)
    behind = view.gates.locks.blockers(lock)[: limits.WAITS_ON_MAX]
    return LockTold(lock, tuple(locks.shown(one, lock) for one in behind))


# What follows ------------------------------------------------------------------------------------


def end(ledger: Ledger, task: Task) -> None:
    """Take back the locks of an attempt that ends, and see who waited for it."""
    book = ledger.view.gates.locks
    places = dict.fromkeys([files_of(task).repo] if task.files else ())
    mine = book.owned(task.id)
    if mine:
        book.note_ended(task.id, task.fence)
    for lock in mine:
        _drop(ledger, lock)
        places[place_of(lock)] = None
    for place in places:
        _settle(ledger, place)


def back(ledger: Ledger, task: Task) -> None:
    """Tell the agent of an attempt that goes on after all that its locks do not."""
    fence = ledger.view.gates.locks.ended.pop(task.id, None)
    if fence == task.fence and task.machine is not None:
        text = "your locks have ended while your machine was silent: ask again for what you need"
        ledger.effects.append(Notify(task.machine, task.id, fence, text))


def due(ledger: Ledger, _fact: Fact, _body: LocksDue) -> None:
    """End what has come to its time, and look again when the next may."""
    view, book = ledger.view, ledger.view.gates.locks
    for lock in [one for one in book.rows.values() if _is_out_of_reach(one, ledger.now.wall)]:
        ends = WallTime(ledger.now.wall + lock.ttl_ms)
        _put(ledger, replace(lock, expires_at=ends, version=lock.version + 1), lock)
    ending = sorted((at, lock.id) for lock in book.rows.values() if (at := lock.expires_at))
    over = [book.rows[one] for at, one in ending if at <= ledger.now.wall]
    places: dict[str, None] = {}
    for lock in over[: limits.CASCADE_BATCH]:
        _tell(ledger, lock, "has ended: its time is over")
        _drop(ledger, lock)
        places[place_of(lock)] = None
    for place in places:
        _settle(ledger, place)
    view.undo(setattr, book, "due_at", book.due_at)
    book.due_at = locks.NEVER
    left = [lock for lock in book.rows.values() if lock.expires_at is not None]
    for lock in sorted(left, key=lambda lock: lock.expires_at or 0)[:1]:
        _watch(ledger, lock)


def load(view: PoolView, rows: Sequence[Lock], head: Head | None) -> None:
    """Learn stored locks; for a new view."""
    view.gates.locks.head = head
    for lock in rows:
        _index(view, lock)


def timers(view: PoolView, now: Now) -> Iterator[SetTimer]:
    """Yield the timer for the ends of locks; also after the wall clock was set."""
    book = view.gates.locks
    ends = [lock.expires_at for lock in book.rows.values() if lock.expires_at is not None]
    if any(_is_out_of_reach(lock, now.wall) for lock in book.rows.values()):
        ends.append(now.wall)
    book.due_at = min(ends, default=locks.NEVER)
    if ends:
        yield _timer(book.due_at, now)


def _is_out_of_reach(lock: Lock, wall: WallTime) -> bool:
    """Return whether a lock would last for longer than was asked: the clock was set back."""
    return lock.granted_at is not None and (lock.expires_at or 0) > wall + lock.ttl_ms


def _settle(ledger: Ledger, place: str) -> None:
    """Give to those who wait what is free now, in their order."""
    book = ledger.view.gates.locks
    for lock in book.at(place):
        if lock.granted_at is None and not book.is_blocked(lock):
            after = _granted(ledger, lock)
            _put(ledger, replace(after, version=lock.version + 1), lock)
            _tell(ledger, after, f"is yours now, number {after.number}")


def _granted(ledger: Ledger, lock: Lock) -> Lock:
    now = ledger.now.wall
    ends = WallTime(now + lock.ttl_ms) if lock.ttl_ms else None
    return replace(lock, number=_number(ledger), granted_at=now, expires_at=ends)


def _number(ledger: Ledger) -> int:
    """Return a number above all that were given before, also before a restore."""
    view, book = ledger.view, ledger.view.gates.locks
    log, old = numbers_log(view.pool), book.head
    last = 0 if old is None else old.seq
    number = max(last + 1, view.incarnation * NUMBERS_PER_S)
    head = Head(log=log, seq=number, version=1 if old is None else old.version + 1)
    ledger.write(Table.HEAD, log, head, None if old is None else old.version)
    view.undo(setattr, book, "head", old)
    book.head = head
    return number


def _renew(ledger: Ledger, known: Lock, asked: Lock) -> Lock:
    ends = asked.expires_at
    if known.granted_at is not None:
        ends = WallTime(ledger.now.wall + asked.ttl_ms) if asked.ttl_ms else None
    after = replace(known, expires_at=ends, ttl_ms=asked.ttl_ms, version=known.version + 1)
    return _put(ledger, after, known)


def _put(ledger: Ledger, lock: Lock, old: Lock | None) -> Lock:
    """Write a lock's row; whoever stands behind its files is looked at again."""
    ledger.write(Table.LOCK, lock.id, lock, None if old is None else old.version)
    view, gate = ledger.view, Claims(place_of(lock))
    view.undo(view.lanes.look, gate)
    _index(view, lock)
    view.lanes.look(gate)
    _watch(ledger, lock)
    return lock


def _drop(ledger: Ledger, lock: Lock) -> None:
    ledger.write(Table.LOCK, lock.id, None, lock.version)
    view, book, gate = ledger.view, ledger.view.gates.locks, Claims(place_of(lock))
    view.undo(view.lanes.look, gate)
    view.drop(book.rows, lock.id)
    for index, key in (book.places, place_of(lock)), (book.of, owner_of(lock)):
        view.drop(index[key], lock.id)
        if not index[key]:
            view.drop(index, key)
    view.lanes.look(gate)


def _index(view: PoolView, lock: Lock) -> None:
    book = view.gates.locks
    view.put(book.rows, lock.id, lock)
    for index, key in (book.places, place_of(lock)), (book.of, owner_of(lock)):
        if key not in index:
            view.put(index, key, {})
        if lock.id not in index[key]:
            view.put(index[key], lock.id, None)


def _watch(ledger: Ledger, lock: Lock) -> None:
    """See to it that the timer fires when a lock ends, or earlier."""
    view, book = ledger.view, ledger.view.gates.locks
    if lock.expires_at is None or lock.expires_at >= book.due_at:
        return
    view.undo(setattr, book, "due_at", book.due_at)
    book.due_at = lock.expires_at
    ledger.effects.append(_timer(book.due_at, ledger.now))


def _timer(at: WallTime, now: Now) -> SetTimer:
    return SetTimer(TIMER, Instant(now.instant + max(1, at - now.wall)), LocksDue())


def _tell(ledger: Ledger, lock: Lock, what: str) -> None:
    """Let the agent whose attempt has a lock know what became of it."""
    task = ledger.view.tasks.get(lock.task) if lock.task is not None else None
    if task is not None and task.machine is not None and lock.fence is not None:
        text = f"your lock on {', '.join(lock.globs)} {what}"[: limits.NOTICE_CHARS]
        ledger.effects.append(Notify(task.machine, task.id, lock.fence, text))
