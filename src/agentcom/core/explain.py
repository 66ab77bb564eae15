"""Why a task is where it is: the rules of the scheduler, turned round and put into words."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, assert_never

import msgspec

from agentcom.core import (
    accounts,
    budgets,
    facts,
    forecast,
    graphs,
    loops,
    merging,
    pauses,
    placement,
    quarantine,
    questions,
    touching,
    watches,
)
from agentcom.core.controls import find
from agentcom.core.facts import Fact
from agentcom.core.gates import Budgeted
from agentcom.core.shapes import ShapeId
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import ids
from agentcom.model.agent import Account, Agent
from agentcom.model.batch import Table
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, WallTime
from agentcom.model.limits import PAGE_MAX
from agentcom.model.replies import AgentRule, Explanation
from agentcom.model.task import Phase, Task, TaskState, Wait

AUTHOR: Final = "author"  # the rule that keeps a review from whoever made the work
_SHOWN_MAX: Final = 5  # dependencies that a summary names
_UNTIL_HELP: Final = frozenset(
    {"paused", "draining", "offline", "absent", "quarantined", "stopped", "unready"}
)
"""Rules that keep a task from an agent until a person does something."""
_QUOTA: Final = "quota"
_WORDS: Final = {Wait.ANSWER: questions.words, Wait.REVIEW: watches.words}


def explain(turn: Turn, fact: Fact, body: facts.Explain) -> Explanation:
    """Return, for each agent, the rule that keeps the task from it; changes nothing."""
    task = find(turn, fact, body.task)
    match task.state:
        case TaskState.QUEUED:
            return _in_time(_queued(turn, task))
        case TaskState.WAITING:
            return _in_time(_waiting(turn, fact, task))
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
    agents = _able(view, task)
    others = (agent for name, agent in view.agents.items() if name not in agents)
    shown = [*agents.values(), *islice(others, max(0, PAGE_MAX - len(agents)))][:PAGE_MAX]
    rules = tuple(_rule(view, task, agent) for agent in shown)
    able = [rule for rule in rules if rule.agent in agents]
    position = forecast.place_of(view, task)
    if _shut_out(view, task) is not None:
        rules = tuple(rule for rule in rules if rule.rule != "order")
    paused = _shut_out(view, task) if pauses.find(view, task) is not None else None
    said = paused or _standstill(turn) or _kept(view, task, rules, able, agents=len(agents))
    summary, action, at = said
    return Explanation(
        task=task,
        summary=summary,
        agents=rules,
        missing=_missing(view, view.shape_of(task)) if view.agents and not able else (),
        position=position,
        starts_at=forecast.starts_at(turn, task, position, able, agents=len(agents)),
        next_action=action,
        next_at=at,
    )


def _able(view: PoolView, task: Task) -> Mapping[AgentId, Agent]:
    """Return the agents that could run a task now or later."""
    classes = view.shapes.compatible_classes(view.shape_of(task))
    return {
        agent.id: agent
        for agent in view.agents.values()
        if classes >> view.class_of[agent.id] & 1
        and placement.is_there(view, agent)
        and graphs.may_review(view, task.id, agent)
    }


Words = tuple[str, str, WallTime | None]  # why, what happens next, and when


def _standstill(turn: Turn) -> Words | None:
    """Return why the hub gives out nothing at all, if it does not."""
    view = turn.view
    if view.beyond:
        return (*_older_than_the_fleet(view), None)
    if view.recovers_at is not None:
        summary = "the hub was restored, and waits for leases that it cannot know of to end"
        at = WallTime(turn.now.wall + max(0, view.recovers_at - turn.now.instant))
        return summary, "work is given out again then", at
    if not view.agents:
        return "there are no agents", "add one: agentcom up, or agentcom join", None
    return None


def _kept(
    view: PoolView,
    task: Task,
    rules: Sequence[AgentRule],
    able: Sequence[AgentRule],
    *,
    agents: int,
) -> Words:
    """Return why a queued task of a fleet at work has no agent; `able` are some of `agents`."""
    if not able and not any(rule.rule == AUTHOR for rule in rules):
        missing = ", ".join((*task.needs, *(f"{name}={much}" for name, much in task.uses)))
        action = "add an agent that has it, or submit again with other needs"
        return f"no agent can run it: it needs {missing}", action, None
    shut_out = _shut_out(view, task)
    if shut_out is not None:
        return shut_out
    if able and all(rule.rule == _QUOTA for rule in able):
        return _out_of_quota(view, able)
    if not able:
        summary = f"no other agent may review it than {', '.join(graphs.authors(view, task.id))}"
        return summary, "reviews are never given to the author: add another agent", None
    return (*_none_free(able, agents), None)


def _missing(view: PoolView, shape: ShapeId) -> tuple[str, ...]:
    """Return what no agent has of all that a shape wants."""
    lacks = [view.shapes.missing(shape, class_id) for class_id in set(view.class_of.values())]
    return tuple(what for what in lacks[0] if all(what in lack for lack in lacks))


def _shut_out(view: PoolView, task: Task) -> tuple[str, str, WallTime | None] | None:
    """Return which gates of a task are shut, what opens them, and when that is if time does."""
    gates = view.gates
    shut = [(gate, *found) for gate in gates.gates_of(task) if (found := gates.blocker(gate, task))]
    if not shut:
        return None
    summary = "; ".join(words for _, words, _ in shut)
    at = max((until for _, _, until in shut if until is not None), default=None)
    pause = pauses.find(view, task)
    if pause is not None:
        return summary, f"it keeps its place; {pauses.lift(pause)}", at
    spent = [(words, until) for gate, words, until in shut if isinstance(gate, Budgeted)]
    if any("used up" in words and until is None for words, until in spent):
        return summary, "this does not pass by itself: raise it: agentcom budget set", None
    if any(until is not None for _, until in spent):
        return summary, "the budget is renewed then; or raise it: agentcom budget set", at
    if spent:
        return summary, "it starts after one of them has ended, if something is left", at
    return summary, "it starts when there is room again, in its place in the order", at


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


def _none_free(able: Sequence[AgentRule], agents: int) -> tuple[str, str]:
    """Return why nobody has it, and whether that passes without anybody's help."""
    one = agents == 1
    summary = "1 agent could run it, and is not free" if one else None
    action = f"it starts as soon as {'that one' if one else 'one of them'} is free"
    if all(rule.rule in _UNTIL_HELP for rule in able):
        action = "this does not pass by itself: do what the agents' lines say"
    return summary or f"{agents} agents could run it, none is free", action


