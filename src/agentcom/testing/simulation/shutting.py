"""Checks that what is paused or in quarantine gets nothing."""

from collections.abc import Mapping
from typing import Final

from agentcom.model.agent import Agent
from agentcom.model.batch import Batch
from agentcom.model.event import EventKind
from agentcom.model.ids import AgentId
from agentcom.model.pause import Pause
from agentcom.model.task import Task
from agentcom.testing.simulation.books import Books
from agentcom.testing.simulation.trace import Trace

MOVES: Final = frozenset({EventKind.EDITED, EventKind.PAUSED, EventKind.UNPAUSED})
"""What happens to a queued task that gives it another place, or another gate."""


def check(
    batch: Batch,
    books: Books,
    trace: Trace,
    before: Mapping[str, Task | None],
    paused: Mapping[str, Pause],
    agents: Mapping[AgentId, Agent],
) -> None:
    """What was paused or quarantined before a batch, and still is after it, got nothing."""
    closed = [p for scope, p in paused.items() if books.pauses.get(scope) is p]
    lifted = {a.record.task for a in batch.appends if a.record.kind is EventKind.UNPAUSED}
    for append in batch.appends:
        record = append.record
        if record.kind is not EventKind.ASSIGNED:
            continue
        # All tasks of a simulation are of one project and one pool.
        trace.check("nothing is issued in a paused scope", not closed, (record, closed))
        old = before.get(record.task)
        own = old.paused if old is not None and record.task not in lifted else None
        trace.check("no paused task is issued", own is None, (record, own))
        agent = agents.get(record.agent or AgentId(""))
        same = agent is not None and books.agents[agent.id] is agent
        shut = same and agent is not None and agent.quarantined is not None
        shut = shut and agent is not None and not agent.on_trial
        trace.check("no quarantined agent gets work", not shut, (record, agent))
