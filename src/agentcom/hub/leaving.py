"""A person leaves: what that means, shown first, and then done so that it can be done again.

First, in one transaction, everything by which they come in ends. Then what they had passes to an
heir, step by step; each step finds nothing to do the second time, so whoever was interrupted asks
again. Nobody is removed in whose absence nobody could let anyone in.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Final

from agentcom.core import facts
from agentcom.core.facts import Body
from agentcom.core.view import PoolView
from agentcom.hub.auth import is_over
from agentcom.hub.channels_members import Members
from agentcom.hub.clock import Clock
from agentcom.hub.credentials import Credentials
from agentcom.hub.queries_people import People
from agentcom.hub.schedules import Schedules
from agentcom.hub.switchboard import Switchboard
from agentcom.model import address
from agentcom.model.agent import Machine
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.identity import Credential, CredentialKind, Identity, Role, User
from agentcom.model.ids import UserId
from agentcom.model.policy import MISSING
from agentcom.protocol.leaving import Leaves
from agentcom.store.base import Store

_HEIRS: Final = (Role.SUBMITTER, Role.OPERATOR, Role.ADMIN)
_SHOWN_MAX: Final = 100  # names of each kind

Ask = Callable[[Body], Awaitable[object]]
"""Brings a fact to the pool as the one who removes; raises its refusal."""


class LastAdmin(Conflict):
    """This is the last admin: nobody could let anyone in any more. Make another one first."""

    code = "last_admin"


class Machines(StrEnum):
    """What becomes of the machines of somebody who leaves."""

    REMOVE = "remove"
    KEEP = "keep"
    """They belong to the heir."""


class Leaving:
    """Removes people."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        switchboard: Switchboard,
        view: Callable[[], PoolView],
        people: People,
        credentials: Credentials,
        schedules: Schedules,
        members: Members,
    ) -> None:
        self._store = store
        self._clock = clock
        self._view = view
        self._people = people
        self._credentials = credentials
        self._schedules = schedules
        self._members = members
        self._connections = switchboard.count_of
        self._lock = asyncio.Lock()

    async def preview(self, who: Identity, name: str) -> Leaves:
        """Return what would end, and what would pass on; raises `NotFound`."""
        user = await self._find(who, name)
        rows = await self._live(user)
        view, self_address = self._view(), address.of_user(user.id)
        tasks = Counter(t.state.value for t in view.tasks.values() if t.submitter == user.id)
        channels = await self._members.owned(self_address)
        return Leaves(
            user=user.id,
            role=user.role,
            removed=user.removed,
            last_admin=await self._is_last(user),
            connections=sum(self._connections(row.id) for row in rows),
            tokens=sum(row.kind is CredentialKind.USER for row in rows),
            codes=sum(row.kind is CredentialKind.ENROLMENT for row in rows),
            machines=tuple(one.name for one in self._machines(user))[:_SHOWN_MAX],
            schedules=tuple(self._schedules.owned(user.id))[:_SHOWN_MAX],
            tasks=dict(sorted(tasks.items())),
            asks=sum(self_address in (one.to, one.asker) for one in view.asks.values()),
            channels=tuple(channels)[:_SHOWN_MAX],
        )

    async def remove(
        self, who: Identity, name: str, *, to: UserId | None, machines: Machines, ask: Ask
    ) -> Leaves:
        """Remove a person, who may be removed already; return what ended and passed on.

        Raises:
            NotFound: there is no such user.
            LastAdmin: nobody could let anyone in any more.
            InvalidInput: the heir is none.
        """
        async with self._lock:
            user = await self._find(who, name)
            if await self._is_last(user):
                raise LastAdmin
            heir = await self._heir(who, user, to or who.user)
            found = await self.preview(who, name)
            await self._credentials.remove_user(user.id)
            for machine in self._machines(user):
                await self._part(machine, heir, machines, ask)
            await self._schedules.pass_on(user.id, heir)
            await ask(facts.PassOn(user.id, heir))
            wall = self._clock.now().wall
            await self._members.pass_on(address.of_user(user.id), address.of_user(heir), wall)
            return found

    async def _part(self, machine: Machine, heir: UserId, what: Machines, ask: Ask) -> None:
        if what is Machines.KEEP:
            await self._credentials.give_machine(machine.id, heir)
            await ask(facts.GiveMachine(machine.id, heir))
        else:
            await self._credentials.revoke_machine(machine.id)
            await ask(facts.RemoveMachine(machine.id))

    async def _find(self, who: Identity, name: str) -> User:
        (row,) = await self._store.get([(Table.USER, name)])
        if not isinstance(row, User) or row.project != who.project:
            raise NotFound(MISSING)
        return row

    async def _heir(self, who: Identity, user: User, name: UserId) -> UserId:
        (row,) = await self._store.get([(Table.USER, name)])
        fits = isinstance(row, User) and not row.removed and row.project == user.project
        if not fits or name == user.id or not isinstance(row, User) or row.role not in _HEIRS:
            whose = "you are" if name == who.user else f"{name} is"
            raise InvalidInput("to", f"{whose} nobody to pass tasks to: name another submitter")
        return row.id

    async def _is_last(self, user: User) -> bool:
        if user.removed or not user.is_hub_admin:
            return False
        return await self._people.admin_count() < 2  # noqa: PLR2004  # one stays

    async def _live(self, user: User) -> Sequence[Credential]:
        wall = self._clock.now().wall
        rows = await self._credentials.of_user(user.id)
        return [row for row in rows if not is_over(row, wall) and row.uses_left != 0]

    def _machines(self, user: User) -> Sequence[Machine]:
        rows = self._view().machines.values()
        return [row for row in rows if row.owner == user.id and not row.removed]
