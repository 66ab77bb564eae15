"""Frames of the WebSocket subprotocol `agentcom.v1`: JSON objects told apart by `type`.

One schema for both directions and both ends. Unknown fields are ignored, an unknown type is
answered `unsupported`. Every request has a `key` that its reply repeats; a repeat with the same
key gets the same answer. Reports of machines are named by task and fence instead.
"""

from typing import Final

import msgspec

from agentcom.model.agent import AgentSpec, Assignment, Held
from agentcom.model.ask import Ask
from agentcom.model.event import TaskEvent
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId
from agentcom.model.message import MessageId
from agentcom.model.replies import Welcomed
from agentcom.model.result import Clash, Landing, ReportKind, Result, Rider, TokenUsage
from agentcom.model.task import Phase, StopReason, TaskBody, TaskSpec
from agentcom.model.usage import TurnUsage
from agentcom.protocol.live import Frame, LogPart
from agentcom.protocol.review import Pushed, ReviewedFrame
from agentcom.protocol.told import Letter

__all__ = ["Frame"]
SUBPROTOCOL: Final = "agentcom.v1"
VERSION: Final = 1
VERSION_MIN: Final = 1
"""Both ways: the newest version that both sides know is spoken, N-1 at the oldest."""


# From either kind of client ------------------------------------------------------------------


class Hello(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="hello"):
    """The first frame of every connection."""

    versions: tuple[int, ...] = (VERSION,)
    software: str = ""


# From machines -------------------------------------------------------------------------------


class MachineHello(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="machine"):
    """A machine's session: its agents, and everything it holds. Answered by `welcome`."""

    agents: tuple[AgentSpec, ...]
    held: tuple[Held, ...] = ()
    ttl_ms: int = 0
    """The lease that the machine asks for; 0 takes the hub's default."""
    versions: tuple[int, ...] = (VERSION,)
    software: str = ""
    resources: dict[str, int] = msgspec.field(default_factory=dict)
    host: dict[str, str] = msgspec.field(default_factory=dict)
    """Named resources that its attempts share (cpu, browser); facts for people (os, memory)."""


class HeartbeatFrame(
    Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="heartbeat"
):
    """Renews the lease. Answered by `beat`."""

    session: int
    n: int
    held: tuple[Held, ...] = ()


class Accept(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="accept"):
    """The assignment is stored on the machine's disk and starts."""

    task: TaskId
    fence: Fence


class Decline(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="decline"):
    """The machine cannot start it now."""

    task: TaskId
    fence: Fence
    reason: str


class Progress(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="progress"):
    """What an attempt is doing; kept in memory, the newest wins."""

    task: TaskId
    fence: Fence
    phase: Phase | None = None
    text: str = ""
    tool: str | None = None
    """The open tool call."""
    repeats: int = 0
    """How often in a row the newest tool call was made, word for word."""
    usage: TokenUsage = TokenUsage()
    log: str = ""
    log_at: int | None = None
    """New lines of the log (of many only the last), and where in it they begin, in bytes."""


class Checkpoint(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="checkpoint"):
    """The work so far is at the origin. Answered by `ack`."""

    task: TaskId
    fence: Fence
    commit: str
    session: str | None = None
    note: str | None = None
    """The newest words of its agent, for whoever goes on."""
    touched: tuple[str, ...] = ()
    touched_count: int = 0
    """Paths that differ from what the attempt began with: the first of them, and how many."""
    clashes: tuple[Clash, ...] = ()


class Finish(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="finish"):
    """The attempt ended by itself. Repeated until `ack`."""

    task: TaskId
    fence: Fence
    result: Result
    turns: tuple[TurnUsage, ...] = ()
    """What it spent, as far as no `ack` has said that it is counted."""


class StoppedFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="stopped"):
    """The attempt is over, or never was, as asked. Repeated until `ack`."""

    task: TaskId
    fence: Fence
    result: Result | None = None
    turns: tuple[TurnUsage, ...] = ()
    session: str | None = None


class LandedFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="landed"):
    """The landing ended. Repeated until `ack`."""

    task: TaskId
    fence: Fence
    landing: Landing


class UsageFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="usage"):
    """What an attempt spent, turn by turn: all that is not known to be counted. See `ack`."""

    task: TaskId
    fence: Fence
    turns: tuple[TurnUsage, ...]


class MailTaken(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="mail_taken"):
    """The machine has letters of an agent's mailbox, or its agent has seen them. Not answered."""

    agent: AgentId
    seqs: tuple[int, ...]
    seen: bool = False


# From either ---------------------------------------------------------------------------------


class CallFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="call"):
    """A call (`protocol/calls.py`). Answered by `reply` with what the call says.

    A machine calls for the agent of an attempt that it holds, by task and fence.
    """

    key: str
    call: msgspec.Raw
    task: TaskId | None = None
    fence: Fence | None = None


# From people and programs --------------------------------------------------------------------


class SubmitFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="submit"):
    """Asks for tasks: all or none. Answered by `reply` with `submitted`.

    A machine asks for sub-tasks of `parent`, whose attempt `fence` it holds.
    """

    key: str
    tasks: tuple[TaskSpec, ...]
    parent: TaskId | None = None
    fence: Fence | None = None


class CancelFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="cancel"):
    """Wants a task to end."""

    key: str
    task: TaskId
    reason: str = ""


class Subscribe(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="subscribe"):
    """Follows a log after a sequence; presence has none. Answered by `reply`."""

    key: str
    log: str
    """`task/<id>`, `*` (all tasks), `mail` (one's own), `channel/<name>`, or `presence`."""
    after: int = 0
    live_only: bool = False
    """True: no stored records, only what comes from now on."""
    progress: bool = False
    """True: `activity` frames too."""
    needs: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    """Of presence: only agents that fit these requirements, and who is in one of these states."""


class Unsubscribe(
    Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="unsubscribe"
):
    """Ends a subscription."""

    key: str
    log: str


# From the hub --------------------------------------------------------------------------------


class Ready(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="ready"):
    """Answers `hello`."""

    version: int
    hub: str
    incarnation: int
    server_ms: int


class Welcome(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="welcome"):
    """Answers `machine`; the session and its lease begin."""

    version: int
    hub: str
    incarnation: int
    server_ms: int
    welcomed: Welcomed


class Stale(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An attempt that went on without its machine."""

    task: TaskId
    fence: Fence


class Beat(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="beat"):
    """Answers `heartbeat` number `n`: the lease runs from when that was sent."""

    n: int
    stale: tuple[Stale, ...] = ()
    """Attempts in that heartbeat which are not the machine's any more: the lease is not theirs."""


class Assign(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="assign"):
    """Start this attempt. Answered by `accept` or `decline`."""

    assignment: Assignment
    body: TaskBody
    asks: tuple[Ask, ...] = ()
    """Questions of attempts before that ended, with their answers."""


class StopFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="stop"):
    """End this attempt. `reason` None: the fence is stale. Answered by `stopped`."""

    task: TaskId
    fence: Fence
    reason: StopReason | None = None


class Notice(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="notice"):
    """Something that the agent of this attempt may want to know; may be lost. Not answered."""

    task: TaskId
    fence: Fence
    text: str


class LandFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="land"):
    """Land now, and `riders` behind it: the base is yours. Who is missing later is to stay out."""

    task: TaskId
    fence: Fence
    riders: tuple[Rider, ...] | None = None


class Ack(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="ack"):
    """A report is stored. `applied` False: kept for a person; `code` says why."""

    task: TaskId
    fence: Fence
    of: ReportKind
    applied: bool = True
    code: str | None = None
    commit: str | None = None
    """Of a checkpoint: which one."""
    turn: int = 0
    """Of usage: the newest turn that is counted, with all before it."""


class ReplyFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="reply"):
    """Answers a request."""

    key: str
    reply: msgspec.Raw
    """A `model.replies.Reply`; raw, since a repeated request gets the stored bytes."""


class ErrorFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="error"):
    """Refuses a request (`key`), or a frame (no key)."""

    code: str
    message: str
    key: str | None = None
    retry_after_ms: int | None = None
    cause: str = ""


class EventFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="event"):
    """A record of a subscribed log."""

    seq: int
    log: str
    event: TaskEvent


class Activity(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="activity"):
    """Progress of a followed task; may be skipped."""

    task: TaskId
    attempt: int
    agent: AgentId | None = None
    machine: MachineId | None = None
    phase: Phase | None = None
    text: str = ""
    tool: str | None = None
    repeats: int = 0
    usage: TokenUsage = TokenUsage()
    log: str = ""
    log_at: int | None = None


class MailFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="mail"):
    """Letters of an agent, again until they were seen. Answered by `mail_taken`."""

    agent: AgentId
    letters: tuple[Letter, ...] = ()
    read: tuple[MessageId, ...] = ()
    """Those that the agent has read by itself: nobody is woken for them any more."""


class Drain(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="drain"):
    """The hub goes away: come back after `retry_after_ms`; `restart`: as a new process."""

    retry_after_ms: int
    restart: bool = False


FromMachine = (
    MachineHello
    | HeartbeatFrame
    | Accept
    | Decline
    | Progress
    | Checkpoint
    | Finish
    | StoppedFrame
    | LandedFrame
    | SubmitFrame
    | UsageFrame
    | MailTaken
    | ReviewedFrame
    | LogPart
    | CallFrame
)
FromClient = Hello | SubmitFrame | CancelFrame | Subscribe | Unsubscribe | CallFrame
FromPeer = FromMachine | FromClient
FromHub = (
    Ready
    | Welcome
    | Beat
    | Assign
    | StopFrame
    | Notice
    | LandFrame
    | Ack
    | ReplyFrame
    | ErrorFrame
    | EventFrame
    | Activity
    | MailFrame
    | Pushed
    | Drain
)
