"""How tasks and agents describe themselves to each other, beyond what they list.

A task may speak of an agent or a machine by name (`agent!=ada`), an agent may ask for a task's
project, submitter or kind. Such names become part of a class or a shape only while somebody
speaks of them: equal agents stay one class, equal tasks one shape.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agentcom.core.gates import REPOSITORY
from agentcom.core.shapes import Offers
from agentcom.model import requirement
from agentcom.model.agent import Agent, Machine
from agentcom.model.errors import InvalidInput
from agentcom.model.ids import AgentId, MachineId
from agentcom.model.requirement import Capability, Op, Requirement
from agentcom.model.task import Task

AGENT: Final = "agent"
MACHINE: Final = "machine"
RUNTIME: Final = "runtime"
ASKED: Final = ("project", "submitter", "kind")
"""What an agent may ask of a task."""
REPO: Final = "repo"
NO_PUSH: Final = "no-push"
"""The capability by which a machine names a repository that does not let it push."""
_NAMING: Final = frozenset({Op.EQUAL, Op.NOT_EQUAL, Op.IN})


def names_in(needs: Iterable[Requirement]) -> tuple[str, ...]:
    """Return the agents and machines that needs speak of, as `agent=NAME`, each once.

    Raises:
        InvalidInput: a name is compared with something else than =, != or in.
    """
    found: dict[str, None] = {}
    for need in needs:
        if need.name not in (AGENT, MACHINE):
            continue
        if need.op not in _NAMING:
            raise InvalidInput("needs", f"{need}: a name is compared with =, != or in (a,b)")
        found.update((f"{need.name}={value}", None) for value in need.value.split(","))
    return tuple(found)


def called(
    name: str, agents: Mapping[AgentId, Agent], machines: Mapping[MachineId, Machine]
) -> Sequence[Agent]:
    """Return the agents that `agent=NAME` or `machine=NAME` speaks of."""
    kind, _, value = name.partition("=")
    if kind == AGENT:
        return [agent for agent in agents.values() if agent.id.lower() == value]
    return [
        agent
        for agent in agents.values()
        if agent.machine in machines and machines[agent.machine].name.lower() == value
    ]


def offers(agent: Agent, machine: Machine | None, named: Mapping[str, int]) -> Offers:
    """Return what an agent offers: capabilities, labels, runtime, and names that are spoken of.

    Raises:
        InvalidInput: a capability or what it accepts is malformed.
    """
    found = set(requirement.canonical_capabilities(agent.capabilities))
    found.add(Capability(RUNTIME, agent.runtime))
    found.update(Capability(k.lower(), v.lower()) for k, v in agent.labels.items())
    for kind, value in (AGENT, agent.id), (MACHINE, machine.name if machine is not None else ""):
        if f"{kind}={value.lower()}" in named:
            found.add(Capability(kind, value.lower()))
    rules = (*agent.accepts, *(f"{REPO}!={repo}" for repo in _shut(agent)))
    accepts = requirement.canonical(rules, field="accepts")
    capacity = tuple(sorted(machine.resources.items())) if machine is not None else ()
    return Offers(tuple(sorted(found)), accepts, capacity)


def names_asked(agent: Agent) -> tuple[str, ...]:
    """Return what an agent asks of tasks, each once.

    Raises:
        InvalidInput: it asks for something else than project, submitter and kind.
    """
    shut = tuple(f"{REPO}={repo}" for repo in _shut(agent))
    if not agent.accepts:
        return shut
    names = {rule.name for rule in requirement.canonical(agent.accepts, field="accepts")}
    unknown = names.difference(ASKED)
    if unknown:
        raise InvalidInput("accepts", f"{min(unknown)}: only {', '.join(ASKED)} can be asked for")
    return (*sorted(names), *shut)


def about(task: Task, asked: Mapping[str, int]) -> tuple[Capability, ...]:
    """Return what a task tells of itself: what some agent asks for."""
    told = {"project": task.project, "submitter": task.submitter, "kind": task.kind}
    known = [Capability(name, told[name].lower()) for name in ASKED if name in asked]
    repos = (key[len(REPOSITORY) :].lower() for key in task.keys if key.startswith(REPOSITORY))
    # Of all repositories only those that shut somebody out: each is a shape of its own then.
    known += [Capability(REPO, repo) for repo in repos if f"{REPO}={repo}" in asked]
    return tuple(known)


def _shut(agent: Agent) -> tuple[str, ...]:
    """Return the repositories that an agent cannot work for."""
    offers = (offer.partition("=") for offer in agent.capabilities)
    return tuple(repo for name, _, repo in offers if name == NO_PUSH and repo)
