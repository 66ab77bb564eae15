"""Everything live in a pool, as a store's scan returns it and the view is built from it."""

from collections.abc import Sequence

import msgspec

from agentcom.model.agent import Agent, Machine
from agentcom.model.graph import Edge, Tally
from agentcom.model.task import Hold, Task
from agentcom.model.todo import Todo


class Snapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The live rows; a consistent picture of one moment."""

    tasks: Sequence[Task] = ()
    edges: Sequence[Edge] = ()
    tallies: Sequence[Tally] = ()
    """Of the groups that have live tasks."""
    holds: Sequence[Hold] = ()
    agents: Sequence[Agent] = ()
    machines: Sequence[Machine] = ()
    todos: Sequence[Todo] = ()
