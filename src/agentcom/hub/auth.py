"""Who is behind a token. The tokens' rows are written in `hub/credentials.py`.

What was used lately lives in a bounded cache, so that thousands of machines that come back at
once cost a digest each. Whoever keeps a connection open learns by `on_revoked` when its token
ends, and says by `hold` which tokens are in use; those of machines live on while they are.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

import msgspec
import structlog

from agentcom.hub import tokens
from agentcom.hub.acting import Acting
from agentcom.hub.clock import Clock
from agentcom.hub.limits_guard import FailureGuard
from agentcom.hub.rows import write
from agentcom.model import token_text
from agentcom.model.batch import Table, Update
from agentcom.model.errors import (
    AgentComError,
    NotAllowed,
    NotAuthenticated,
    RateLimited,
    StorageFull,
)
from agentcom.model.identity import Credential, CredentialKind, Identity
from agentcom.model.ids import IdSource, Instant, MachineId, Now, WallTime
from agentcom.model.token_text import TokenText
from agentcom.store.base import Store
from agentcom.telemetry import events

CACHE_MAX: Final = 16_384  # credentials: three times the largest fleet we promise
ENDED_MAX: Final = 4_096  # ended credentials that a connection just being opened is checked against
USED_EVERY_MS: Final = 60_000  # `last_used` is as coarse as this; else each request were a write
USED_BATCH: Final = 256  # rows of one batch
IDLE_TTL_MS: Final = 90 * 86_400_000  # who is silent so long does not stay welcome
SLIDE_MS: Final = 86_400_000  # the end of a token that is used moves at most this often
LOOK_MS: Final = 3_600_000  # tokens of connections that stay open are looked at this often

BEARERS: Final = frozenset({CredentialKind.USER, CredentialKind.MACHINE, CredentialKind.AGENT})

_UNKNOWN: Final = "this token is not valid; check that it was copied whole, or ask for a new one"
_OVER: Final = "this token was used up, was revoked or has expired; ask for a new one"


class _Known(NamedTuple):
    credential: Credential
    identity: Identity


class Authenticator:
    """Turns tokens into identities."""

    def __init__(
        self, store: Store, clock: Clock, ids: IdSource, guard: FailureGuard | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._guard = guard or FailureGuard()
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._epoch = 0
        self._listeners: list[Callable[[str], None]] = []
        self._holders: list[Callable[[], Iterable[str]]] = []
        self._used: dict[str, WallTime] = {}
        self._flush_at: Instant | None = None
        self._awake_at = WallTime(0)
        self._news = asyncio.Event()
        self._log = structlog.get_logger()
        self.on_failure: Callable[[AgentComError, str, str], None] = lambda _e, _a, _k: None
        """Called with each refusal, the address and the id of the token, as far as known."""
        self.on_refused: Callable[[Acting, str, AgentComError], None] = lambda _w, _a, _e: None
        """Called by doors with what somebody may not, and who that was."""
        self.shut_out: Callable[[MachineId], str | None] = lambda _machine: None
        """Why a machine is not let in now, though its token is good; None: it is."""

    async def authenticate(
        self, token: str, *, kinds: Collection[CredentialKind] = BEARERS, address: str = ""
    ) -> Identity:
        """Return who is behind a bearer token of one of `kinds`.

        A good token is never refused for failures of others, unless this hub has not seen it
        since it started and too many attempts from the same address have failed.

        Raises:
            NotAuthenticated: it is no such token, or one that has ended.
            NotAllowed: its machine was stopped.
            RateLimited: it is no good token, and too many attempts have failed before.
        """
        now = self._clock.now()
        parsed = token_text.parse(token)
        if parsed is None or parsed.kind not in kinds or parsed.kind not in BEARERS:
            raise self._stranger(now, address)
        known = self._cache.get(parsed.id)
        if known is None:
            credential = await self._look_up(parsed, now, address)
            known = _Known(credential, _identity(credential))
        elif not tokens.matches(parsed.text, known.credential.digest):
            raise self._stranger(now, address, parsed.id)
        elif is_over(known.credential, now.wall):
            raise self._too_late(now, parsed.id, address)
        self._remember(known, now.wall)
        why = None if known.identity.machine is None else self.shut_out(known.identity.machine)
        if why is not None:
            refusal = NotAllowed(why)
            self.on_failure(refusal, address, parsed.id)
            raise refusal
        return known.identity

    async def enrolment(self, code: str, *, address: str = "") -> Credential:
        """Return the row of an enrolment code that can still be redeemed.

        Raises:
            NotAuthenticated: it is no such code, or it was used up, revoked or has expired.
            RateLimited: the same, and too many attempts have failed before.
        """
        now = self._clock.now()
        parsed = token_text.parse(code)
        if parsed is None or parsed.kind is not CredentialKind.ENROLMENT:
            raise self._stranger(now, address)
        credential = await self._look_up(parsed, now, address)
        if not credential.uses_left:
            raise self._too_late(now, parsed.id, address)
        return credential

    def is_live(self, identity: Identity) -> bool:
        """Return whether the token has not ended since it was authenticated.

        For a connection that took a moment to be opened after its token was checked.
        """
        return identity.credential not in self._ended

    def on_revoked(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with the id of every credential that ends; returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def hold(self, holder: Callable[[], Iterable[str]]) -> None:
        """Ask `holder` from time to time for the credentials of its open connections."""
        self._holders.append(holder)

    def changed(self, credential: Credential) -> None:
        """Take note of a row that was just written; it may have ended, or end sooner."""
        self._epoch += 1
        if credential.id in self._ended:
            return  # a revocation came after this write
        if is_over(credential, self._clock.now().wall):
            self.end(credential.id)
            return
        self._cache[credential.id] = _Known(credential, _identity(credential))
        self._trim()
        self._news.set()

    def forget(self, credential_id: str) -> None:
        """Read the row of a credential anew when it is used next: it has changed."""
        self._epoch += 1
        self._cache.pop(credential_id, None)

    def end(self, credential_id: str) -> None:
        """Take note that a credential has ended, and tell everyone who keeps a connection."""
        self.forget(credential_id)
        self._ended[credential_id] = None
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)
        for listener in tuple(self._listeners):
            listener(credential_id)

    def cut(self, credential_ids: Iterable[str]) -> None:
        """End the connections that came with credentials which stay good."""
        for credential_id in credential_ids:
            for listener in tuple(self._listeners):
                listener(credential_id)

    async def run(self) -> None:
        """Write down uses, and end connections whose token expires; a supervisor's child."""
        while True:
            await self._pause()
            self.sweep()
            await self.flush()

    async def flush(self) -> None:
        """Write when each token was last used; one that changes meanwhile is left for later.

        The end of a token without a date of its own moves on with its use: who works never loses
        it, who is silent does after 90 days.
        """
        self._flush_at = None
        used, self._used = self._used, {}
        keys = list(used | self._held_and_due())
        wall = self._clock.now().wall
        for at in range(0, len(keys), USED_BATCH):
            chunk = keys[at : at + USED_BATCH]
            epoch = self._epoch
            rows = await self._store.get([(Table.CREDENTIAL, key) for key in chunk])
            olds = [row for row in rows if isinstance(row, Credential)]
            self._end_late([row.id for row in olds if is_over(row, wall)])
            live = [row for row in olds if not is_over(row, wall)]
            news = [_used(row, used.get(row.id, wall)) for row in live]
            changes = [
                Update(Table.CREDENTIAL, old.id, new, old.version)
                for old, new in zip(live, news, strict=True)
            ]
            with contextlib.suppress(StorageFull):  # it is only a date
                if changes and await write(self._store, self._ids, *changes):
                    self._refresh(news, certain=epoch == self._epoch)

    def sweep(self) -> None:
        """End the tokens in use that have expired."""
        wall = self._clock.now().wall
        over = [key for key, known in self._cache.items() if is_over(known.credential, wall)]
        for credential_id in over:
            self._log.info(events.CREDENTIAL_EXPIRED, credential=credential_id)
            self.end(credential_id)

    def _end_late(self, credential_ids: Iterable[str]) -> None:
        """End tokens that were over before we looked; most were ended then."""
        for credential_id in credential_ids:
            if credential_id not in self._ended:
                self.end(credential_id)

    async def _look_up(self, parsed: TokenText, now: Now, address: str) -> Credential:
        self._guard.check_address(address, now)
        row = await self._read(parsed.id)
        stored = None if row is None else row.digest
        if not tokens.matches(parsed.text, stored) or row is None:
            raise self._stranger(now, address, parsed.id if row else None)
        if is_over(row, now.wall):
            raise self._too_late(now, parsed.id, address)
        return row

    async def _read(self, credential_id: str) -> Credential | None:
        # A row read before a revocation must not be believed after it.
        while True:
            epoch = self._epoch
            (row,) = await self._store.get([(Table.CREDENTIAL, credential_id)])
            if epoch == self._epoch:
                return row if isinstance(row, Credential) else None

    def _remember(self, known: _Known, wall: WallTime) -> None:
        credential = known.credential
        self._cache[credential.id] = known
        self._cache.move_to_end(credential.id)
        self._trim()
        last = credential.last_used
        if last is None or wall - last >= USED_EVERY_MS:
            self._used[credential.id] = wall
            if self._flush_at is None:
                self._flush_at = Instant(self._clock.now().instant + USED_EVERY_MS)
                self._news.set()
        if credential.expires_at is not None and credential.expires_at < self._awake_at:
            self._news.set()

    def _trim(self) -> None:
        if len(self._cache) > CACHE_MAX:
            self._cache.popitem(last=False)

    def _held_and_due(self) -> dict[str, WallTime]:
        """Return the tokens of open connections that move on now, or that are not known here."""
        wall = self._clock.now().wall
        due: dict[str, WallTime] = {}
        for holder in self._holders:
            for credential_id in holder():
                known = self._cache.get(credential_id)
                if known is None or _slides(known.credential, wall):
                    due[credential_id] = wall
        return due

    def _refresh(self, rows: list[Credential], *, certain: bool) -> None:
        """Keep rows as they were written; `certain`: no row has changed since they were read."""
        for row in rows:
            known = self._cache.get(row.id)
            if certain or (known is not None and known.credential.version + 1 == row.version):
                self._cache[row.id] = _Known(row, _identity(row))
            else:
                self._cache.pop(row.id, None)  # it is read anew
        while len(self._cache) > CACHE_MAX:
            self._trim()

    async def _pause(self) -> None:
        """Wait until a token expires, uses are to be written, or it is time to look."""
        while True:
            self._news.clear()
            try:
                async with asyncio.timeout(self._pause_ms() / 1_000):
                    await self._news.wait()
            except TimeoutError:
                return

    def _pause_ms(self) -> int:
        now = self._clock.now()
        known = [known.credential.expires_at for known in self._cache.values()]
        ends = min((end for end in known if end is not None), default=WallTime(now.wall + LOOK_MS))
        self._awake_at = ends
        flush_ms = LOOK_MS if self._flush_at is None else self._flush_at - now.instant
        return max(0, min(LOOK_MS, ends - now.wall, flush_ms))

    def _stranger(self, now: Now, address: str, key: str | None = None) -> AgentComError:
        """Count an attempt that knew no secret; return what to say, which never tells why."""
        refusal = self._limit(now, address=address, key=key) or NotAuthenticated(_UNKNOWN)
        self.on_failure(refusal, address, key or "")
        return refusal

    def _too_late(self, now: Now, key: str, address: str) -> AgentComError:
        """Count an attempt with a token that was good once: its address is not to blame."""
        refusal = self._limit(now, key=key) or NotAuthenticated(_OVER)
        self.on_failure(refusal, address, key)
        return refusal

    def _limit(
        self, now: Now, *, address: str | None = None, key: str | None = None
    ) -> RateLimited | None:
        limited: RateLimited | None = None
        try:
            if address is not None:
                self._guard.check_address(address, now)
            if key is not None:
                self._guard.check_key(key, now)
        except RateLimited as error:
            limited = error
        else:
            self._log.warning(events.CREDENTIAL_REFUSED, address=address, credential=key)
        self._guard.failed(now, address=address, key=key)
        return limited


