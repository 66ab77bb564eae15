"""Agents that fail whatever they are given get nothing more, but for a trial now and then.

What counts is that an agent fails different tasks in a row, for reasons that may be its own: a bad
task that goes round the fleet counts once for each agent. A success clears the count.

An agent is spared unless another one of its class works and fails nothing: when all fail, the fault
is none of theirs (a model that is down, a bad base), and to stop them would stop everything. Only
who says that it can run nothing at all is stopped in any case: whatever it gets would only become
a dead letter.

Agents that fail one task in twenty fail three in a row some day, so an agent in quarantine is given
one task after a while: a success ends it, a failure makes it twice as long. Who can run nothing at
all waits for a person.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from agentcom.core import moves, pauses
from agentcom.core.due_facts import TrialDue
from agentcom.core.effects import SetTimer
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.agent import Agent
from agentcom.model.batch import Table
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Instant, Now, WallTime, utc
from agentcom.model.limits import QUARANTINE_FAILURES, QUARANTINE_MAX_MS, QUARANTINE_MS
from agentcom.model.replies import AgentRule
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
        FailureClass.RESOURCES: False,  # the task's size, or too low a bound for it
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
        write(turn, lifted(agent))


def declined(turn: Turn, task: Task) -> None:
    """Note that an agent's machine would not start a task."""
    agent = turn.view.agents.get(task.agent) if task.agent is not None else None
    if agent is not None:
        failed(turn, task, agent, None)


def failed(turn: Turn, task: Task, agent: Agent, failure: FailureClass | None) -> None:
    """Count a failure, and stop giving work to an agent that had too many."""
    if agent.on_trial:
        _stop(turn, replace(agent, strikes=agent.strikes + 1), failure)
    if task.id in agent.failed or agent.quarantined is not None:
        return
    after = replace(agent, failed=(*agent.failed, task.id)[-QUARANTINE_FAILURES:])
    enough = len(after.failed) >= QUARANTINE_FAILURES
    if enough and (failure in HOPELESS or _others_do_well(turn.view, agent)):
        how = failure.value if failure is not None else DECLINED
        reason = f"it failed {len(after.failed)} different tasks in a row, the last one: {how}"
        turn.record(task, EventKind.AGENT_QUARANTINED, reason)
        _stop(turn, replace(after, quarantined=reason, quarantined_at=turn.now.wall), failure)
    else:
        write(turn, after)


def lifted(agent: Agent) -> Agent:
    """Return an agent of which nothing bad is remembered."""
    return replace(
        agent,
        failed=(),
        quarantined=None,
        quarantined_at=None,
        tried_at=None,
        on_trial=False,
        strikes=0,
    )


def due(turn: Turn, body: TrialDue) -> None:
    """Let an agent try one task, if its time has come."""
    agent = turn.view.agents.get(body.agent)
    if agent is None or agent.tried_at is None:
        return
    if 0 < agent.tried_at - turn.now.wall <= QUARANTINE_MAX_MS:  # else the clock was set back
        turn.effects.append(_timer(agent.id, agent.tried_at, turn.now))
    else:
        write(turn, replace(agent, tried_at=None, on_trial=True))


def timers(view: PoolView, now: Now) -> Sequence[SetTimer]:
    """Return the timers of stored trials; also after the wall clock was set."""
    waiting = ((one.id, one.tried_at) for one in view.agents.values())
    return [_timer(name, at, now) for name, at in waiting if at is not None]


def write(turn: Turn, agent: Agent) -> None:
    """Store an agent's new row, and look again whether it can take work."""
    view = turn.view
    after = replace(agent, version=agent.version + 1)
    turn.write(Table.AGENT, agent.id, after, old=agent.version)
    view.put(view.agents, agent.id, after)
    view.refresh(agent.id)
    turn.ready(agent.id)


def rule(agent: Agent) -> AgentRule:
    """Return why an agent in quarantine gets nothing, and what ends that."""
    cure = f"when that is put right: agentcom agent resume {agent.id}"
    if agent.tried_at is None:
        return AgentRule(agent.id, "quarantined", f"{agent.quarantined}; {cure}")
    trial = f"it tries one task at {utc(agent.tried_at)}"
    return AgentRule(agent.id, "trial", f"{agent.quarantined}; {trial}, or {cure}")


def _stop(turn: Turn, agent: Agent, failure: FailureClass | None) -> None:
    """Give an agent no work until its next trial, if it can run anything."""
    pause_ms = min(QUARANTINE_MAX_MS, QUARANTINE_MS << min(agent.strikes, 16))
    tried_at = None if failure in HOPELESS else WallTime(turn.now.wall + pause_ms)
    write(turn, replace(agent, tried_at=tried_at, on_trial=False))
    if tried_at is not None:
        turn.effects.append(_timer(agent.id, tried_at, turn.now))


def _timer(agent: AgentId, at: WallTime, now: Now) -> SetTimer:
    left_ms = min(max(0, at - now.wall), QUARANTINE_MAX_MS)
    return SetTimer(f"trial/{agent}", Instant(now.instant + left_ms), TrialDue(agent))


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
    if not agent.ready or agent.quarantined is not None or pauses.stop_of(view.pauses, agent):
        return False
    return session is not None and session.connection is not None
