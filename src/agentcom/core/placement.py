"""Which of several idle agents gets a task: a wish never keeps a task waiting.

An agent that suits is scored by what the task prefers, whether it holds the task's session, and
whether its machine had the repository lately. At most eight candidates are looked at; without a
wish the agent that was not used for longest gets the task.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from agentcom.core import graphs
from agentcom.core.gates import REPOSITORY
from agentcom.core.shapes import ShapeId
from agentcom.core.view import PoolView
from agentcom.model import errors, limits, requirement
from agentcom.model.agent import Agent
from agentcom.model.ids import AgentId, MachineId
from agentcom.model.numerals import whole
from agentcom.model.requirement import Requirement
from agentcom.model.task import Task

SESSION_WEIGHT: Final = 1_000_000.0
"""Only the same agent can go on in its session: worth more than all that is preferred."""
WARM_WEIGHT: Final = 0.5
"""A clone that is there already saves seconds: it decides between equals."""
SPREAD: Final = "spread"
"""The preference for a machine that has little to do."""
_CANDIDATES: Final = 32


def pick(view: PoolView, task: Task) -> AgentId | None:
    """Return the idle agent that gets a task; None if none suits now."""
    shape = view.shape_of(task)
    veto = graphs.reviewers(view, task.id) if view.books.reviews else None
    if not (task.prefers or task.session or task.keys or task.uses):
        return view.matcher.pick_agent(shape, veto)
    allowed = partial(_fits, view, task, veto) if task.uses else veto
    score, prefer = _score(view, task), _preferred(view, task)
    return view.matcher.pick_agent(shape, allowed, score=score, prefer=prefer)


def is_there(view: PoolView, agent: Agent) -> bool:
    """Return whether an agent's machine is one of the fleet."""
    machine = view.machines.get(agent.machine)
    return machine is not None and not machine.removed


def can_run(view: PoolView, shape: ShapeId) -> bool:
    """Return whether any agent of the fleet could run tasks of a shape, now or later."""
    bits = view.shapes.compatible_classes(shape)
    return bool(bits) and any(
        bits >> view.class_of[agent.id] & 1 and is_there(view, agent)
        for agent in view.agents.values()
    )


def _fits(
    view: PoolView, task: Task, veto: Callable[[AgentId], bool] | None, agent: AgentId
) -> bool:
    if veto is not None and not veto(agent):
        return False
    return view.fits(view.agents[agent].machine, view.shape_of(task))


def note_warm(view: PoolView, task: Task, machine: MachineId) -> None:
    """Remember that a machine gets work of the task's repository."""
    for key in task.keys:
        if key.startswith(REPOSITORY):
            others = [known for known in view.warm.get(key, ()) if known != machine]
            view.warm[key] = (machine, *others[: limits.WARM_MACHINES - 1])
            view.warm.move_to_end(key)
            if len(view.warm) > limits.WARM_REPOSITORIES:
                view.warm.popitem(last=False)


def parse(text: str) -> tuple[Requirement | None, float]:
    """Return what a preference asks for (None: spread) and its weight.

    Raises:
        InvalidInput: it is no requirement, or its weight is no whole number in bounds.
    """
    asked, star, weight = text.rpartition("*")
    if not star:
        asked, weight = text, "1"
    much = whole(weight, limits.WEIGHT_MAX)
    if not much:
        raise errors.InvalidInput(
            "prefers", f"{text[:100]!r}: a weight is 1 to {limits.WEIGHT_MAX}"
        )
    if asked == SPREAD:
        return None, float(much)
    return requirement.parse_requirement(asked, field="prefers"), float(much)


def _preferred(view: PoolView, task: Task) -> Sequence[AgentId]:
    """Return agents to look at before the others: the session's, then those on warm machines."""
    found: list[AgentId] = []
    if task.session and task.agent is not None:
        found.append(task.agent)
    for machine in _warm(view, task):
        found += list(view.agents_of.get(machine, ()))[:_CANDIDATES]
    return [agent for agent in found[:_CANDIDATES] if agent in view.class_of]


def _warm(view: PoolView, task: Task) -> Sequence[MachineId]:
    keys = (key for key in task.keys if key.startswith(REPOSITORY))
    return [machine for key in keys for machine in view.warm.get(key, ())]


def _score(view: PoolView, task: Task) -> Callable[[AgentId], float]:
    wishes = [parse(text) for text in task.prefers]
    warm = frozenset(_warm(view, task))

    def score(agent_id: AgentId) -> float:
        agent = view.agents[agent_id]
        offers = view.shapes.offers(view.class_of[agent_id]).capabilities
        total = WARM_WEIGHT if agent.machine in warm else 0.0
        if task.session and agent_id == task.agent:
            total += SESSION_WEIGHT
        for wish, weight in wishes:
            if wish is None:
                total += weight / (1 + len(view.held_by.get(agent.machine, ())))
            elif requirement.satisfies(offers, wish):
                total += weight
        return total

    return score
