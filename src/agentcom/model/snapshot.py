"""Everything live in a pool, as a store's scan returns it and the view is built from it."""

from collections.abc import Sequence

import msgspec

from agentcom.model.agent import Account, Agent, Machine
from agentcom.model.ask import Ask
from agentcom.model.budget import ScopeBudget
from agentcom.model.graph import Edge, Tally
from agentcom.model.hold import Hold
from agentcom.model.limit import Limit, Usage
from agentcom.model.lock import Lock
from agentcom.model.message import Head
from agentcom.model.pause import Pause
from agentcom.model.task import Task
from agentcom.model.todo import Todo


class Snapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The live rows; a consistent picture of one moment."""

    tasks: Sequence[Task] = ()
    edges: Sequence[Edge] = ()
    tallies: Sequence[Tally] = ()
    """Of the groups that have live tasks."""
    holds: Sequence[Hold] = ()
    limits: Sequence[Limit] = ()
    rates: Sequence[Usage] = ()
    agents: Sequence[Agent] = ()
    accounts: Sequence[Account] = ()
    machines: Sequence[Machine] = ()
    todos: Sequence[Todo] = ()
    budgets: Sequence[ScopeBudget] = ()
    pauses: Sequence[Pause] = ()
    locks: Sequence[Lock] = ()
    lock_numbers: Head | None = None
    """Which number a lock got last."""
    asks: Sequence[Ask] = ()
    """The open ones."""
