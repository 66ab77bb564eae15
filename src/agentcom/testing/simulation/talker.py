"""What all who talk in a run have in common: when they act, in whose name, and what is in doubt.

They call the hub as MCP and HTTP do.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import msgspec

from agentcom.model.errors import AgentComError
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import Fence, TaskId, UserId
from agentcom.model.task import Task
from agentcom.protocol import calls
from agentcom.testing.simulation.books import Books
from agentcom.testing.simulation.hub_node import HubNode
from agentcom.testing.simulation.kernel import SECOND, Kernel
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace

OPERATOR: Final = Identity(role=Role.ADMIN, user=UserId("op"), credential="op")
OWNER: Final = UserId("person-0")
"""Whose machines they are."""
AGAIN_US: Final = 5 * SECOND
TRIES_MAX: Final = 6

Attempt = tuple[TaskId, Fence]


class Talker(ABC):
    """Who does one kind of talking: `kind` is the option that has them do it."""

    kind: str
    pause_us: int
    """Mean time between two acts."""

    def __init__(
        self,
        kernel: Kernel,
        options: Options,
        hub: HubNode,
        books: Callable[[], Books],
        trace: Trace,
    ) -> None:
        self.stopped = False
        """True in the liveness phase: nobody begins anything more."""
        self._kernel = kernel
        self._options = options
        self._hub = hub
        self._books = books
        self._trace = trace
        self._rng = random.Random(f"{options.seed}/{self.kind}")
        self._people = [UserId(f"person-{at}") for at in range(options.people)]
        self._count = 0
        self._era = 0
        """Counts restores: what was answered before one says nothing after it."""

    def start(self) -> None:
        """Let them talk, for as long as the run goes."""
        if getattr(self._options, self.kind):
            self._kernel.after(int(self._rng.expovariate(1 / self.pause_us)), self._turn)

    def _turn(self) -> None:
        if not self.stopped:
            self.start()
            self._think()

    @abstractmethod
    def _think(self) -> None:
        """Do one thing."""

    def _held(self) -> list[Task]:
        """Return the tasks whose agents may talk now."""
        return [task for task in self._books().live.values() if task.state.held and task.agent]

    def _send(
        self,
        call: calls.Call,
        who: Identity,
        attempt: Attempt | None,
        key: str,
        took: Callable[[object], None],
        tries: int = 0,
    ) -> None:
        """Call, and call again under the same key if nobody knows what came of it."""
        era = self._era

        def answered(answer: object) -> None:
            if era != self._era:
                return
            if not isinstance(answer, AgentComError):
                took(answer)
                return
            self._trace.counts[f"{self.kind}: {answer.code}"] += 1
            if answer.retryable and tries < TRIES_MAX:
                again = (call, who, attempt, key, took, tries + 1)
                self._kernel.after(AGAIN_US, self._send, *again)

        self._hub.converse(call, who, answered, key=key, attempt=attempt)
        if tries == 0 and self._rng.random() < 0.1:  # in doubt, it calls for the second time
            self._kernel.after(AGAIN_US, self._send, call, who, attempt, key, took, TRIES_MAX)


def agent_of(task: Task) -> Identity:
    """Return who speaks for the agent of a task: its machine."""
    return Identity(role=Role.AGENT, user=OWNER, credential="m", machine=task.machine)


def person(name: UserId) -> Identity:
    """Return a person."""
    return Identity(role=Role.OPERATOR, user=name, credential="p")


def told_as(answer: object, kind: type[Any]) -> Any:
    """Return an answer, also one that was given before and comes as bytes."""
    return msgspec.json.decode(answer, type=kind) if isinstance(answer, msgspec.Raw) else answer
