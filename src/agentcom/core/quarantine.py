"""Agents that fail whatever they are given get nothing more, until a person has looked.

What counts is that an agent fails different tasks in a row, for reasons that may be its own: a bad
task that goes round the fleet counts once for each agent. A success clears the count.

An agent is spared unless another one of its class works and fails nothing: when all fail, the fault
is none of theirs (a model that is down, a bad base), and to stop them would stop everything. Only
who says that it can run nothing at all is stopped in any case: whatever it gets would only become
a dead letter.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from agentcom.core import moves
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.agent import Agent
from agentcom.model.batch import Table
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.limits import QUARANTINE_FAILURES
from agentcom.model.requirement import PROMPT
from agentcom.model.task import Task, Wait

replace: Final = msgspec.structs.replace

DECLINED: Final = "declined"
COUNTS: Final[Mapping[FailureClass, bool]] = MappingProxyType(
    {
        FailureClass.AUTH: True,  # its login is gone
        FailureClass.QUOTA: False,  # it says when it is back
        FailureClass.RATE_LIMIT: False,  # it passes
        FailureClass.MODEL_UNAVAILABLE: True,
        FailureClass.REFUSED: False,  # the task's words
        FailureClass.CONTEXT_FULL: False,  # the task's size
        FailureClass.NO_PROGRESS: True,
        FailureClass.DEADLINE: False,  # the task's size, or too short a time for it
        FailureClass.CRASHED: True,
        FailureClass.NOT_INSTALLED: True,
        FailureClass.AGENT: True,  # but for the exit code of a plain command
        FailureClass.VERIFICATION: False,  # the work is bad; that is what checks are for
        FailureClass.NO_CHANGE: False,
        FailureClass.WORKSPACE: True,  # its disk, its git, its way to the origin
        FailureClass.CONFLICT: False,
        FailureClass.DEPENDENCY: False,
        FailureClass.LEASE_LOST: False,  # a machine's, and leases look after those
        FailureClass.REVOKED: False,
        FailureClass.BUDGET: False,  # the task's or somebody's money
        FailureClass.EXPIRED: False,  # nobody had it
        FailureClass.REJECTED: False,  # a person's word, no agent's attempt
    }
)
"""Which failures may be the agent's own fault. A declined attempt counts, too."""
HOPELESS: Final = frozenset({FailureClass.AUTH, FailureClass.NOT_INSTALLED})
"""An agent that fails so cannot run any task: it is stopped even if nobody else is there."""


def judged(turn: Turn, task: Task, event: moves.Event) -> None:
    """Note what a result says of the agent that brought it."""
    agent = turn.view.agents.get(task.agent) if task.agent is not None else None
    if agent is None:
        return
    if isinstance(event, moves.Failed):
        if COUNTS[event.failure] and not _is_exit_code(task, event.failure):
            failed(turn, task, agent, event.failure)
    elif agent.failed and not (isinstance(event, moves.Parked) and event.wait is Wait.QUOTA):
        write(turn, replace(agent, failed=()))


def declined(turn: Turn, task: Task) -> None:
    """Note that an agent's machine would not start a task."""
    agent = turn.view.agents.get(task.agent) if task.agent is not None else None
    if agent is not None:
        failed(turn, task, agent, None)


def failed(turn: Turn, task: Task, agent: Agent, failure: FailureClass | None) -> None:
    """Count a failure, and stop giving work to an agent that had too many."""
    if task.id in agent.failed or agent.quarantined is not None:
        return
    after = replace(agent, failed=(*agent.failed, task.id)[-QUARANTINE_FAILURES:])
    enough = len(after.failed) >= QUARANTINE_FAILURES
    if enough and (failure in HOPELESS or _others_do_well(turn.view, agent)):
        how = failure.value if failure is not None else DECLINED
        reason = f"it failed {len(after.failed)} different tasks in a row, the last one: {how}"
        after = replace(after, quarantined=reason, quarantined_at=turn.now.wall)
        turn.record(task, EventKind.AGENT_QUARANTINED, reason)
    write(turn, after)


def write(turn: Turn, agent: Agent) -> None:
    """Store an agent's new row, and look again whether it can take work."""
    view = turn.view
    after = replace(agent, version=agent.version + 1)
    turn.write(Table.AGENT, agent.id, after, old=agent.version)
    view.put(view.agents, agent.id, after)
    view.refresh(agent.id)
    turn.ready(agent.id)


def _is_exit_code(task: Task, failure: FailureClass) -> bool:
    """Return whether it was a plain command that failed: what it says is about the task."""
    return failure is FailureClass.AGENT and PROMPT not in task.needs


def _others_do_well(view: PoolView, agent: Agent) -> bool:
    """Return whether somebody who works can run what this agent can, and fails nothing."""
    mine = view.class_of[agent.id]
    return any(
        view.class_of[other.id] == mine and not other.failed and _works(view, other)
        for other in view.agents.values()
        if other.id != agent.id
    )


def _works(view: PoolView, agent: Agent) -> bool:
    machine, session = view.machines.get(agent.machine), view.sessions.get(agent.machine)
    if machine is None or machine.draining or machine.removed:
        return False
    if agent.paused or agent.absent or agent.quarantined is not None:
        return False
    return session is not None and session.connection is not None
