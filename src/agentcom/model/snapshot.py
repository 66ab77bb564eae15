"""Everything live in a pool, as a store's scan returns it and the view is built from it."""

from collections.abc import Sequence

import msgspec

from agentcom.model.agent import Account, Agent, Machine
from agentcom.model.limit import Limit, Usage
from agentcom.model.task import Edge, Hold, Task
from agentcom.model.todo import Todo


class Snapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The live rows; a consistent picture of one moment."""

    tasks: Sequence[Task] = ()
    edges: Sequence[Edge] = ()
    holds: Sequence[Hold] = ()
    limits: Sequence[Limit] = ()
    rates: Sequence[Usage] = ()
    agents: Sequence[Agent] = ()
    accounts: Sequence[Account] = ()
    machines: Sequence[Machine] = ()
    todos: Sequence[Todo] = ()
