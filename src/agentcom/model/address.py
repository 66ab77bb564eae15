"""Addresses: who can send, receive, hold and ask: an agent, a person, or the hub itself.

`agent:NAME` and `user:NAME` are written out wherever they are stored or shown. People may type the
bare name; the hub resolves it, since only it knows whether there is one of that name or two.
`task:ID` is whoever works on a task: it receives, and never sends.
"""

from enum import StrEnum
from typing import Final, NewType

from agentcom.model.errors import InvalidInput
from agentcom.model.ids import AgentId, TaskId, UserId

Address = NewType("Address", str)

HUB: Final = Address("hub")
"""Sends notices; nobody can write to it."""


class AddressKind(StrEnum):
    """What stands behind an address."""

    AGENT = "agent"
    USER = "user"
    TASK = "task"


def of_agent(name: AgentId) -> Address:
    """Return the address of an agent."""
    return Address(f"agent:{name}")


def of_user(name: UserId) -> Address:
    """Return the address of a person."""
    return Address(f"user:{name}")


def of_task(task: TaskId) -> Address:
    """Return the address of whoever works on a task."""
    return Address(f"task:{task}")


def parse(text: str) -> tuple[AddressKind | None, str]:
    """Return kind and name of an address as people type it; None for a bare name.

    Whether somebody has that name, only the hub knows.

    Raises:
        InvalidInput: it is neither.
    """
    kind, colon, name = text.rpartition(":")
    if not colon:
        return None, name
    if kind not in tuple(AddressKind):
        raise InvalidInput("to", "use a name, agent:NAME, user:NAME or task:ID")
    return AddressKind(kind), name


def agent_of(address: Address) -> AgentId | None:
    """Return the agent that an address names; None if it names no agent."""
    kind, _, name = address.partition(":")
    return AgentId(name) if kind == AddressKind.AGENT else None


def user_of(address: Address) -> UserId | None:
    """Return the person that an address names; None if it names none."""
    kind, _, name = address.partition(":")
    return UserId(name) if kind == AddressKind.USER else None


def task_of(address: Address) -> TaskId | None:
    """Return the task that an address names; None if it names none."""
    kind, _, name = address.partition(":")
    return TaskId(name) if kind == AddressKind.TASK else None
