"""Why a task is where it is: the rules of the scheduler, turned round and put into words."""

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from agentcom.core import facts, loops
from agentcom.core.controls import find
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import requirement
from agentcom.model.agent import Agent
from agentcom.model.failure import FailureClass
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.limits import PAGE_MAX
from agentcom.model.replies import AgentRule, Explanation
from agentcom.model.task import Phase, Task, TaskState, Wait

_UNTIL_HELP: Final = frozenset({"paused", "draining", "offline", "removed"})
"""Rules that keep a task from an agent until a person does something."""


def explain(turn: Turn, fact: Fact, body: facts.Explain) -> Explanation:
    """Return, for each agent, the rule that keeps the task from it; changes nothing."""
    task = find(turn, fact, body.task)
    view = turn.view
    match task.state:
        case TaskState.QUEUED:
            return _in_time(_queued(turn, task))
        case TaskState.WAITING:
            return _in_time(_waiting(view, task))
        case TaskState.ASSIGNED | TaskState.RUNNING:
            return _held(turn, task)
        case TaskState.COMPLETED | TaskState.FAILED | TaskState.CANCELLED:
            return _over(task)
        case _:
            assert_never(task.state)


def _in_time(found: Explanation) -> Explanation:
    """Say that a task fails unless it starts, if that comes first."""
    at = found.task.expires_at
    if at is None or (found.next_at is not None and found.next_at < at):
        return found
    action = f"{found.next_action}; unless it has started by then, it fails as expired"
    return msgspec.structs.replace(found, next_action=action, next_at=at)


def _queued(turn: Turn, task: Task) -> Explanation:
    view = turn.view
    rules = tuple(_rule(view, task, agent) for agent in list(view.agents.values())[:PAGE_MAX])
    shape = view.shape_of(task)
    able = [rule for rule in rules if rule.rule != "needs"]
    position = view.matcher.position(task.id)
    at = None
    if view.beyond:
        summary, action = _older_than_the_fleet(view)
    elif view.recovers_at is not None:
        summary = "the hub was restored, and waits for leases that it cannot know of to end"
        action = "work is given out again then"
        at = WallTime(turn.now.wall + max(0, view.recovers_at - turn.now.instant))
    elif not view.agents:
        summary, action = "there are no agents", "add one: agentcom up, or agentcom join"
    elif not view.shapes.compatible_classes(shape):
        missing = ", ".join(task.needs)
        summary = f"no agent can run it: it needs {missing}"
        action = "add an agent that has it, or submit again with other needs"
    else:
        summary, action = _none_free(able)
    missing_needs: tuple[str, ...] = ()
    if view.agents and not able:
        offers = [requirement.canonical_capabilities(a.capabilities) for a in view.agents.values()]
        needs = view.parse_needs(task.needs)
        missing_needs = tuple(
            str(need)
            for need in needs
            if not any(requirement.satisfies(offer, need) for offer in offers)
        )
    return Explanation(
        task=task,
        summary=summary,
        agents=rules,
        missing=missing_needs,
        position=position,
        next_action=action,
        next_at=at,
    )


def _older_than_the_fleet(view: PoolView) -> tuple[str, str]:
    names = ", ".join(view.machines[machine].name for machine in view.beyond)
    summary = (
        "the hub has stopped giving out work: its store is older than the fleet, says "
        f"machine {names}, which holds an attempt that the store never gave"
    )
    action = (
        "stop the hub, put the newest copy of its store back, and start it again; if there is "
        "no newer one, start it once with AGENTCOM_HUB_ACCEPT_ROLLBACK=true; if the store was "
        f"never put back, remove the machine, which is wrong: agentcom machine rm {names}"
    )
    return summary, action


def _none_free(able: Sequence[AgentRule]) -> tuple[str, str]:
    """Return why nobody has it, and whether that passes without anybody's help."""
    one = len(able) == 1
    summary = "1 agent could run it, and is not free" if one else None
    action = f"it starts as soon as {'that one' if one else 'one of them'} is free"
    if all(rule.rule in _UNTIL_HELP for rule in able):
        action = "this does not pass by itself: do what the agents' lines say"
    return summary or f"{len(able)} agents could run it, none is free", action


