"""Values of the sidecar's machine: what it knows, what happens to it, what it orders.

Frames of the hub are facts as they are. Pure, like `machine.py`, which decides over these values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from agentcom.model import errors
from agentcom.model.agent import AgentSpec, Assignment
from agentcom.model.ask import Ask
from agentcom.model.ids import AgentId, Fence, Instant, TaskId
from agentcom.model.result import Clash, Landing, Result, Rider
from agentcom.model.task import Phase, StopReason, TaskBody, TaskSpec
from agentcom.model.usage import TurnUsage
from agentcom.protocol import frames

REFUSALS: Final = frozenset({errors.NotAllowed.code, errors.NotAuthenticated.code})
"""Codes by which a hub says that this machine is not, or no longer, its own."""


class Stage(StrEnum):
    """How far one attempt has come on this machine."""

    STORING = "storing"
    WAITING = "waiting"
    PREPARING = "preparing"
    WORKING = "working"
    VERIFYING = "verifying"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    READY = "ready"
    LANDING = "landing"
    LANDED = "landed"
    GONE = "gone"


class Key(msgspec.Struct, frozen=True, order=True):
    """The name of one attempt."""

    task: TaskId
    fence: Fence

    @property
    def text(self) -> str:
        """The name of the attempt's record and folder."""
        return f"{self.task}.{self.fence.incarnation}.{self.fence.attempt}"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the disk knows of an attempt; enough to go on after a restart."""

    assignment: Assignment
    body: TaskBody
    stage: Stage
    result: Result | None = None
    landing: Landing | None = None
    acked: bool = False
    """The hub has the result; it is not sent a second time."""
    turns: tuple[TurnUsage, ...] = ()
    """What it spent, turn by turn; a restored hub is told all of them again."""
    asks: tuple[Ask, ...] = ()
    """Questions of attempts before, with their answers."""
    session: str | None = None
    """Of an attempt that was stopped: in which its agent can go on."""
    version: int = 1

    @property
    def key(self) -> Key:
        """The attempt that this record is about."""
        return Key(self.assignment.task, self.assignment.fence)


# Facts ---------------------------------------------------------------------------------------


class Connected(msgspec.Struct, frozen=True):
    """The link to the hub is open; nothing was said on it yet."""


class Disconnected(msgspec.Struct, frozen=True):
    """The link to the hub is gone."""


class TimerFired(msgspec.Struct, frozen=True):
    """A timer that was ordered has run out."""

    key: str


class Stored(msgspec.Struct, frozen=True):
    """A record is safe on disk."""

    key: Key
    stage: Stage


class NotStored(msgspec.Struct, frozen=True):
    """A record could not be written, most often because the disk is full."""

    key: Key
    stage: Stage
    reason: str


class PhaseReached(msgspec.Struct, frozen=True):
    """An attempt came to its next phase."""

    key: Key
    phase: Phase


class Noted(msgspec.Struct, frozen=True):
    """An attempt has news that may be lost."""

    key: Key
    progress: frames.Progress


class Spent(msgspec.Struct, frozen=True):
    """A turn of an attempt's agent ended, and cost something."""

    key: Key
    turn: TurnUsage


class Saved(msgspec.Struct, frozen=True):
    """An attempt's work so far is at the origin."""

    key: Key
    commit: str
    session: str | None = None
    note: str | None = None
    """The newest words of its agent."""
    touched: tuple[str, ...] = ()
    touched_count: int = 0
    """Paths that differ from what it began with: the first of them, and how many there are."""
    clashes: tuple[Clash, ...] = ()


class Asked(msgspec.Struct, frozen=True):
    """The agent of an attempt asks for sub-tasks, under a name that is its own."""

    key: Key
    name: str
    tasks: tuple[TaskSpec, ...]


class Ended(msgspec.Struct, frozen=True):
    """An attempt ended by itself, with a result."""

    key: Key
    result: Result


class Stopped(msgspec.Struct, frozen=True):
    """Nothing of an attempt runs any more, as was ordered (or since its fence is stale)."""

    key: Key
    result: Result | None = None
    session: str | None = None


class LandEnded(msgspec.Struct, frozen=True):
    """A landing ended; None if it gave up before its push, since the lease had run out."""

    key: Key
    landing: Landing | None


class DrainAsked(msgspec.Struct, frozen=True):
    """The operator wants this sidecar to take no new work."""


class Sleeps(msgspec.Struct, frozen=True):
    """This computer is about to sleep."""


class Described(msgspec.Struct, frozen=True):
    """The agents of this machine have come, gone or changed."""

    agents: tuple[AgentSpec, ...]


class Kept(msgspec.Struct, frozen=True):
    """Acknowledged results that are still on disk, oldest first."""

    records: tuple[Record, ...]


Ordered = (
    frames.Welcome
    | frames.Beat
    | frames.Assign
    | frames.StopFrame
    | frames.LandFrame
    | frames.Ack
    | frames.ErrorFrame
    | frames.ReplyFrame
    | frames.Drain
)
FromHub = Ordered | frames.Notice
OfAttempt = Stored | NotStored | PhaseReached | Noted | Spent | Saved | Ended | Stopped | LandEnded
OwnWork = OfAttempt | Asked
OfMachine = Connected | Disconnected | TimerFired | DrainAsked | Sleeps | Described | Kept
Fact = OfMachine | FromHub | OwnWork


