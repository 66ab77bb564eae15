"""Who speaks: the person behind a token, or the agent whose attempt a machine holds."""

from dataclasses import dataclass
from typing import Final

import msgspec

from agentcom.core.view import PoolView
from agentcom.model import address
from agentcom.model.address import Address
from agentcom.model.errors import InvalidInput, Stale
from agentcom.model.identity import Identity
from agentcom.model.ids import AgentId, Fence, ProjectId, TaskId

_REPLACE: Final = msgspec.structs.replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who makes a call; never read from its fields."""

    identity: Identity
    """Of an agent: its machine's, in the agent's project."""
    address: Address
    agent: AgentId | None = None
    task: TaskId | None = None
    """The task that an agent works on."""
    fence: Fence | None = None

    @property
    def project(self) -> ProjectId:
        """The project in which everything is that it can see."""
        return self.identity.project


def person(identity: Identity) -> Speaker:
    """Return the person, or program, behind a token.

    Raises:
        InvalidInput: it is a machine's token, which speaks only for an attempt on it.
    """
    if identity.machine is not None:
        raise InvalidInput("task", "a machine speaks for an attempt that it holds: name it")
    return Speaker(identity=identity, address=address.of_user(identity.user))


def attempt(view: PoolView, identity: Identity, task: TaskId, fence: Fence) -> Speaker:
    """Return the agent of an attempt that the caller's machine holds.

    Raises:
        Stale: its machine does not hold it, or does not any more.
    """
    row = view.tasks.get(task)
    holds = row is not None and row.state.held and row.fence == fence
    if row is None or not holds or row.machine != identity.machine or row.agent is None:
        raise Stale("this attempt is not yours, or is over")
    return Speaker(
        identity=_REPLACE(identity, project=row.project),
        address=address.of_agent(row.agent),
        agent=row.agent,
        task=task,
        fence=fence,
    )
