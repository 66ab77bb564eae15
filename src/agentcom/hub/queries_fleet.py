"""What people read of agents and machines: live rows with their derived states, and counts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from agentcom.core import pauses, waits
from agentcom.core.gates import Gates
from agentcom.core.view import PoolView
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import Ambiguous, page_limit
from agentcom.model.agent import AccountState, Agent, Machine
from agentcom.model.errors import NotFound
from agentcom.model.identity import Identity
from agentcom.model.ids import AccountId, MachineId, TaskId, UserId
from agentcom.model.limit import Limit
from agentcom.model.limits import PAGE_MAX
from agentcom.model.pause import machine_scope
from agentcom.model.replies import BulkShown, Waits
from agentcom.model.task import TaskState
from agentcom.protocol.shown import (
    AccountList,
    AccountShown,
    AgentList,
    AgentShown,
    LimitList,
    LimitShown,
    MachineList,
    MachineShown,
    PauseList,
)

COUNTS_AGE_MS: Final = 1_000  # counting 100,000 tasks takes some ms: once a second is enough
_SHOWN_MAX: Final = 5
_SINGLE: Final = ("agent:", "machine:", "user:")

_Row = TypeVar("_Row", Agent, AccountShown, Machine)


class Fleet:
    """Reads the live view; a row may be a moment ahead of the store."""

    def __init__(
        self, view: Callable[[], PoolView], cursors: Cursors, instant_ms: Callable[[], int]
    ) -> None:
        self._view = view
        self._cursors = cursors
        self._instant_ms = instant_ms
        self._counted_at = -COUNTS_AGE_MS
        self._tasks: dict[str, int] = {}

    def agents(self, identity: Identity, *, cursor: str | None, limit: int) -> AgentList:
        """Return the agents of the caller's project, by name."""
        rows = [row for row in self._view().agents.values() if row.project == identity.project]
        page, after = self._page(identity, "agents", rows, cursor=cursor, limit=limit)
        return AgentList(tuple(map(self._agent, page)), after)

    def agent(self, identity: Identity, text: str) -> AgentShown:
        """Return one agent; raises `NotFound` and `Ambiguous`."""
        return self._agent(self.find_agent(identity, text))

    def accounts(self, identity: Identity, *, cursor: str | None, limit: int) -> AccountList:
        """Return the accounts that agents of the caller's project use, by name."""
        rows = self._accounts(identity)
        page, after = self._page(identity, "accounts", rows, cursor=cursor, limit=limit)
        return AccountList(tuple(page), after)

    def find_account(self, identity: Identity, text: str) -> AccountShown:
        """Return the account of a name, or of an unambiguous part of one."""
        return _pick("account", text, self._accounts(identity), name=lambda row: row.id)

    def machines(self, identity: Identity, *, cursor: str | None, limit: int) -> MachineList:
        """Return the machines of the caller's project."""
        rows = self._present(identity)
        page, after = self._page(identity, "machines", rows, cursor=cursor, limit=limit)
        return MachineList(tuple(map(self._machine, page)), after)

    def machine(self, identity: Identity, text: str) -> MachineShown:
        """Return one machine; raises `NotFound` and `Ambiguous`."""
        return self._machine(self.find_machine(identity, text))

    def limits(self) -> LimitList:
        """Return all limits, by scope, with what is taken of them."""
        gates, lanes = self._view().gates, self._view().lanes
        waiting = Counter(gate for m in lanes.hidden_members() for gate in m.lane[1])
        shown = []
        for scope, rule in sorted(gates.rules.items()):
            under = [s for s in gates.taken if gates.rule_of(s) is rule and gates.taken[s]]
            under.sort(key=gates.taken.__getitem__, reverse=True)
            shown.append(
                LimitShown(
                    scope=scope,
                    concurrency=rule.concurrency,
                    rate=rule.rate,
                    per_ms=rule.per_ms,
                    weight=rule.weight,
                    taken={s: gates.taken[s] for s in under[:PAGE_MAX]},
                    waiting=sum(n for gate, n in waiting.items() if _is_under(gates, gate, rule)),
                )
            )
        return LimitList(tuple(shown))

    def waits(self, identity: Identity) -> Waits:
        """Return which tasks of the caller's project wait for which."""
        return waits.picture(self._view(), identity.project)

    def find_agent(self, identity: Identity, text: str) -> Agent:
        """Return the agent of a name, or of an unambiguous part of one."""
        rows = [row for row in self._view().agents.values() if row.project == identity.project]
        return _pick("agent", text, rows, name=lambda row: row.id)

    def find_machine(self, identity: Identity, text: str, *, removed: bool = False) -> Machine:
        """Return the machine of a name or id, or of an unambiguous part of one."""
        row = self._view().machines.get(MachineId(text)) if removed else None
        if row is not None and row.project == identity.project:
            return row
        return _pick("machine", text, self._present(identity), name=lambda row: row.name)

    def machine_name(self, machine: MachineId) -> str:
        """Return the name of a machine, removed ones too; its id if it has none."""
        row = self._view().machines.get(machine)
        return row.name if row is not None and row.name else machine

    def machines_of(self, owner: UserId) -> Sequence[Machine]:
        """Return the machines of a person."""
        rows = self._view().machines.values()
        return [row for row in rows if row.owner == owner and not row.removed]

    def pauses(self, identity: Identity) -> PauseList:
        """Return the pauses that the caller's tasks are under."""
        view = self._view()
        scopes = pauses.scopes(view.pool, identity.project)
        wide = [view.pauses[scope] for scope in scopes if scope in view.pauses]
        single = [
            row
            for scope, row in sorted(view.pauses.items())
            if scope.startswith(_SINGLE) and row.project in (None, identity.project)
        ]
        return PauseList((*wide, *single))

    def shut_out(self, machine: MachineId) -> str | None:
        """Return why a machine is not let in, if a person has stopped it."""
        stop = self._view().pauses.get(machine_scope(machine))
        return None if stop is None else f"{stop.words}; {pauses.lift(stop)}"

    def bulk(self, identity: Identity, text: str) -> BulkShown:
        """Return how far an act on many tasks is.

        Raises:
            NotFound: there is none of this id, or it was over before this hub began.
        """
        found = self._view().bulks.get(TaskId(text))
        if found is None or found.project != identity.project:
            raise NotFound("there is no such act under way; what it did stands in its tasks")
        return found

    def task_counts(self) -> dict[str, int]:
        """Return how many live tasks are in each state; a second old at most."""
        now = self._instant_ms()
        if now - self._counted_at >= COUNTS_AGE_MS:
            states = Counter(task.state for task in self._view().tasks.values())
            live = [state for state in TaskState if not state.terminal]
            self._tasks = {state.value: states[state] for state in live}
            self._counted_at = now
        return self._tasks

    def agent_counts(self) -> dict[str, int]:
        """Return how many agents are in each state."""
        view = self._view()
        counts = Counter(view.agent_state(agent) for agent in view.agents.values())
        return {state.value: number for state, number in sorted(counts.items())}

    def machine_counts(self) -> tuple[int, int]:
        """Return how many machines there are, and how many are connected."""
        rows = [row for row in self._view().machines.values() if not row.removed]
        return len(rows), sum(self._machine(row).connected for row in rows)

    def _accounts(self, identity: Identity) -> Sequence[AccountShown]:
        users: defaultdict[AccountId, list[Agent]] = defaultdict(list)
        for row in self._view().agents.values():
            if row.account is not None and row.project == identity.project:
                users[row.account].append(row)
        return [self._account(account, agents) for account, agents in users.items()]

    def _account(self, account: AccountId, agents: Sequence[Agent]) -> AccountShown:
        machines = dict.fromkeys(self.machine_name(row.machine) for row in agents)
        row = self._view().accounts.get(account)
        until = row.parked_until if row is not None else None
        state = AccountState.OPEN
        if row is not None:
            state = AccountState.TRYING if until is None else AccountState.PARKED
        return AccountShown(
            id=account,
            state=state,
            until=until,
            canary=row.canary.task if row is not None and row.canary is not None else None,
            reason=row.reason if row is not None else "",
            strikes=row.strikes if row is not None else 0,
            machines=tuple(machines),
            agents=tuple(row.id for row in agents),
        )

    def _present(self, identity: Identity) -> list[Machine]:
        rows = self._view().machines.values()
        return [row for row in rows if row.project == identity.project and not row.removed]

    def _page(
        self,
        identity: Identity,
        listing: str,
        rows: Iterable[_Row],
        *,
        cursor: str | None,
        limit: int = PAGE_MAX,
    ) -> tuple[Sequence[_Row], str | None]:
        limit = page_limit(limit)
        after = self._cursors.read(identity, listing, cursor) if cursor else ""
        found = sorted((row for row in rows if row.id > after), key=lambda row: row.id)
        page = found[:limit]
        more = len(found) > limit
        return page, self._cursors.make(identity, listing, page[-1].id) if more else None

    def _agent(self, row: Agent) -> AgentShown:
        view = self._view()
        machine = view.machines.get(row.machine)
        session = view.sessions.get(row.machine)
        held = view.held_tasks(row.machine)
        return AgentShown(
            id=row.id,
            state=view.agent_state(row),
            machine=row.machine,
            machine_name=machine.name if machine is not None else "",
            runtime=row.runtime,
            project=row.project,
            capabilities=row.capabilities,
            labels=row.labels,
            slots=row.slots,
            slots_used=view.slots_used.get(row.id, 0),
            paused=row.paused,
            suspect=session is not None and session.suspect,
            cli_version=row.cli_version,
            tasks=tuple(
                task.id for task in held if task.agent == row.id and task.project == row.project
            ),
            account=row.account,
            quarantined=row.quarantined,
            quarantined_at=row.quarantined_at,
            tried_at=row.tried_at,
            problem=row.problem,
        )

    def _machine(self, row: Machine) -> MachineShown:
        view = self._view()
        session = view.sessions.get(row.id)
        return MachineShown(
            id=row.id,
            name=row.name,
            owner=row.owner,
            created_at=row.created_at,
            connected=session is not None and session.connection is not None,
            suspect=session is not None and session.suspect,
            draining=row.draining or machine_scope(row.id) in view.pauses,
            last_seen=row.last_seen,
            lease_ttl_ms=row.ttl_ms,
            agents=tuple(view.agents_of.get(row.id, ())),
            tasks=tuple(task.id for task in view.held_tasks(row.id) if task.project == row.project),
        )


def _is_under(gates: Gates, gate: object, rule: Limit) -> bool:
    return isinstance(gate, str) and gates.rule_of(gate) is rule


def _pick(kind: str, text: str, rows: Sequence[_Row], *, name: Callable[[_Row], str]) -> _Row:
    exact = [row for row in rows if text in (row.id, name(row))]
    found = exact or [row for row in rows if text and (text in row.id or text in name(row))]
    if not found:
        raise NotFound(f"there is no such {kind}, or not for this token")
    if len(found) > 1:
        names = ", ".join(name(row) for row in found[:_SHOWN_MAX])
        raise Ambiguous(f"several {kind}s have {text} in their name: {names}")
    return found[0]
