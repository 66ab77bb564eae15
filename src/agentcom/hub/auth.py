"""Who is behind a token. The tokens' rows are written in `hub/credentials.py`.

What was used lately lives in a bounded cache, so that thousands of machines that come back at
once cost a digest each. Whoever keeps a connection open learns by `on_revoked` when its token
ends.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

import msgspec
import structlog

from agentcom.hub import tokens
from agentcom.hub.clock import Clock
from agentcom.hub.limits_guard import FailureGuard
from agentcom.hub.rows import write
from agentcom.model import token_text
from agentcom.model.batch import Table, Update
from agentcom.model.errors import AgentComError, NotAuthenticated, RateLimited, StorageFull
from agentcom.model.identity import Credential, CredentialKind, Identity
from agentcom.model.ids import IdSource, Now, WallTime
from agentcom.model.token_text import TokenText
from agentcom.store.base import Store
from agentcom.telemetry import events

CACHE_MAX: Final = 16_384  # credentials: three times the largest fleet we promise
ENDED_MAX: Final = 4_096  # ended credentials that a connection just being opened is checked against
USED_EVERY_MS: Final = 60_000  # `last_used` is as coarse as this; else each request were a write
USED_BATCH: Final = 256  # rows of one batch

BEARERS: Final = frozenset({CredentialKind.USER, CredentialKind.MACHINE, CredentialKind.AGENT})

_UNKNOWN: Final = "this token is not valid; check that it was copied whole, or ask for a new one"
_OVER: Final = "this token was used up, was revoked or has expired; ask for a new one"


class _Known(NamedTuple):
    credential: Credential
    identity: Identity


class Authenticator:
    """Turns tokens into identities."""

    def __init__(self, store: Store, clock: Clock, ids: IdSource) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._guard = FailureGuard()
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._epoch = 0
        self._listeners: list[Callable[[str], None]] = []
        self._used: dict[str, WallTime] = {}
        self._dirty = asyncio.Event()
        self._log = structlog.get_logger()

    async def authenticate(
        self, token: str, *, kinds: Collection[CredentialKind] = BEARERS, address: str = ""
    ) -> Identity:
        """Return who is behind a bearer token of one of `kinds`.

        A good token is never refused for failures of others, unless this hub has not seen it
        since it started and too many attempts from the same address have failed.

        Raises:
            NotAuthenticated: it is no such token, or one that has ended.
            RateLimited: the same, and too many attempts have failed before.
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
            raise self._too_late(now, parsed.id)
        self._remember(known, now.wall)
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
            raise self._too_late(now, parsed.id)
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

    async def run(self) -> None:
        """Write down uses, and end connections whose token expires; a supervisor's child."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_expiry_s()):
                    await self._dirty.wait()
                    await asyncio.sleep(USED_EVERY_MS / 1_000)
            self.sweep()
            await self.flush()

    async def flush(self) -> None:
        """Write when each token was last used; one that changes meanwhile is left for later."""
        self._dirty.clear()
        used, self._used = self._used, {}
        keys = list(used)
        for at in range(0, len(keys), USED_BATCH):
            chunk = keys[at : at + USED_BATCH]
            rows = await self._store.get([(Table.CREDENTIAL, key) for key in chunk])
            pairs = [
                (row, msgspec.structs.replace(row, last_used=used[row.id], version=row.version + 1))
                for row in rows
                if isinstance(row, Credential)
            ]
            changes = [Update(Table.CREDENTIAL, old.id, new, old.version) for old, new in pairs]
            with contextlib.suppress(StorageFull):  # it is only a date
                if changes and await write(self._store, self._ids, *changes):
                    self._refresh([new for _, new in pairs])

    def sweep(self) -> None:
        """End the tokens in use that have expired."""
        wall = self._clock.now().wall
        over = [key for key, known in self._cache.items() if is_over(known.credential, wall)]
        for credential_id in over:
            self._log.info(events.CREDENTIAL_EXPIRED, credential=credential_id)
            self.end(credential_id)

    async def _look_up(self, parsed: TokenText, now: Now, address: str) -> Credential:
        self._guard.check_address(address, now)
        row = await self._read(parsed.id)
        stored = None if row is None else row.digest
        if not tokens.matches(parsed.text, stored) or row is None:
            raise self._stranger(now, address, parsed.id if row else None)
        if is_over(row, now.wall):
            raise self._too_late(now, parsed.id)
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
        if len(self._cache) > CACHE_MAX:
            self._cache.popitem(last=False)
        last = credential.last_used
        if last is None or wall - last >= USED_EVERY_MS:
            self._used[credential.id] = wall
            self._dirty.set()

    def _refresh(self, rows: list[Credential]) -> None:
        for row in rows:
            known = self._cache.get(row.id)
            # One that was looked up meanwhile may be newer, but never older than its revocation.
            if known is not None and known.credential.version + 1 == row.version:
                self._cache[row.id] = _Known(row, known.identity)

    def _until_expiry_s(self) -> float | None:
        wall = self._clock.now().wall
        ends = [
            known.credential.expires_at
            for known in self._cache.values()
            if known.credential.expires_at is not None
        ]
        return max(0, min(ends) - wall) / 1_000 if ends else None

    def _stranger(self, now: Now, address: str, key: str | None = None) -> AgentComError:
        """Count an attempt that knew no secret; return what to say, which never tells why."""
        limited = self._limit(now, address=address, key=key)
        return limited or NotAuthenticated(_UNKNOWN)

    def _too_late(self, now: Now, key: str) -> AgentComError:
        """Count an attempt with a token that was good once: its address is not to blame."""
        return self._limit(now, key=key) or NotAuthenticated(_OVER)

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


def _identity(credential: Credential) -> Identity:
    return Identity(
        role=credential.role,
        user=credential.owner,
        credential=credential.id,
        project=credential.project,
        machine=credential.machine,
    )