def _rule(view: PoolView, task: Task, agent: Agent) -> AgentRule:
    lacking = view.shapes.missing(
        view.shape_of(task), requirement.canonical_capabilities(agent.capabilities)
    )
    machine = view.machines.get(agent.machine)
    session = view.sessions.get(agent.machine)
    where = machine.name if machine is not None else agent.machine
    if lacking:
        return AgentRule(agent.id, "needs", "it lacks " + ", ".join(map(str, lacking)))
    if machine is None or machine.removed:
        return AgentRule(agent.id, "removed", f"machine {where} left the fleet")
    if session is None or session.connection is None or agent.absent:
        return AgentRule(agent.id, "offline", f"machine {where} is not connected")
    if session.suspect:
        return AgentRule(agent.id, "suspect", f"machine {where} missed its last heartbeats")
    if agent.paused:
        return AgentRule(agent.id, "paused", f"agentcom agent resume {agent.id}")
    if machine.draining:
        return AgentRule(agent.id, "draining", f"agentcom machine drain --off {where}")
    if view.slots_used.get(agent.id, 0) >= agent.slots:
        running = [t.id for t in view.held_tasks(agent.machine) if t.agent == agent.id]
        return AgentRule(agent.id, "busy", "it works on " + ", ".join(running))
    return AgentRule(agent.id, "order", "tasks before it in the queue come first")


def _waiting(view: PoolView, task: Task) -> Explanation:
    blocked: tuple[TaskId, ...] = ()
    match task.wait:
        case Wait.DEPENDENCIES:
            blocked = tuple(on for on, e in view.edges.get(task.id, {}).items() if not e.met)
            many = f"{len(blocked)} dependencies have not ended", "it starts after them"
            one = "1 dependency has not ended", "it starts after that"
            summary, action = one if len(blocked) == 1 else many
        case Wait.START_TIME:
            summary, action = "its start time is not here yet", "it joins the queue then"
        case Wait.RETRY:
            summary = f"attempt {task.attempt} ended: {task.reason}"
            action = "the next attempt joins the queue then"
        case Wait.QUOTA:
            summary, action = (
                f"the model's quota is used up: {task.reason}",
                "it is tried again then",
            )
        case Wait.ANSWER:
            summary, action = f"it asks: {task.reason}", "answer it"
        case Wait.APPROVAL:
            summary = f"a person must look at it: {task.reason}"
            action = f"agentcom task results {task.id}, then agentcom task adopt or retry"
            if loops.is_suspected(task):
                action = (
                    f"agentcom task retry {task.id} lets it run, agentcom task cancel {task.id} "
                    "ends it; submit with --allow-repeat what is meant to repeat"
                )
        case None:
            summary, action = "it waits", ""
        case _:
            assert_never(task.wait)
    return Explanation(
        task=task, summary=summary, blocked_by=blocked, next_action=action, next_at=task.until
    )


def _held(turn: Turn, task: Task) -> Explanation:
    view = turn.view
    session = view.sessions.get(task.machine) if task.machine is not None else None
    wall = turn.now.wall
    summary = f"attempt {task.attempt} is {task.phase or task.state.value} on {task.agent}"
    action, at = "the attempt is stopped, and counts as failed", task.deadline_at
    if task.phase is Phase.LANDING and task.land_key is not None:
        ahead = view.landing.get(task.land_key, ()).index(task.id)
        summary += f", {ahead} landings before it" if ahead else ", its base is its own"
    if task.stop_reason is not None:
        summary += f"; it was asked to stop ({task.stop_reason.value})"
        action = "its slot is free when the machine confirms, or when the lease ends"
    if session is not None and (session.suspect or session.connection is None):
        summary += "; its machine is silent"
        action = "the task goes back to the queue"
        at = WallTime(wall + max(0, session.expires_at - turn.now.instant))
    return Explanation(task=task, summary=summary, next_action=action, next_at=at)


def _over(task: Task) -> Explanation:
    if task.state is TaskState.COMPLETED:
        how = "verified" if task.verified else "unverified: nobody declared how to verify it"
        return Explanation(task=task, summary=f"it is completed ({how})")
    summary = f"it is {task.state.value}"
    if task.failure is not None:
        summary += f" ({task.failure.value})"
    if task.reason is not None:
        summary += f": {task.reason}"
    action = f"agentcom task retry {task.id}"
    if task.failure is FailureClass.VERIFICATION:
        action = f"agentcom task results {task.id} --checks shows what they printed; {action}"
    return Explanation(task=task, summary=summary, next_action=action)
