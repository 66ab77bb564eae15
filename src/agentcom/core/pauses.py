"""What a pause means: which scopes a task is in, and which of them are closed.

A pause is a gate (`core/gates.py`): who is behind it waits in a lane that nobody is shown. Pure
questions about one task. What a pause sets in motion is in `core/pausing.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from agentcom.model.agent import Agent
from agentcom.model.ids import PoolId, ProjectId
from agentcom.model.pause import ALL, Pause, machine_scope
from agentcom.model.replies import AgentRule
from agentcom.model.task import Task


class Paused(NamedTuple):
    """The gate of a pause."""

    scope: str


OWN: Final = Paused("task")
"""The gate of all tasks that are paused by themselves: each comes out of it by its own move."""


class Closed(Protocol):
    """What a view, or its gates, show of pauses."""

    @property
    def pool(self) -> PoolId:
        """Whose tasks these are."""
        ...

    @property
    def pauses(self) -> Mapping[str, Pause]:
        """The pauses of more than one task, by scope."""
        ...


def scopes(pool: PoolId, project: ProjectId) -> tuple[str, str, str]:
    """Return the scopes that close a project's tasks in a pool, the widest first."""
    return ALL, f"pool:{pool}", f"project:{project}"


def find(view: Closed, task: Task) -> Pause | None:
    """Return the widest pause that keeps a task from new attempts."""
    for gate in gates_of(view, task):
        return task.paused if gate is OWN else view.pauses[gate.scope]
    return None


def gates_of(view: Closed, task: Task) -> Sequence[Paused]:
    """Return the gates of the pauses that a task is under, the widest first."""
    closed = view.pauses
    names = (*scopes(view.pool, task.project), f"user:{task.submitter}")
    found = [Paused(name) for name in names if name in closed]
    return found if task.paused is None else [*found, OWN]


def stop_of(closed: Mapping[str, Pause], agent: Agent) -> Pause | None:
    """Return by what a person keeps an agent, or its whole machine, from all work."""
    return closed.get(machine_scope(agent.machine)) or closed.get(f"agent:{agent.id}")


def rule(closed: Mapping[str, Pause], agent: Agent) -> AgentRule | None:
    """Return the stop of an agent as the rule that keeps every task from it."""
    stop = stop_of(closed, agent) if closed else None
    return None if stop is None else AgentRule(agent.id, "stopped", f"{stop.words}; {lift(stop)}")


def lift(pause: Pause) -> str:
    """Return the command that ends a pause."""
    kind, _, name = pause.key.partition(":")
    if kind == "task":
        return f"agentcom task resume {name}"
    return f"agentcom resume --{kind} {pause.name or name}".rstrip()
