"""Following who is there: each watcher gets what changed of those that it asked for.

A look every `PRESENCE_MS` compares with the one before, so an agent that changes ten times in
between is told once, with its newest state. Watchers who ask for the same share one comparison. Who
does not keep up is told nothing until it does, and then everything anew.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec
import structlog

from agentcom.core.view import PoolView
from agentcom.hub.feeds import BEHIND_BYTES
from agentcom.hub.presence import Fitting, Presences, Wanted, wanted
from agentcom.hub.speaking import Speaker
from agentcom.model import address, policy
from agentcom.model.address import Address
from agentcom.model.agent import Agent
from agentcom.model.errors import Unavailable
from agentcom.model.identity import Identity
from agentcom.model.ids import AgentId, MachineId
from agentcom.model.limits import PAGE_MAX, PRESENCE_MS, WATCHERS_MAX
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol import codec
from agentcom.protocol.live import PRESENCE, PresenceFrame
from agentcom.protocol.told import Presence

EVERYBODY: Final = 100_000  # people of one project that a watcher is told of at first
GONE_MAX: Final = 1_000  # addresses in one frame

replace: Final = msgspec.structs.replace
log = structlog.get_logger(__name__)


class Watcher:
    """One who follows presence."""

    reply: Final = Done()

    def __init__(
        self,
        watch: "PresenceWatch",
        want: Wanted,
        *,
        show: Callable[[bytes], None],
        buffered: Callable[[], int],
    ) -> None:
        self._watch = watch
        self.want = want
        self.show = show
        self.buffered = buffered
        """Returns how many bytes have not left yet."""
        self.fresh = True
        """It has to be told everything."""

    def begin(self) -> None:
        """Tell it who is there, and then what changes."""
        self._watch.enter(self)

    def leave(self) -> None:
        """End it."""
        self._watch.leave(self)


class _Group:
    """Watchers who ask for the same, and what they know."""

    def __init__(self, want: Wanted) -> None:
        self.want = want
        self.watchers: dict[Watcher, None] = {}
        self.known: dict[Address, Presence] = {}
        self.read = False
        """Whether `known` was filled."""

    def note(
        self, who: Address, now: Presence | None, news: dict[Address, Presence | None]
    ) -> None:
        """Remember what someone does now, and add it to the news if that is different."""
        before = self.known.get(who)
        if now is None or not self.want.takes(now):
            if before is not None:
                news[who] = None
                del self.known[who]
        elif not _alike(before, now):
            news[who] = now
            self.known[who] = now


class PresenceWatch:
    """All who follow presence."""

    def __init__(self, presences: Presences) -> None:
        self._presences = presences
        presences.on_person = self._person
        self._groups: dict[Wanted, _Group] = {}
        self._marks: dict[MachineId, object] = {}
        self._rows: dict[AgentId, Agent] = {}
        self._people: dict[Address, Identity] = {}
        """Who came or went since the last look."""
        self._looking: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many watchers there are."""
        return sum(len(group.watchers) for group in self._groups.values())

    def watch(
        self,
        who: Speaker,
        needs: tuple[str, ...],
        states: tuple[str, ...],
        *,
        show: Callable[[bytes], None],
        buffered: Callable[[], int],
    ) -> Watcher:
        """Return a watcher that begins when it is told to.

        Raises:
            InvalidInput: a need is malformed, or there is no such state.
            Unavailable: too many ask for different things.
        """
        policy.authorize(who.identity, Action.AGENT_READ)
        want = wanted(who.project, needs, states)
        if want not in self._groups and len(self._groups) >= WATCHERS_MAX:
            raise Unavailable("too many follow presence, each in another way; list it instead")
        return Watcher(self, want, show=show, buffered=buffered)

    def enter(self, watcher: Watcher) -> None:
        """Begin to tell a watcher."""
        group = self._groups.setdefault(watcher.want, _Group(watcher.want))
        group.watchers[watcher] = None
        if self._looking is None:
            self._begin()

    def leave(self, watcher: Watcher) -> None:
        """Tell a watcher nothing more."""
        group = self._groups.get(watcher.want)
        if group is None:
            return
        group.watchers.pop(watcher, None)
        if not group.watchers:
            del self._groups[watcher.want]
        if not self._groups and self._looking is not None:
            self._looking.cancel()

    def _person(self, identity: Identity) -> None:
        if self._groups:
            who = self._presences.person(identity.user).address
            self._people[who] = identity

    def _begin(self) -> None:
        self._looking = asyncio.create_task(self._look_forever())
        self._looking.add_done_callback(self._looked)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(PRESENCE_MS / 1_000)
            await self._look()

    def _looked(self, looking: "asyncio.Task[None]") -> None:
        self._looking = None
        error = None if looking.cancelled() else looking.exception()
        if error is not None:
            log.error("presence.failed", exc_info=error)
        if self._groups:  # one came meanwhile, or the look failed and has to begin anew
            self._begin()

    async def _look(self) -> None:
        """Compare with the last look, and tell what is different."""
        for group in [*self._groups.values()]:
            if not group.read:
                group.read = True
                for one in await self._presences.people(group.want, None, EVERYBODY):
                    group.known[one.address] = one
                for one in self._presences.agents(group.want):
                    if group.want.takes(one):
                        group.known[one.address] = one
        changed = self._changed_agents()
        people, self._people = self._people, {}
        for group in self._groups.values():
            _tell(group, self._news(group, changed, people))

    def _changed_agents(self) -> Mapping[AgentId, Agent | None]:
        """Return agents of which something may be different than at the last look."""
        view = self._presences.view()
        marks = {machine: _mark(view, machine) for machine in view.machines}
        moved = {machine for machine, mark in marks.items() if self._marks.get(machine) != mark}
        changed: dict[AgentId, Agent | None] = {
            name: row
            for name, row in view.agents.items()
            if row is not self._rows.get(name) or row.machine in moved
        }
        changed |= {name: None for name in self._rows if name not in view.agents}
        self._marks, self._rows = marks, dict(view.agents)
        return changed

    def _news(
        self,
        group: _Group,
        changed: Mapping[AgentId, Agent | None],
        people: Mapping[Address, Identity],
    ) -> Mapping[Address, Presence | None]:
        """Return who of a group's is different now, and who is not among them any more (None)."""
        view, want = self._presences.view(), group.want
        fits = Fitting(view, want.needs)
        news: dict[Address, Presence | None] = {}
        for name, row in changed.items():
            ours = row is not None and row.project == want.project and fits(row)
            now = self._presences.agent(view, row) if row is not None and ours else None
            group.note(address.of_agent(name), now, news)
        for who, identity in people.items():
            if identity.project == want.project and not want.needs:
                group.note(who, self._presences.person(identity.user), news)
        return news


