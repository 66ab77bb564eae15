"""Gates: what a task passes before it can start, apart from an agent that suits it.

A gate is a scope with a rule (`model/limit.py`: so many attempts at once, so many starts per
time), a budget, a pause (`core/pauses.py`), or the files of a repository that a task claims. This
file knows what is open and says why; what attempts take and give back is in `core/passing.py` and
`core/budgets.py`.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from agentcom.core import locks, pauses
from agentcom.core.locks import Locks
from agentcom.core.pauses import OWN, Paused
from agentcom.core.purse import Purse
from agentcom.model import limit
from agentcom.model.ids import PoolId, TaskId, WallTime
from agentcom.model.limit import Limit, Usage
from agentcom.model.lock import LockId
from agentcom.model.pause import Pause
from agentcom.model.task import Task

REPOSITORY: Final = "repo:"


class Files(NamedTuple):
    """The gate of the files that a task claims in a repository."""

    repo: str
    globs: tuple[str, ...]
    shared: bool

    def conflicts(self, other: "Files") -> bool:
        """Return whether two tasks may not run at the same time."""
        return locks.meet(self, other)


Attempt = tuple[TaskId, int]


class Touched(NamedTuple):
    """What an attempt under way has changed, as its machine told last; replaced as a whole."""

    attempt: int
    repo: str
    paths: tuple[str, ...]
    changed: int
    """How many paths, also those that were not told."""
    told: Mapping[Attempt, tuple[str, str]]
    """Attempts that change the same: in which words this one, and that one, was told."""
    clashes: Mapping[Attempt, tuple[str, ...]] = {}
    """Attempts whose work was tried with this one's: the files in conflict."""


class Claims(NamedTuple):
    """All claims in one repository: always open, and looked at when one comes or goes."""

    repo: str


class Held(NamedTuple):
    """What shuts the gate of a task's files: an attempt under way (by its task), or a lock."""

    repo: str
    by: TaskId | LockId


class Budgeted(NamedTuple):
    """The gate of a budget, by the key of its row: open while it gives something."""

    key: str


def scopes(task: Task) -> tuple[str, ...]:
    """Return everything that a limit can be set on, of one task."""
    return (f"project:{task.project}", f"submitter:{task.submitter}", *task.keys)


def files_of(task: Task) -> Files:
    """Return the gate of a task's files."""
    repo = next((key for key in task.keys if key.startswith(REPOSITORY)), REPOSITORY)
    return Files(repo, task.files, task.files_shared)


