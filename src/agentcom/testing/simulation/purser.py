"""Looks at what work costs: every turn counts once, and no budget gives more than it has.

It knows the rows of usage and budgets as they are written, and judges them by their figures.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from agentcom.model.batch import Batch, Insert, Table, Update, usage_key
from agentcom.model.budget import Budget, Period, ScopeBudget, used_up
from agentcom.model.event import EventKind
from agentcom.model.task import Phase
from agentcom.model.usage import Usage
from agentcom.testing.simulation.auditor import Auditor
from agentcom.testing.simulation.trace import Trace

SCOPE: Final = "project:default"
"""The budget of a simulation is its only project's."""
PERIOD: Final = Period.TOTAL
MORE_TURNS: Final = 6
"""What it is raised by, again and again: so it is used up again and again."""


class Purser:
    """Checks each durable batch, after the auditor."""

    def __init__(self, auditor: Auditor, trace: Trace) -> None:
        self.usage: dict[str, Usage] = {}
        self.budget: ScopeBudget | None = None
        self._sum = 0
        """Turns since the budget was set."""
        self._reached = 0
        """The batch that used the budget up; 0: something is left."""
        self._auditor = auditor
        self._trace = trace

    def raised(self) -> Budget:
        """Return the limits that leave some turns."""
        spent = self.budget.spent.turns if self.budget is not None else 0
        return Budget(turns=spent + MORE_TURNS)

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin anew with what a restored store holds."""
        self.usage, self.budget, self._sum, self._reached = {}, None, 0, 0
        for batch in batches:
            self._take(batch)

    def committed(self, batch: Batch) -> None:
        """Check one durable batch, and take it down."""
        before = self.budget
        turns = self._take(batch)
        budget = self.budget
        if budget is None:
            self._reached = 0
            return
        same = budget.spent.turns == self._sum
        self._trace.check("I18 what is counted is spent", same, (budget, self._sum))
        if _lacks(before) and _lacks(budget):
            self._check_begun(batch)
        if not _lacks(budget):
            self._reached = 0
            return
        self._reached = self._reached or self._auditor.books.length
        beyond = budget.spent.turns - (budget.limits.turns or 0)
        for usage in turns[-1 - beyond :]:  # those before it in the batch found something left
            self._check_beyond(usage)

    def check_counted(self, stored: Mapping[str, str]) -> None:
        """Every turn that was on a machine's disk is counted."""
        for key, where in stored.items():
            self._trace.check("I18 no turn is lost", key in self.usage, (key, where))

    def _take(self, batch: Batch) -> list[Usage]:
        turns = []
        for change in batch.changes:
            match change:
                case Insert(table=Table.USAGE, key=key, row=Usage() as usage):
                    again = key in self.usage or key != usage_key(
                        usage.task, usage.fence, usage.turn
                    )
                    self._trace.check("I18 a turn counts once", not again, usage)
                    self.usage[key] = usage
                    turns.append(usage)
                case Insert(row=ScopeBudget() as budget):
                    self.budget, self._sum = budget, budget.spent.turns - len(turns)
                case Update(row=ScopeBudget() as budget):
                    self.budget = budget
                case _ if change.table is Table.BUDGET:
                    self.budget = None
                case _:
                    pass
        self._sum += len(turns)
        return turns

    def _check_begun(self, batch: Batch) -> None:
        for append in batch.appends:
            task = self._auditor.books.tasks[append.record.task]
            begun = append.record.kind is EventKind.ASSIGNED and not task.landing_only
            self._trace.check("I19 a budget that is used up gives no attempt", not begun, task)

    def _check_beyond(self, usage: Usage) -> None:
        """What is spent beyond a limit is spent by who was running, and is asked to end."""
        auditor = self._auditor
        issue = auditor.issued.get((usage.task, usage.fence))
        if issue is not None and usage.fence.incarnation == auditor.incarnation():
            before = issue.journal <= self._reached
            self._trace.check("I19 only who was running spends beyond", before, usage)
        task = auditor.books.tasks.get(usage.task)
        works = task is not None and task.state.held and task.phase is not Phase.LANDING
        if task is not None and works and task.fence == usage.fence:
            asked = task.stop_reason is not None
            self._trace.check("I19 who spends beyond is asked to end", asked, (task, usage))


def _lacks(budget: ScopeBudget | None) -> bool:
    return budget is not None and used_up(budget.limits, budget.spent) is not None