def _out_of_quota(view: PoolView, able: Sequence[AgentRule]) -> tuple[str, str, WallTime | None]:
    """Return why no agent gets work that could do it, what happens next, and when."""
    found = {
        row.id: row for rule in able if (row := view.exhausted_account(view.agents[rule.agent]))
    }
    summary = "; ".join(map(_closed, found.values()))
    resets = [row.parked_until for row in found.values() if row.parked_until is not None]
    if len(resets) < len(found):
        return summary, "the others get work as soon as that attempt shows life", None
    return summary, "one attempt is tried then; when it shows life, the others follow", min(resets)


def _closed(account: Account) -> str:
    """Return why an account's agents get no work now."""
    if account.parked_until is not None:
        return f"account {account.id} is out of quota until {ids.utc(account.parked_until)}"
    assert account.canary is not None
    return f"account {account.id} was out of quota, and task {account.canary.task} tries it"


def _rule(view: PoolView, task: Task, agent: Agent) -> AgentRule:
    shape = view.shape_of(task)
    shut = _unsuited(view, task, agent, shape) or pauses.rule(view.pauses, agent)
    shut = shut or _away(view, agent)
    if shut is not None:
        return shut
    if view.slots_used.get(agent.id, 0) >= agent.usable:
        running = [t.id for t in view.held_tasks(agent.machine) if t.agent == agent.id]
        return AgentRule(agent.id, "busy", "it works on " + ", ".join(running))
    if not view.fits(agent.machine, shape):
        used = ", ".join(f"{n} {much}" for n, much in view.used.get(agent.machine, {}).items())
        words = f"machine {view.machines[agent.machine].name} has too little left: {used} used"
        return AgentRule(agent.id, "resources", words)
    if pauses.find(view, task) is not None:
        return AgentRule(agent.id, "task_paused", "no agent gets it until it goes on")
    return AgentRule(agent.id, "order", "tasks before it in the queue come first")


def _unsuited(view: PoolView, task: Task, agent: Agent, shape: ShapeId) -> AgentRule | None:
    """Return the rule that keeps a task from an agent for good."""
    refused = view.shapes.refused(shape, view.class_of[agent.id])
    if refused:
        return AgentRule(agent.id, "accepts", "it takes only " + ", ".join(refused))
    if not graphs.may_review(view, task.id, agent):
        names = ", ".join(graphs.authors(view, task.id))
        return AgentRule(agent.id, AUTHOR, f"reviews are never given to the author: {names}")
    lacking = view.shapes.missing(shape, view.class_of[agent.id])
    if lacking:
        return AgentRule(agent.id, "needs", "it lacks " + ", ".join(lacking))
    return None


def _away(view: PoolView, agent: Agent) -> AgentRule | None:
    """Return the rule that keeps every task from an agent now."""
    machine = view.machines.get(agent.machine)
    where = machine.name if machine is not None else agent.machine
    if machine is None or machine.removed:
        return AgentRule(agent.id, "removed", f"machine {where} left the fleet")
    if (silent := _silent(view, agent, where)) is not None:
        return silent
    if agent.shut:
        return quarantine.rule(agent)
    if agent.problem:
        return AgentRule(agent.id, "unready", agent.problem)
    if agent.paused:
        return AgentRule(agent.id, "paused", f"agentcom agent resume {agent.id}")
    if agent.id in view.purse.shut:
        return AgentRule(agent.id, "budget", budgets.why_shut(view, agent))
    if machine.draining:
        return AgentRule(agent.id, "draining", f"agentcom machine drain --off {where}")
    account = view.exhausted_account(agent)
    if account is not None and account.closed:
        return AgentRule(agent.id, _QUOTA, _closed(account))
    return None