class Gates:
    """The rules and pauses of a pool, and what the attempts under way have taken."""

    __slots__ = (
        *("files_held", "locks", "pauses", "pool", "purse", "rates", "rules", "spent"),
        *("taken", "touched"),
    )

    def __init__(self, pool: PoolId, purse: Purse) -> None:
        self.pool = pool
        self.purse = purse
        self.pauses: dict[str, Pause] = {}
        """The pauses of more than one task, by scope."""
        self.rules: dict[str, Limit] = {}
        self.rates: dict[str, Usage] = {}
        self.taken: dict[str, int] = {}
        """Attempts under way in each scope with a bound."""
        self.spent: dict[str, None] = {}
        """Scopes whose rate is used up for now."""
        self.files_held: dict[str, dict[TaskId, Files]] = {}
        """Repository -> what the attempts under way claim of its files."""
        self.locks = Locks(self.files_held)
        self.touched: dict[TaskId, Touched] = {}
        """What attempts under way changed; a hint that a restart forgets."""

    @property
    def ruled(self) -> bool:
        """Whether people bound or paused anything: tasks may have gates that came after them."""
        return bool(self.rules or self.pauses or self.purse.budgets)

    def gates_of(self, task: Task) -> tuple[Hashable, ...]:
        """Return the gates that a task passes as rules, pauses and budgets are now."""
        found: list[Hashable] = []
        if self.pauses or task.paused is not None:
            found += pauses.gates_of(self, task)
        if self.rules:
            found += [scope for scope in scopes(task) if self.is_bounded(scope)]
        if self.purse.budgets:
            found += map(Budgeted, self.purse.scopes(task))
        if task.files:
            files = files_of(task)
            found += [files, Claims(files.repo)]
        return tuple(found)

    @staticmethod
    def guard(gate: Hashable) -> Hashable:
        """Return the gate that is looked at when another one may have opened or shut."""
        return Claims(gate.repo) if isinstance(gate, Files) else gate

    def rule_of(self, scope: str) -> Limit | None:
        """Return the rule for a scope: its own, or the one for each of its kind."""
        return self.rules.get(scope) or self.rules.get(limit.scope_rule(scope))

    def is_bounded(self, scope: str) -> bool:
        """Return whether attempts in a scope are counted."""
        rule = self.rule_of(scope)
        return rule is not None and (rule.concurrency is not None or rule.rate is not None)

    def is_open(self, gate: Hashable) -> bool:
        """Return whether one more attempt may pass a gate now."""
        return self.closed_by(gate) is None

    def closed_by(self, gate: Hashable) -> Hashable | None:
        """Return what shuts a gate now: itself, or what holds its files; None if it is open.

        What holds files may be asked for, too: it is shut as long as it holds them.
        """
        if isinstance(gate, Files):
            return next(self._holding(gate), None)
        if isinstance(gate, Held):
            held = gate.by in self.files_held.get(gate.repo, ()) or gate.by in self.locks.rows
            return gate if held else None
        return None if self._is_open(gate) else gate

    def _holding(self, gate: Files) -> Iterator[Held]:
        for task, other in self.files_held.get(gate.repo, {}).items():
            if gate.conflicts(other):
                yield Held(gate.repo, task)
        if gate.repo in self.locks.places:
            for lock in self.locks.against(gate.repo, gate):
                yield Held(gate.repo, lock.id)

    def _is_open(self, gate: Hashable) -> bool:
        if isinstance(gate, Paused):
            return gate != OWN and gate.scope not in self.pauses
        if isinstance(gate, Claims):
            return True
        if isinstance(gate, Budgeted):
            return self.purse.lacks(gate.key) is None
        assert isinstance(gate, str), gate
        rule = self.rule_of(gate)
        if rule is None:
            return True
        full = rule.concurrency is not None and self.taken.get(gate, 0) >= rule.concurrency
        return not full and (rule.rate is None or gate not in self.spent)

    def opens_at(self, scope: str) -> WallTime | None:
        """Return when a rate allows the next start; None if there is no rate."""
        rule, usage = self.rule_of(scope), self.rates.get(scope)
        if rule is None or rule.rate is None or usage is None:
            return None
        return WallTime(usage.earned_at - rule.per_ms + round(rule.per_ms / rule.rate))

    def weight(self, project: str, submitter: str) -> float:
        """Return a submitter's share of the fleet, beside the others'."""
        if not self.rules:
            return 1.0
        weight = 1.0
        for scope in f"project:{project}", f"submitter:{submitter}":
            rule = self.rule_of(scope)
            if rule is not None and rule.weight is not None:
                weight *= rule.weight
        return weight

    def blocker(
        self, gate: Hashable, task: Task | None = None
    ) -> tuple[str, WallTime | None] | None:
        """Return in words why a gate is shut, and until when; None if it is open.

        `task` is who stands behind it: its own pause counts, and what its project may know.
        """
        if self.is_open(gate):
            return None
        if isinstance(gate, Paused):
            own = task.paused if task is not None else None
            pause = own if gate == OWN else self.pauses[gate.scope]
            assert pause is not None, gate
            return pause.words, None
        if isinstance(gate, Files):
            return f"its files ({', '.join(gate.globs)}) are {self._keepers(gate, task)}", None
        if isinstance(gate, Budgeted):
            return str(self.purse.lacks(gate.key)), self.purse.opens_at(gate.key)
        assert isinstance(gate, str), gate
        rule = self.rule_of(gate)
        assert rule is not None
        taken = self.taken.get(gate, 0)
        if rule.concurrency is not None and taken >= rule.concurrency:
            return f"the limit of {gate} is full: {taken} of {rule.concurrency} run", None
        assert rule.rate is not None
        words = f"the rate of {gate} is used up: {rule.rate} starts in {_period(rule.per_ms)}"
        return words, self.opens_at(gate)

    def _keepers(self, gate: Files, of: Task | None) -> str:
        tasks = ", ".join(str(task) for task in self.holders(gate))
        found = [f"in use by {tasks}"] if tasks else []
        for lock in self.locks.against(gate.repo, gate):
            state = "locked" if lock.granted_at is not None else "waited for"
            mine = of is None or of.project == lock.project
            what = f"{lock.holder} ({lock.words})" if mine else "another project"
            found.append(f"{state} by {what}")
        return ", and ".join(found)

    def holders(self, gate: Files) -> Sequence[TaskId]:
        """Return the tasks whose attempts keep a claim of files from starting."""
        held = self.files_held.get(gate.repo, {})
        return [task for task, other in held.items() if gate.conflicts(other)]


def _period(period_ms: int) -> str:
    for unit, size in ("d", 86_400_000), ("h", 3_600_000), ("min", 60_000):
        if period_ms % size == 0:
            return f"{period_ms // size} {unit}"
    return f"{period_ms / 1_000:g} s"
