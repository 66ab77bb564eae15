"""Gates: what a task passes before it can start, apart from an agent that suits it.

A gate is a scope with a rule (`model/limit.py`: so many attempts at once, so many starts per
time), or the files of a repository that a task claims. This file knows what is open and says why;
what attempts take and give back is in `core/passing.py`.
"""

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

from agentcom.model import globs, limit
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.limit import Limit, Usage
from agentcom.model.task import Task

REPOSITORY: Final = "repo:"


class Files(NamedTuple):
    """The gate of the files that a task claims in a repository."""

    repo: str
    globs: tuple[str, ...]
    shared: bool

    def conflicts(self, other: "Files") -> bool:
        """Return whether two tasks may not run at the same time."""
        return not (self.shared and other.shared) and globs.overlap(self.globs, other.globs)


class Claims(NamedTuple):
    """All claims in one repository: always open, and looked at when one comes or goes."""

    repo: str


def scopes(task: Task) -> tuple[str, ...]:
    """Return everything that a limit can be set on, of one task."""
    return (f"project:{task.project}", f"submitter:{task.submitter}", *task.keys)


def files_of(task: Task) -> Files:
    """Return the gate of a task's files."""
    repo = next((key for key in task.keys if key.startswith(REPOSITORY)), REPOSITORY)
    return Files(repo, task.files, task.files_shared)


class Gates:
    """The rules of a pool, and what the attempts under way have taken of them."""

    __slots__ = ("files_held", "rates", "rules", "spent", "taken")

    def __init__(self) -> None:
        self.rules: dict[str, Limit] = {}
        self.rates: dict[str, Usage] = {}
        self.taken: dict[str, int] = {}
        """Attempts under way in each scope with a bound."""
        self.spent: dict[str, None] = {}
        """Scopes whose rate is used up for now."""
        self.files_held: dict[str, dict[TaskId, Files]] = {}
        """Repository -> what the attempts under way claim of its files."""

    def gates_of(self, task: Task) -> tuple[Hashable, ...]:
        """Return the gates that a task passes as the rules are now."""
        found: list[Hashable] = []
        if self.rules:
            found += [scope for scope in scopes(task) if self.is_bounded(scope)]
        if task.files:
            files = files_of(task)
            found += [files, Claims(files.repo)]
        return tuple(found)

    def rule_of(self, scope: str) -> Limit | None:
        """Return the rule for a scope: its own, or the one for each of its kind."""
        return self.rules.get(scope) or self.rules.get(limit.scope_rule(scope))

    def is_bounded(self, scope: str) -> bool:
        """Return whether attempts in a scope are counted."""
        rule = self.rule_of(scope)
        return rule is not None and (rule.concurrency is not None or rule.rate is not None)

    def is_open(self, gate: Hashable) -> bool:
        """Return whether one more attempt may pass a gate now."""
        if isinstance(gate, Files):
            held = self.files_held.get(gate.repo)
            return not held or not any(gate.conflicts(other) for other in held.values())
        if isinstance(gate, Claims):
            return True
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

    def blocker(self, gate: Hashable) -> tuple[str, WallTime | None] | None:
        """Return in words why a gate is shut, and until when; None if it is open."""
        if self.is_open(gate):
            return None
        if isinstance(gate, Files):
            names = ", ".join(str(task) for task in self.holders(gate))
            return f"its files ({', '.join(gate.globs)}) are in use by {names}", None
        assert isinstance(gate, str), gate
        rule = self.rule_of(gate)
        assert rule is not None
        taken = self.taken.get(gate, 0)
        if rule.concurrency is not None and taken >= rule.concurrency:
            return f"the limit of {gate} is full: {taken} of {rule.concurrency} run", None
        assert rule.rate is not None
        words = f"the rate of {gate} is used up: {rule.rate} starts in {_period(rule.per_ms)}"
        return words, self.opens_at(gate)

    def holders(self, gate: Files) -> Sequence[TaskId]:
        """Return the tasks whose attempts keep a claim of files from starting."""
        held = self.files_held.get(gate.repo, {})
        return [task for task, other in held.items() if gate.conflicts(other)]


def _period(period_ms: int) -> str:
    for unit, size in ("d", 86_400_000), ("h", 3_600_000), ("min", 60_000):
        if period_ms % size == 0:
            return f"{period_ms // size} {unit}"
    return f"{period_ms / 1_000:g} s"
