"""Graphs of tasks: what edges say, who may review, and the books of groups and families.

A group is a name that tasks of a project share; a task's family is what its agents asked for, and
theirs. Both have indexes of their live tasks in the view. A group's tally counts its tasks by
state, in the same batch as each change; plain tasks pay one question for all of this.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from agentcom.core.facts import Fact, Found
from agentcom.core.ledger import Ledger
from agentcom.core.view import PoolView
from agentcom.model import limits
from agentcom.model.agent import Agent
from agentcom.model.batch import (
    Table,
    children_key,
    edge_key,
    group_key,
    member_key,
)
from agentcom.model.errors import InvalidInput
from agentcom.model.graph import Condition, Dependency, Edge, Member, OnFailure, ReviewBy, Tally
from agentcom.model.ids import AgentId, MachineId, TaskId
from agentcom.model.requirement import CAPABILITIES_MAX, CAPABILITY_CHARS_MAX, canonical
from agentcom.model.task import Task, TaskSpec

replace: Final = msgspec.structs.replace
_GROUP: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{limits.GROUP_CHARS - 1}}}")


class End(NamedTuple):
    """What those that depend on a task need to know of its end."""

    task: TaskId
    succeeded: bool
    commit: str | None
    author: AgentId | None
    author_machine: MachineId | None


# What is asked --------------------------------------------------------------------------------


def check_spec(spec: TaskSpec) -> None:
    """Check the fields of a specification that are about graphs; raises `InvalidInput`."""
    if spec.group is not None:
        check_group(spec.group)
    if spec.approval is not None and (spec.command or spec.needs or spec.verify):
        raise InvalidInput("approval", "no agent runs it: leave out command, needs and verify")
    if spec.approval is not None and spec.emergency:
        raise InvalidInput("approval", "a person's answer cannot be an emergency")


def check_group(name: str) -> None:
    """Check the name of a group; raises `InvalidInput`."""
    if _GROUP.fullmatch(name) is None:
        rule = f"1 to {limits.GROUP_CHARS} of a-z, A-Z, 0-9, . _ and -, the first one no sign"
        raise InvalidInput("group", rule)


def depends_on(spec: TaskSpec) -> Sequence[Dependency]:
    """Return the dependencies of a specification; what it reviews is one of them."""
    if spec.reviews is None or any(one.task == spec.reviews for one in spec.depends_on):
        return spec.depends_on
    return (*spec.depends_on, Dependency(spec.reviews))


def review_of(spec: TaskSpec, dependency: str) -> ReviewBy | None:
    """Return how far from the author a review of `dependency` must be; None: it is no review."""
    return spec.review_by if spec.reviews is not None and spec.reviews == dependency else None


def keys_of(view: PoolView, project: str, specs: Iterable[TaskSpec]) -> list[tuple[Table, str]]:
    """Return the tallies of groups that have no live task."""
    names = dict.fromkeys([group_key(project, spec.group) for spec in specs if spec.group])
    return [(Table.TALLY, key) for key in names if key not in view.books.tallies]


def tally_of(view: PoolView, task: Task) -> list[tuple[Table, str]]:
    """Return the tally that a reopened task counts in, if it is not in the view."""
    key = group_key(task.project, task.group) if task.group is not None else ""
    return [(Table.TALLY, key)] if key and key not in view.books.tallies else []


def placed(view: PoolView, task: Task, spec: TaskSpec) -> Task:
    """Return a new task with its place in groups and families."""
    parents: tuple[TaskId, ...] = ()
    if spec.parent is not None:
        parents = (*view.tasks[spec.parent].parents, spec.parent)
    needs, edges = task.needs, view.edges.get(task.id, {}).values()
    if spec.reviews is not None and all(edge.met for edge in edges):
        needs = vetted(view, task, edges)
    return replace(task, group=spec.group, parents=parents, approval=spec.approval, needs=needs)


# Edges ----------------------------------------------------------------------------------------


def end_of(task: Task) -> End:
    """Return what the end of `task` means for others."""
    author, machine = task.agent, task.machine
    if task.author_machine is not None:
        author, machine = task.author, task.author_machine
    return End(task.id, task.state.value == "completed", task.commit, author, machine)


def met(edge: Edge, end: End) -> Edge:
    """Return `edge` when what it waited for has ended."""
    return replace(
        edge, met=True, commit=end.commit, author=end.author, author_machine=end.author_machine
    )


def waits_for_retry(edge: Edge, *, succeeded: bool) -> bool:
    """Return whether an edge stays as it is, though what it leads to has ended."""
    wanted = succeeded or edge.condition is Condition.ANY_END
    return not wanted and edge.on_failure is OnFailure.WAIT


def learn_edge(ledger: Ledger, edge: Edge) -> Edge:
    """Store an edge; an unmet one waits for its dependency to end."""
    view = ledger.view
    if not edge.met:
        view.put(view.dependants.setdefault(edge.on, {}), edge.task, None)
    if edge.review is not None:
        view.put(view.books.reviews, edge.task, None)
    return ledger.insert(Table.EDGE, edge_key(edge.task, edge.on), edge)


def children_of(view: PoolView, edge: Edge, known: Iterable[TaskId]) -> Sequence[Edge]:
    """Return edges to the live sub-tasks of what a met edge led to.

    A sub-task that itself waits for this task is left out: the two would wait for ever.
    """
    have = {edge.task, *known}
    below = [child for child in view.books.below.get(edge.on, ()) if child not in have]
    return [
        replace(edge, on=child, met=False, commit=None, review=None, version=1)
        for child in below
        if not waits_for(view, child, edge.task)
    ]


def waits_for(view: PoolView, task: TaskId, other: TaskId) -> bool:
    """Return whether `task` cannot start before `other` has ended."""
    seen, found = {task}, [task]
    while found:
        for on, edge in view.edges.get(found.pop(), {}).items():
            if on == other and not edge.met:
                return True
            if not edge.met and on not in seen:
                seen.add(on)
                found.append(on)
    return False


# Reviews --------------------------------------------------------------------------------------


def vetted(view: PoolView, task: Task, edges: Iterable[Edge]) -> tuple[str, ...]:
    """Return the needs of a task, with those that keep its review from the author."""
    names = []
    for edge in edges:
        machine = view.machines.get(edge.author_machine) if edge.author_machine else None
        if edge.review is None or machine is None:
            continue
        by_agent = edge.review is ReviewBy.OTHER_AGENT and edge.author is not None
        names.append(f"agent!={edge.author}" if by_agent else f"machine!={machine.name}")
    needs = {*task.needs, *[name for name in names if len(name) <= CAPABILITY_CHARS_MAX]}
    if len(needs) > CAPABILITIES_MAX:
        return task.needs  # `may_review` says no all the same
    return tuple(str(need) for need in canonical(needs))


def may_review(view: PoolView, task: TaskId, agent: Agent) -> bool:
    """Return whether `agent` may have a task: reviews are never given to the author."""
    if task not in view.books.reviews:
        return True
    return not any(_wrote(edge, agent) for edge in view.edges[task].values() if edge.review)


def reviewable(view: PoolView, agent: Agent) -> Callable[[TaskId], bool] | None:
    """Return what vetoes the tasks that `agent` may not review, if there are reviews at all."""
    if not view.books.reviews:
        return None
    return lambda task: may_review(view, task, agent)


def reviewers(view: PoolView, task: TaskId) -> Callable[[AgentId], bool] | None:
    """Return what vetoes the agents that may not review `task`; None: all may have it."""
    if task not in view.books.reviews:
        return None
    return lambda agent: may_review(view, task, view.agents[agent])


def authors(view: PoolView, task: TaskId) -> Sequence[str]:
    """Return whose work a task reviews."""
    edges = view.edges.get(task, {}).values() if task in view.books.reviews else ()
    return [edge.author or f"someone on {edge.author_machine}" for edge in edges if _known(edge)]


def _known(edge: Edge) -> bool:
    return edge.review is not None and edge.author_machine is not None


def _wrote(edge: Edge, agent: Agent) -> bool:
    if edge.review is ReviewBy.OTHER_AGENT and edge.author is not None:
        return agent.id == edge.author
    return agent.machine == edge.author_machine


# Groups and families --------------------------------------------------------------------------


def follow(ledger: Ledger, before: Task | None, after: Task) -> None:
    """Keep the books of a task that has a group or a parent."""
    was = before is not None and not before.state.terminal
    live = not after.state.terminal
    if before is None:
        for key in _memberships(after):
            row = Member(task=after.id)
            ledger.insert(Table.MEMBER, member_key(key, after.id), row)
    if live != was:
        index(ledger.view, after, live=live)
    if after.group is not None and (before is None or before.state is not after.state):
        _count(ledger, before, after, group_key(after.project, after.group))


def index(view: PoolView, task: Task, *, live: bool) -> None:
    """Note in the view that a task is live, or that it is no longer."""
    if task.group is not None:
        _note(view, view.books.members, group_key(task.project, task.group), task.id, live=live)
    for parent in task.parents:
        _note(view, view.books.below, parent, task.id, live=live)


def made(ledger: Ledger, key: str, more: int, *, found: Found) -> int:
    """Count `more` tasks of a family, and return how many it has had by then."""
    old = ledger.row(Table.TALLY, key, found)
    now = ledger.now.wall
    if not isinstance(old, Tally):
        ledger.insert(Table.TALLY, key, Tally(id=key, made=more, created_at=now, changed_at=now))
        return more
    tally = replace(old, made=old.made + more, changed_at=now, version=old.version + 1)
    ledger.write(Table.TALLY, key, tally, old=old.version)
    return tally.made


def group_of(fact: Fact, name: str) -> str:
    """Return the key of a group of the asker's project; raises `InvalidInput`."""
    check_group(name)
    return group_key(fact.actor.project, name)