def _tell(group: _Group, news: Mapping[Address, Presence | None]) -> None:
    some = [*_pages(news)] if news else []
    everything: list[bytes] = []
    for watcher in group.watchers:
        if watcher.buffered() > BEHIND_BYTES:
            watcher.fresh = True
        elif watcher.fresh:
            everything = everything or [*_pages(group.known, first=True)]
            watcher.fresh = False
            for payload in everything:
                watcher.show(payload)
        else:
            for payload in some:
                watcher.show(payload)


def _pages(news: Mapping[Address, Presence | None], *, first: bool = False) -> Iterator[bytes]:
    """Yield frames that say it all; at least one."""
    present = [one for _, one in sorted(news.items()) if one is not None]
    gone = [who for who, one in news.items() if one is None]
    while True:
        yield codec.encode(
            PresenceFrame(
                log=PRESENCE,
                present=tuple(present[:PAGE_MAX]),
                gone=tuple(gone[:GONE_MAX]),
                first=first,
            )
        )
        first, present, gone = False, present[PAGE_MAX:], gone[GONE_MAX:]
        if not present and not gone:
            return


def _mark(view: PoolView, machine: MachineId) -> object:
    """Return what the states of a machine's agents depend on, beside their own rows."""
    session = view.sessions.get(machine)
    live = None if session is None else (session.connection, session.suspect)
    return view.machines[machine], live, view.held_tasks(machine), len(view.accounts)


def _alike(one: Presence | None, other: Presence) -> bool:
    """Return whether there is nothing to tell."""
    return one is not None and replace(one, last_seen=None) == replace(other, last_seen=None)