def is_over(credential: Credential, wall: WallTime) -> bool:
    """Return whether a credential was revoked or has expired."""
    if credential.revoked_at is not None:
        return True
    return credential.expires_at is not None and credential.expires_at <= wall


def _slides(credential: Credential, wall: WallTime) -> bool:
    """Return whether the end of a token moves on if it is used now."""
    idle_ms, ends = idle_ms_of(credential), credential.expires_at
    if not idle_ms or ends is None or credential.replaced_by is not None:
        return False
    slide_ms = min(SLIDE_MS, idle_ms // 2)
    return not is_over(credential, wall) and ends - wall <= idle_ms - slide_ms


def idle_ms_of(credential: Credential) -> int:
    """Return how long a token may be silent; 0: it ends when it says, or never."""
    if credential.idle_ms or credential.kind is not CredentialKind.MACHINE:
        return credential.idle_ms
    # A machine's of before that field; one that was made to last shorter ends when it says.
    ends = credential.expires_at
    lasts = ends is not None and ends - credential.created_at >= IDLE_TTL_MS
    return IDLE_TTL_MS if lasts else 0


def _used(credential: Credential, wall: WallTime) -> Credential:
    moves = _slides(credential, wall)
    return msgspec.structs.replace(
        credential,
        last_used=wall,
        expires_at=WallTime(wall + idle_ms_of(credential)) if moves else credential.expires_at,
        version=credential.version + 1,
    )


def _identity(credential: Credential) -> Identity:
    return Identity(
        role=credential.role,
        user=credential.owner,
        credential=credential.id,
        project=credential.project,
        machine=credential.machine,
        scopes=credential.scopes,
        service=credential.service,
    )
