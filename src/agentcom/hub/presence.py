"""Who is there, and what they do now: agents from the pool's view, people by their connections.

Nothing of it is stored. Facts about a machine's host are those that it told when it connected.
Following: `hub/presence_watch.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

from agentcom.core import descriptions
from agentcom.core.view import PoolView
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked
from agentcom.model import address, requirement
from agentcom.model.address import Address
from agentcom.model.agent import Agent, AgentState
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput
from agentcom.model.identity import Identity, User
from agentcom.model.ids import MachineId, ProjectId, UserId
from agentcom.model.limits import HOST_CHARS, HOST_FACTS_MAX
from agentcom.model.requirement import Requirement
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.protocol.told import Presence
from agentcom.store.base import Query, Store

ONLINE: Final = "online"
OFFLINE: Final = AgentState.OFFLINE.value
STATES: Final = (ONLINE, *(state.value for state in AgentState))
PAGE: Final = 500  # users of one read


class Wanted(NamedTuple):
    """Which of a project someone asks for."""

    project: ProjectId
    needs: tuple[Requirement, ...] = ()
    states: frozenset[str] = frozenset()

    def takes(self, presence: Presence) -> bool:
        """Return whether a state is among those that are asked for."""
        return not self.states or presence.state in self.states


class Presences:
    """Who is there, of all projects."""

    def __init__(self, store: Store, view: Callable[[], PoolView]) -> None:
        self._store = store
        self.view = view
        self._hosts: dict[MachineId, dict[str, str]] = {}
        self._connected: Counter[UserId] = Counter()
        self.on_person: Callable[[Identity], None] = lambda _identity: None
        """Called when the first connection of a person opens, or the last one closes."""

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {calls.PresenceList: self.list}

    async def list(self, who: Speaker, call: calls.PresenceList, _asked: Asked) -> Answer:
        """Return agents and people by address."""
        want = wanted(who.project, call.needs, call.states)
        found = [
            presence
            for presence in self.agents(want)
            if presence.address > (call.after or "") and want.takes(presence)
        ]
        if len(found) <= call.limit:
            after = call.after if call.after and address.user_of(Address(call.after)) else None
            found += await self.people(want, after, call.limit + 1 - len(found))
        page = tuple(found[: call.limit])
        return told.PresencesShown(
            present=page, next=page[-1].address if len(found) > call.limit else None
        )

    def agents(self, want: Wanted) -> Iterator[Presence]:
        """Yield all agents of a project that fit the needs, by name, in whatever state."""
        view = self.view()
        fits = Fitting(view, want.needs)
        for name in sorted(view.agents):
            agent = view.agents[name]
            if agent.project == want.project and fits(agent):
                yield self.agent(view, agent)

    async def people(self, want: Wanted, after: str | None, limit: int) -> Sequence[Presence]:
        """Return people after an address who fit; none if agents with needs are asked for."""
        found: list[Presence] = []
        place: str | None = "" if after is None else address.user_of(Address(after))
        while place is not None and len(found) < limit and not want.needs:
            page = await self._store.query(Query(table=Table.USER, after=place, limit=PAGE))
            for row in cast("Sequence[User]", page.rows):
                if row.project == want.project and not row.removed:
                    presence = self.person(row.id)
                    found += [presence] if want.takes(presence) else []
            place = page.next
        return found[:limit]

    def agent(self, view: PoolView, row: Agent) -> Presence:
        """Return what an agent does now."""
        machine, session = view.machines.get(row.machine), view.sessions.get(row.machine)
        held = (task for task in view.held_tasks(row.machine) if task.agent == row.id)
        task = next((one for one in held if one.project == row.project), None)
        return Presence(
            address=address.of_agent(row.id),
            state=view.agent_state(row).value,
            suspect=session is not None and session.suspect,
            task=None if task is None else task.id,
            title="" if task is None else task.title,
            machine="" if machine is None else machine.name,
            host=self._hosts.get(row.machine, {}),
            last_seen=None if machine is None else machine.last_seen,
        )

    def person(self, name: UserId) -> Presence:
        """Return whether a person is there."""
        state = ONLINE if self._connected[name] else OFFLINE
        return Presence(address=address.of_user(name), state=state)

    def describe(self, machine: MachineId, host: Mapping[str, str]) -> None:
        """Keep what a machine says about its host, as far as it is within bounds."""
        said = [*host.items()][:HOST_FACTS_MAX]
        self._hosts[machine] = {name[:HOST_CHARS]: value[:HOST_CHARS] for name, value in said}

    def came(self, identity: Identity) -> None:
        """Note that a person has one connection more."""
        self._connected[identity.user] += 1
        if self._connected[identity.user] == 1:
            self.on_person(identity)

    def left(self, identity: Identity) -> None:
        """Note that a person has one connection less."""
        self._connected[identity.user] -= 1
        if not self._connected[identity.user]:
            del self._connected[identity.user]
            self.on_person(identity)


class Fitting:
    """Tells whether agents fit needs; many are alike, and each kind is looked at once."""

    def __init__(self, view: PoolView, needs: tuple[Requirement, ...]) -> None:
        self._view = view
        self._needs = needs
        self._named = dict.fromkeys(descriptions.names_in(needs), 1)
        self._known: dict[object, bool] = {}

    def __call__(self, agent: Agent) -> bool:
        """Return whether an agent fits."""
        if not self._needs:
            return True
        who = (agent.id, agent.machine) if self._named else None
        alike = (who, agent.runtime, agent.capabilities, tuple(sorted(agent.labels.items())))
        if alike not in self._known:
            machine = self._view.machines.get(agent.machine)
            has = descriptions.offers(agent, machine, self._named).capabilities
            self._known[alike] = all(requirement.satisfies(has, need) for need in self._needs)
        return self._known[alike]


def wanted(project: ProjectId, needs: Sequence[str], states: Sequence[str]) -> Wanted:
    """Return what someone asks for.

    Raises:
        InvalidInput: a need is malformed, or there is no such state.
    """
    strange = set(states) - set(STATES)
    if strange:
        raise InvalidInput("states", f"use some of {', '.join(STATES)}")
    return Wanted(project, requirement.canonical(needs), frozenset(states))
