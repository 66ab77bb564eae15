"""The audit log as the hub keeps it: what has no row of its own, refusals, reading, cutting.

Acts are recorded in the transaction that does them. Refusals have none, and whoever wants to fill
the disk can bring forth as many as they like: those that are alike are one entry with a count,
few different ones are written in a time, and as long as they go on, that time grows.
"""

import asyncio
import os
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from agentcom.hub import acting
from agentcom.hub.acting import Acting
from agentcom.hub.clock import Clock
from agentcom.hub.config import HubConfig
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import page_limit
from agentcom.hub.rows import write
from agentcom.model import audit, limits
from agentcom.model.audit import AuditEntry, AuditNote, Head, Outcome
from agentcom.model.batch import Delete, Table
from agentcom.model.errors import AgentComError
from agentcom.model.identity import Identity
from agentcom.model.ids import IdSource, WallTime
from agentcom.model.usage import DAY_MS
from agentcom.protocol.audited import AuditPage
from agentcom.store.base import Query, Store
from agentcom.telemetry import events

KEY_FILE: Final = "audit.key"
_FIRST_MS: Final = 1_000  # a burst is one entry; a single refusal is there at once, for people
_KEY_BYTES: Final = 32
_OTHERS: Final = "others"
_STEP: Final = 500

replace: Final = msgspec.structs.replace
log = structlog.get_logger(__name__)

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class AuditAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries to list."""

    who: str | None = None
    action: str | None = None
    outcome: Outcome | None = None
    since: _Count | None = None
    """UTC milliseconds."""
    after: _Count | None = None
    """Only entries behind this one, the oldest first: for those who follow the log."""
    cursor: str | None = None
    limit: int = limits.PAGE_MAX


class AuditLog:
    """Reads the log, counts refusals, and cuts off what is too old."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: IdSource,
        cursors: Cursors,
        config: HubConfig,
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._cursors = cursors
        self._home = config.home
        self._keep_days = config.audit_keep_days
        self._refused: OrderedDict[tuple[str, ...], AuditNote] = OrderedDict()
        self._news = asyncio.Event()
        self._told: Head | None = None

    # What happens ---------------------------------------------------------------------------------

    async def done(self, action: str, target: str, **detail: str) -> None:
        """Record an act that writes no row.

        Raises:
            StorageFull: there is no room.
        """
        note = acting.note(self._clock.now().wall, action, target, detail=detail)
        await write(self._store, self._ids, audits=[note])

    def refused(
        self,
        acting_now: Acting,
        action: str,
        error: AgentComError,
        *,
        target: str = "",
        credential: str = "",
    ) -> None:
        """Count a refusal; it is written soon."""
        with acting.by(acting_now):
            made = acting.note(self._clock.now().wall, action, target, code=error.code)
        if credential:
            made = replace(made, credential=credential)
        key: tuple[str, ...] = (
            *(made.action, made.code, made.who),
            *(made.credential, made.address),
        )
        known = self._refused.get(key)
        if known is None and len(self._refused) >= limits.AUDIT_REFUSALS:
            key = (_OTHERS,)
            known = self._refused.get(key)
            bare = {"who": "", "credential": "", "address": "", "target": "", "cause": ""}
            made = replace(made, action=_OTHERS, code=_OTHERS, role=None, **bare)
        if known is not None:
            first = known.at if known.since is None else known.since
            made = replace(known, at=made.at, since=first, count=known.count + 1)
        self._refused[key] = made
        self._news.set()

    def failed_login(self, error: AgentComError, address: str, credential: str) -> None:
        """Count an attempt to come in, by the id of the token as far as there is one."""
        who = Acting(origin=replace(acting.now().origin, address=address))
        self.refused(who, audit.LOGIN, error, credential=credential)

    async def run(self) -> None:
        """Write refusals down from time to time; a supervisor's child."""
        pause_ms = _FIRST_MS
        try:
            while True:
                if pause_ms > _FIRST_MS and not await self._more(pause_ms):
                    pause_ms = _FIRST_MS
                await self._news.wait()
                await asyncio.sleep(pause_ms / 1_000)
                await self.flush()
                longer = max(limits.AUDIT_PAUSE_MS, pause_ms * 2)
                pause_ms = min(longer, limits.AUDIT_PAUSE_MAX_MS)
        finally:
            await self.flush()

    async def _more(self, wait_ms: int) -> bool:
        """Return whether something is refused again soon."""
        try:
            async with asyncio.timeout(wait_ms / 1_000):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def flush(self) -> None:
        """Write down what was counted."""
        self._news.clear()
        notes = [*self._refused.values()]
        self._refused.clear()
        if notes:
            with suppress(AgentComError):  # no room: the hub says so everywhere
                await write(self._store, self._ids, audits=notes)

    # Reading --------------------------------------------------------------------------------------

    async def listed(self, identity: Identity, asked: AuditAsked) -> AuditPage:
        """Return one page, the newest first (with `after` the oldest)."""
        await self.flush()
        listing = f"audit?{asked.who or ''}&{asked.action or ''}&{asked.outcome or ''}"
        before = self._cursors.read(identity, listing, asked.cursor) if asked.cursor else None
        where: dict[str, Sequence[str]] = {
            name: [str(value)]
            for name in ("who", "action", "outcome")
            if (value := getattr(asked, name)) is not None
        }
        query = Query(
            table=Table.AUDIT,
            where=where,
            before=before,
            after=None if asked.after is None else audit.key_of(asked.after),
            limit=page_limit(asked.limit),
        )
        page = await self._store.query(query)
        rows = [row for row in page.rows if isinstance(row, AuditEntry)]
        since = asked.since
        new = rows if since is None else [row for row in rows if row.at >= since]
        more = page.next is not None and len(new) == len(rows) and asked.after is None
        cursor = self._cursors.make(identity, listing, str(page.next)) if more else None
        return AuditPage(tuple(new), cursor)

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the whole log, an entry a line, as it is when it is read."""
        await self.flush()
        after = ""
        while True:
            page = await self._store.query(Query(table=Table.AUDIT, after=after, limit=_STEP))
            yield b"".join(msgspec.json.encode(row) + b"\n" for row in page.rows)
            if page.next is None:
                return
            after = page.next

    async def head(self) -> Head | None:
        """Return the head as it is now."""
        page = await self._store.query(Query(table=Table.AUDIT, limit=1))
        return next((row.head for row in page.rows if isinstance(row, AuditEntry)), None)

    # Housekeeping ---------------------------------------------------------------------------------

    async def tidy(self, now: WallTime) -> int:
        """Cut off what is older than it is kept, and tell the head; return how many went."""
        keep_ms = self._keep_days * DAY_MS
        gone = await self._cut(WallTime(now - keep_ms)) if keep_ms else 0
        head = await self.head()
        if head is not None and head != self._told:
            # Where logs are collected, this is a head that was written down elsewhere.
            log.info(events.AUDIT_HEAD, head=str(head))
            self._told = head
        return gone

    async def _cut(self, end: WallTime) -> int:
        gone = 0
        while True:
            page = await self._store.query(Query(table=Table.AUDIT, after="", limit=_STEP))
            rows = [row for row in page.rows if isinstance(row, AuditEntry)]
            old = _older(rows, end)
            if not old or len(old) == len(rows) == 1:
                return gone
            if page.next is None and len(old) == len(rows):
                old = old[:-1]  # the newest stays: the chain goes on from it
            last = old[-1]
            note = AuditNote(
                at=self._clock.now().wall,
                action=audit.CUT,
                target=f"1-{last.seq}",
                detail={"hash": last.hash, "seal": audit.seal(load_key(self._home), last.head)},
            )
            drops = [Delete(Table.AUDIT, audit.key_of(row.seq), row.version) for row in old]
            if not await write(self._store, self._ids, *drops, audits=[note]):
                return gone
            gone += len(old)


def _older(rows: Sequence[AuditEntry], end: WallTime) -> Sequence[AuditEntry]:
    """Return the first rows up to one that is not too old; a clock may have been set back."""
    for at, row in enumerate(rows):
        if row.at >= end:
            return rows[:at]
    return rows


def load_key(home: Path) -> bytes:
    """Return the key of the hub in `home`; it is made when it is first needed."""
    path = home / KEY_FILE
    with suppress(FileNotFoundError):
        return path.read_bytes()
    key = secrets.token_bytes(_KEY_BYTES)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(fd)
    return key
