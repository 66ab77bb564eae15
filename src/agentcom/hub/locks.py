"""Locks as agents and people ask for them; what they mean is in `core/locks.py`.

A call that waits is told by the turn that gives the lock: nobody looks again and again.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, cast

import msgspec

from agentcom.core import facts, lock_facts
from agentcom.core.facts import Fact
from agentcom.core.locks import Locks, owner_of, shown
from agentcom.core.view import PoolView
from agentcom.hub import acting
from agentcom.hub.speaking import Speaker
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import limits
from agentcom.model.address import HUB, Address
from agentcom.model.errors import LockOver, NotFound
from agentcom.model.ids import ProjectId
from agentcom.model.lock import Lock, LockId
from agentcom.model.replies import Done, LockTold, Reply
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call

Notice = Callable[[Draft, ProjectId, Address, str], Awaitable[None]]
"""Puts a notice of the hub into someone's mailbox."""
_DECODER: Final = msgspec.json.Decoder(LockTold)


class LockDesk:
    """Takes calls about the locks of a pool."""

    def __init__(
        self,
        ask: Callable[[Fact], Awaitable[Reply | msgspec.Raw]],
        view: Callable[[], PoolView],
        switchboard: Switchboard,
        *,
        writer: Writer,
        notice: Notice,
    ) -> None:
        self._ask = ask
        self._view = view
        self._switchboard = switchboard
        self._writer = writer
        self._notice = notice

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {
            calls.LockAcquire: self.acquire,
            calls.LockRelease: self.release,
            calls.LockList: self.list,
        }

    async def acquire(self, who: Speaker, call: calls.LockAcquire, asked: Asked) -> Answer:
        """Ask for a lock, and wait for it as long as the call says.

        Raises:
            LockOver: it ended while the call waited, or since the same request came first.
        """
        body = lock_facts.AcquireLock(
            globs=call.globs,
            repo=call.repo,
            shared=call.shared,
            ttl_ms=call.ttl_ms,
            queue_ms=call.queue_ms,
            task=who.task,
            fence=who.fence,
        )
        found = _decoded(await self._ask(_fact(who, body, asked)))
        if found.lock.granted_at is None:
            if call.wait_ms:
                settled = partial(self._is_settled, found.lock.id)
                await self._switchboard.until(settled, call.wait_ms)
            found = await self._shown(who, found.lock.id, asked)
        elif found.lock.id not in self._locks.rows:  # a repeat, and it was had the first time
            raise LockOver
        return _shown(found)

    async def release(self, who: Speaker, call: calls.LockRelease, asked: Asked) -> Answer:
        """Give a lock back, leave its queue, or break another's, who is told."""
        body = lock_facts.ReleaseLock(
            lock=LockId(call.lock), force=call.force, task=who.task, fence=who.fence
        )
        lock = self._locks.rows.get(body.lock)
        done = await self._ask(_fact(who, body, asked))
        # An agent hears it through its machine.
        if lock is not None and lock.task is None and lock.holder != who.address:
            await self._tell(lock, f"your {lock.words} was broken by {who.address}", asked)
        return done

    async def list(self, who: Speaker, call: calls.LockList, _asked: Asked) -> Answer:
        """Return the locks of the project, held ones first, then in their order."""
        owner = who.task or who.address
        book = self._locks
        rows = [
            lock
            for lock in book.rows.values()
            if lock.project == who.project and not (call.mine and owner_of(lock) != owner)
        ]
        rows.sort(key=lambda lock: (lock.granted_at is None, lock.id))
        page = rows[: call.limit]
        return told.LocksShown(
            locks=tuple(_shown(LockTold(lock, _behind(book, lock))) for lock in page),
            left_out=len(rows) - len(page),
        )

    @property
    def _locks(self) -> Locks:
        return self._view().gates.locks

    def _is_settled(self, lock: LockId) -> bool:
        """Return whether a lock is had, or over."""
        row = self._locks.rows.get(lock)
        return row is None or row.granted_at is not None

    async def _tell(self, lock: Lock, text: str, asked: Asked) -> None:
        async def decide(draft: Draft) -> Done:
            await self._notice(draft, lock.project, lock.holder, text)
            return Done()

        await self._writer.once(HUB, Asked(cause=asked.cause), decide)

    async def _shown(self, who: Speaker, lock: LockId, asked: Asked) -> LockTold:
        fact = Fact(body=lock_facts.ShowLock(lock), actor=who.identity, cause=asked.cause)
        try:
            return _decoded(await self._ask(fact))
        except NotFound:
            raise LockOver from None


def _fact(who: Speaker, body: facts.Body, asked: Asked) -> Fact:
    key = asked.key
    if key is not None and who.task is not None:  # agents choose their keys by themselves
        key = hashlib.sha256(f"{who.task}/{key}".encode()).hexdigest()
    breaks = isinstance(body, lock_facts.ReleaseLock) and body.force
    return Fact(
        body=body,
        actor=who.identity,
        cause=asked.cause,
        key=key,
        payload=asked.payload or None,
        origin=acting.now().origin if breaks else None,
    )


def _decoded(reply: Reply | msgspec.Raw) -> LockTold:
    if isinstance(reply, msgspec.Raw):
        return _DECODER.decode(reply)
    return cast("LockTold", reply)


def _behind(book: Locks, lock: Lock) -> tuple[str, ...]:
    if lock.granted_at is not None:
        return ()
    return tuple(shown(one, lock) for one in book.blockers(lock)[: limits.WAITS_ON_MAX])


def _shown(found: LockTold) -> told.LockShown:
    lock = found.lock
    return told.LockShown(lock=lock, held=lock.granted_at is not None, behind=found.behind)