# Orders --------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send a frame on the open link."""

    frame: frames.FromMachine


class Store(msgspec.Struct, frozen=True):
    """Make a record durable, in order; answered by `Stored` or `NotStored`."""

    record: Record


class Start(msgspec.Struct, frozen=True):
    """Run an attempt to its end; `adopt` if an earlier process of this sidecar began it."""

    record: Record
    adopt: bool = False


class Stop(msgspec.Struct, frozen=True):
    """End everything of an attempt; answered by `Stopped` (or `Ended`, `LandEnded`)."""

    key: Key
    reason: StopReason | None


class Land(msgspec.Struct, frozen=True):
    """Bring the commit into its base, and those of its riders; answered by `LandEnded`."""

    record: Record


class Forget(msgspec.Struct, frozen=True):
    """The attempt is over: keep its record for a while if it has something to show."""

    record: Record
    keep: bool = True


class Offer(msgspec.Struct, frozen=True):
    """Look up the results that the hub acknowledged before it was restored: `Kept` answers."""


class Remember(msgspec.Struct, frozen=True):
    """Store the hub's incarnation, all that it may lack having been offered."""

    incarnation: int


class Answered(msgspec.Struct, frozen=True):
    """Tell the agent what came of what it asked for."""

    key: Key
    name: str
    answer: msgspec.Raw | frames.ErrorFrame


class SetTimer(msgspec.Struct, frozen=True):
    """Bring `TimerFired(key)` at `at`; a timer of the same key is replaced."""

    key: str
    at: Instant


class Settle(msgspec.Struct, frozen=True):
    """The session stands: the next loss of the link is retried from the shortest pause on."""


class Reconnect(msgspec.Struct, frozen=True):
    """Drop the link and dial again, after `after_ms` if the hub named a time."""

    reason: str
    after_ms: int | None = None


class Quit(msgspec.Struct, frozen=True):
    """The hub does not want this machine at all: end, and say why."""

    reason: str


class Report(msgspec.Struct, frozen=True):
    """Tell the operator something that the fact alone does not show."""

    event: str
    detail: str
    key: Key | None = None


class Notify(msgspec.Struct, frozen=True):
    """Lay a notice of the hub where the agent of an attempt finds it."""

    key: Key
    text: str


_OfAttempts = Send | Store | Start | Stop | Land | Forget | Offer | Remember | Answered | Notify
Order = _OfAttempts | SetTimer | Settle | Reconnect | Quit | Report


# State ---------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One attempt in memory; what must outlive the process is its record."""

    record: Record
    stage: Stage
    phase: Phase | None = None
    checkpoint: frames.Checkpoint | None = None
    """The newest one that the hub has not acknowledged."""
    stored: bool = True
    """The record is on disk as it is here, as far as the disk allows."""
    granted: bool = False
    riders: tuple[Rider, ...] | None = None
    adopt: bool = False
    counted: int = 0
    """The newest turn that the hub has counted, with all before it."""
    spent_out: bool = False
    """The hub wants it to end after its turn."""

    @property
    def key(self) -> Key:
        """The name of this attempt."""
        return self.record.key

    @property
    def agent(self) -> AgentId:
        """Who does it."""
        return self.record.assignment.agent

    @property
    def uncounted(self) -> tuple[TurnUsage, ...]:
        """What it spent that the hub is not known to have counted."""
        return tuple(turn for turn in self.record.turns if turn.turn > self.counted)


@dataclass(slots=True, kw_only=True)
class View:
    """Everything that the machine decides over."""

    agents: tuple[AgentSpec, ...]
    ttl_wanted_ms: int = 0
    software: str = ""
    resources: Mapping[str, int] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)
    attempts: dict[Key, Attempt] = field(default_factory=dict)
    connected: bool = False
    session: int | None = None
    """None until the hub has welcomed this link."""
    ttl_ms: int = 0
    heartbeat_ms: int = 0
    sent: dict[int, Instant] = field(default_factory=dict)
    """When each unanswered heartbeat was sent; 0 is the first frame of the link."""
    beats: int = 0
    lease_until: Instant = Instant(0)
    draining: bool = False
    incarnation: int = 0
    """The hub's, as it was when nothing was left to offer; 0 before the first welcome."""
    restored: int | None = None
    """The incarnation of a hub that was restored, until it has every kept result again."""
    declined: dict[Key, str] = field(default_factory=dict)
    offered: dict[Key, None] = field(default_factory=dict)
    """Kept results that were offered to it, and that it has not acknowledged."""
    asked: dict[str, Asked] = field(default_factory=dict)
    """What agents asked for and the hub has not answered, by request key."""

    def of_task(self, task: TaskId) -> Iterable[Attempt]:
        """Return the attempts of one task, oldest first."""
        return sorted(
            (attempt for key, attempt in self.attempts.items() if key.task == task),
            key=lambda attempt: attempt.key.fence,
        )
