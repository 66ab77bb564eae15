"""Effects: orders that the core gives to the shell, carried out after the commit.

Each may be lost without harm: `reconcile` and the scan at start bring them forth again.
"""

import msgspec

from agentcom.core.facts import Body
from agentcom.model.agent import Assignment
from agentcom.model.ask import Ask
from agentcom.model.errors import AgentComError
from agentcom.model.ids import Fence, Instant, MachineId, TaskId
from agentcom.model.replies import Reply
from agentcom.model.result import ReportKind, Rider
from agentcom.model.task import StopReason, Task, TaskBody
from agentcom.model.usage import Usage


class Push(msgspec.Struct, frozen=True, gc=False):
    """Send an assignment to its machine; the shell adds the body if it is not here."""

    machine: MachineId
    assignment: Assignment
    body: TaskBody | None = None
    asks: tuple[Ask, ...] = ()
    """The shell adds those that `assignment.answered` names."""


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Tell a machine to end an attempt; `reason` None means that the fence is stale."""

    machine: MachineId
    task: TaskId
    fence: Fence
    reason: StopReason | None = None


class GrantLanding(msgspec.Struct, frozen=True, gc=False):
    """Tell a machine that it may land now, and who rides along (None: it does not queue)."""

    machine: MachineId
    task: TaskId
    fence: Fence
    riders: tuple[Rider, ...] | None = None


class Acknowledge(msgspec.Struct, frozen=True, gc=False):
    """Tell a machine that its report is stored; `applied` False means kept for a person."""

    machine: MachineId
    task: TaskId
    fence: Fence
    of: ReportKind
    applied: bool = True
    code: str | None = None
    commit: str | None = None
    """Of a checkpoint: which one."""
    turn: int = 0
    """Of usage: the newest turn that is counted, with all before it."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Resolve the ticket of a request."""

    ticket: int
    reply: Reply | msgspec.Raw


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """Resolve the ticket of a request with an error."""

    ticket: int
    error: AgentComError


class SetTimer(msgspec.Struct, frozen=True, gc=False):
    """Bring `body` as a fact at `at`; a timer of the same key is replaced."""

    key: str
    at: Instant
    body: Body


class ClearTimer(msgspec.Struct, frozen=True, gc=False):
    """Forget the timer of this key, if there is one."""

    key: str


class Continue(msgspec.Struct, frozen=True, gc=False):
    """Bring `body` as a fact in the next turn."""

    body: Body


class CloseConnection(msgspec.Struct, frozen=True, gc=False):
    """Close a machine's socket."""

    connection: int
    code: int
    reason: str


class Notify(msgspec.Struct, frozen=True, gc=False):
    """Tell a machine something that the agent of an attempt may want to know."""

    machine: MachineId
    task: TaskId
    fence: Fence
    text: str


class Watch(msgspec.Struct, frozen=True, gc=False):
    """Have a machine watch a pull request; None: not any more."""

    machine: MachineId
    task: TaskId
    fence: Fence
    pull_request: str | None = None
    repo: str = ""
    branch: str = ""
    at_once: bool = False
    """True: there is a reason to look now, also where it is watched already."""
    cause: str = ""


class TellAsk(msgspec.Struct, frozen=True, gc=False):
    """Tell whom it concerns that a question was put, or has ended."""

    ask: Ask


class TellClosed(msgspec.Struct, frozen=True, gc=False):
    """Tell whom it concerns that a task's pull request was closed without being merged."""

    task: Task
    said: str


class Counted(msgspec.Struct, frozen=True, gc=False):
    """Take note of a turn that was spent, for figures; what counts is its row."""

    usage: Usage


Effect = (
    Push
    | Stop
    | GrantLanding
    | Acknowledge
    | Answer
    | Refuse
    | SetTimer
    | ClearTimer
    | Continue
    | CloseConnection
    | Notify
    | TellAsk
    | TellClosed
    | Watch
    | Counted
)