def _silent(view: PoolView, agent: Agent, where: str) -> AgentRule | None:
    session = view.sessions.get(agent.machine)
    if session is None or session.connection is None:
        return AgentRule(agent.id, "offline", f"machine {where} is not connected")
    if agent.absent:
        return AgentRule(agent.id, "absent", f"machine {where} has it no more")
    if session.suspect:
        return AgentRule(agent.id, "suspect", f"machine {where} missed its last heartbeats")
    return None


def _waiting(turn: Turn, fact: Fact, task: Task) -> Explanation:
    at = task.until
    match task.wait:
        case Wait.DEPENDENCIES:
            return _blocked(turn, fact, task)
        case Wait.START_TIME:
            summary, action = "its start time is not here yet", "it joins the queue then"
        case Wait.RETRY:
            summary = f"attempt {task.attempt} ended: {task.reason}"
            action = "the next attempt joins the queue then"
        case Wait.QUOTA:
            whose = accounts.of_task(turn.view, task)
            of = f"account {whose} is out of quota" if whose else "the model's quota is used up"
            summary, action = f"{of}: {task.reason}", "it is tried again then"
        case Wait.ANSWER | Wait.REVIEW:
            summary, action, at = _WORDS[task.wait](turn.view, task)
        case Wait.APPROVAL if task.approval is not None:
            summary = "it waits for a person's word"
            action = f"agentcom task approve {task.id}, or agentcom task reject"
        case Wait.APPROVAL:
            summary = f"a person must look at it: {task.reason}"
            action = f"agentcom task results {task.id} --changes, then task approve or reject"
            if loops.is_suspected(task):
                action = (
                    f"agentcom task retry {task.id} lets it run, agentcom task cancel {task.id} "
                    "ends it; submit with --allow-repeat what is meant to repeat"
                )
        case None:
            summary, action = "it waits", ""
        case _:
            assert_never(task.wait)
    summary, action = _and_pause(turn.view, task, summary, action)
    return Explanation(task=task, summary=summary, next_action=action, next_at=at)


def _and_pause(view: PoolView, task: Task, summary: str, action: str) -> tuple[str, str]:
    """Add the pause that keeps a task out when what it waits for is there."""
    pause = pauses.find(view, task)
    if pause is None:
        return summary, action
    return (
        f"{summary}; and {pause.words}",
        f"{action}; then it stays out until {pauses.lift(pause)}",
    )


def _blocked(turn: Turn, fact: Fact, task: Task) -> Explanation:
    """Explain by what a task waits for, and where each of that stands."""
    view = turn.view
    blocked = tuple(on for on, e in view.edges.get(task.id, {}).items() if not e.met)
    rows = [view.tasks.get(on) or turn.row(Table.TASK, on, fact.found) for on in blocked]
    known = [row for row in rows if isinstance(row, Task)]
    states = ", ".join(f"{ids.short(row.id)} is {row.state.value}" for row in known[:_SHOWN_MAX])
    more = f", and {len(known) - _SHOWN_MAX} more" if len(known) > _SHOWN_MAX else ""
    one = len(blocked) == 1
    what = "1 dependency has" if one else f"{len(blocked)} dependencies have"
    action = "it starts after that" if one else "it starts after them"
    over = [row.id for row in known if row.state.terminal]
    if over:
        action = f"it waits for a retry that succeeds: agentcom task retry {over[0]}"
    until = task.until if task.until is not None and task.until > turn.now.wall else None
    if until is not None:
        action = f"{action}, and not before then"
    summary = f"{what} not ended{' as wanted' * bool(over)}: {states}{more}"
    summary, action = _and_pause(view, task, summary, action)
    return Explanation(
        task=task,
        summary=summary,
        blocked_by=blocked,
        next_action=action,
        next_at=until,
    )


def _held(turn: Turn, task: Task) -> Explanation:
    view = turn.view
    session = view.sessions.get(task.machine) if task.machine is not None else None
    wall = turn.now.wall
    summary = f"attempt {task.attempt} is {task.phase or task.state.value} on {task.agent}"
    action, at = "the attempt is stopped, and counts as failed", task.deadline_at
    if task.phase is Phase.LANDING and task.land_key is not None:
        summary += f", {merging.words(view, task)}"
    if view.gates.touched:
        summary = "; ".join((summary, *touching.words(view, task)))
    if view.gates.locks.rows:
        summary = "; ".join((summary, *view.gates.locks.waits(task.id)))
    if task.asks:
        summary += "; " + questions.words(view, task)[0]
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