def _memberships(task: Task) -> Sequence[str]:
    keys = [group_key(task.project, task.group)] if task.group is not None else []
    return [*keys, children_key(task.parents[-1])] if task.parents else keys


def _note(
    view: PoolView, sets: dict[str, dict[TaskId, None]], key: str, task: TaskId, *, live: bool
) -> None:
    if live:
        view.put(sets.setdefault(key, {}), task, None)
        return
    view.drop(sets[key], task)
    if not sets[key]:
        view.drop(sets, key)


def _count(ledger: Ledger, before: Task | None, after: Task, key: str) -> None:
    view, now = ledger.view, ledger.now.wall
    row = view.books.tallies.get(key) or ledger.row(Table.TALLY, key, ledger.fact.found)
    old = row if isinstance(row, Tally) else None
    states = dict(old.states) if old is not None else {}
    if before is not None:
        states[before.state.value] -= 1
    states[after.state.value] = states.get(after.state.value, 0) + 1
    live = 0 if old is None else old.live
    live += (not after.state.terminal) - (before is not None and not before.state.terminal)
    tally = Tally(
        id=key,
        made=(0 if old is None else old.made) + (before is None),
        live=live,
        states={state: count for state, count in states.items() if count},
        created_at=now if old is None else old.created_at,
        changed_at=now,
        version=1 if old is None else old.version + 1,
    )
    ledger.write(Table.TALLY, key, tally, old=None if old is None else old.version)
    if live:
        view.put(view.books.tallies, key, tally)
    else:
        view.drop(view.books.tallies, key)
