"""Events of one task: what `tasks.decide` understands, in the past tense."""

from typing import Any

import msgspec

from agentcom.model.ask import AskId
from agentcom.model.budget import Amounts
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Fence, MachineId, WallTime
from agentcom.model.limits import HOLDERS_MAX
from agentcom.model.pause import Pause
from agentcom.model.task import LandPolicy, Phase, StopReason, Task, Wait


class Matched(msgspec.Struct, frozen=True, gc=False):
    """The matcher gave the task to an agent, under a new fence."""

    agent: AgentId
    machine: MachineId
    fence: Fence
    deadline_at: WallTime


class Advanced(msgspec.Struct, frozen=True, gc=False):
    """The holder accepted, or came to its next phase."""

    phase: Phase


class Saved(msgspec.Struct, frozen=True, gc=False):
    """The holder's work so far is safe at the origin."""

    commit: str
    session: str | None
    note: str | None = None


class LandingBegun(msgspec.Struct, frozen=True, gc=False):
    """The work is verified and waits for its turn at the base."""

    commit: str
    branch: str | None
    base_commit: str | None
    land_key: str
    land: LandPolicy = LandPolicy.MERGE
    verified: bool = True
    reviewed: tuple[str, ...] = ()
    """What it answers of the review before."""
    session: str | None = None
    """In which its agent can go on."""
    seq: int = 0
    """Its place among those that wait for the same base."""


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The work is done: verified, or (`verified` False) nobody declared how to verify it."""

    commit: str | None
    branch: str | None
    verified: bool


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The work is in a pull request, and nothing of the attempt is left to do."""

    commit: str | None
    branch: str | None
    pull_request: str | None


class ReviewWanted(msgspec.Struct, frozen=True, gc=False):
    """Someone who reviews the work wants more of it; `wait` if a person must look first."""

    wait: Wait | None
    reason: str


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The attempt (or what it depends on) failed; `retry_at` is when the next may start."""

    failure: FailureClass
    reason: str
    retry_at: WallTime
    note: str | None = None
    """What the next attempt should know; None: what it knows already."""
    mends: bool = False
    """Whether another attempt can cure it, though its class alone says no."""


class LeaseLost(msgspec.Struct, frozen=True, gc=False):
    """The holder's machine did not come back in time."""

    name: str = ""
    """The machine's."""


class Declined(msgspec.Struct, frozen=True, gc=False):
    """The holder could not even start."""

    reason: str
    retry_at: WallTime


class StopAsked(msgspec.Struct, frozen=True, gc=False):
    """The attempt shall end; it keeps its holds until it has."""

    reason: StopReason
    said: str | None = None
    """What the person who cancelled it gave as the reason."""


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """The attempt that was asked to stop is over."""

    retry_at: WallTime
    session: str | None = None


class Parked(msgspec.Struct, frozen=True, gc=False):
    """The attempt ended without a verdict: it needs an answer, quota or a person."""

    wait: Wait | None
    """None: others may go on with it at once."""
    until: WallTime | None
    reason: str
    commit: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    land_key: str | None = None
    session: str | None = None
    note: str | None = None


class Released(msgspec.Struct, frozen=True, gc=False):
    """What the task waited for is there; `until` is a start time still ahead."""

    until: WallTime | None = None
    needs: tuple[str, ...] | None = None
    """What a review needs, now that its author is known; None: as before."""


class Resumed(msgspec.Struct, frozen=True, gc=False):
    """The newest holder came back before anyone else had the task."""

    agent: AgentId
    machine: MachineId
    phase: Phase
    deadline_at: WallTime


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """Someone ended a task that nobody holds."""

    said: str | None = None


class Charged(msgspec.Struct, frozen=True, gc=False):
    """An attempt, this one or an older, spent something; `spent` is the sum of all."""

    spent: Amounts


class Reopened(msgspec.Struct, frozen=True, gc=False):
    """Someone wants another attempt, or the landing of `commit`."""

    commit: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    land_key: str | None = None
    land: LandPolicy = LandPolicy.MERGE
    verified: bool = False
    blocked: bool = False
    """True: its dependencies have to end first."""


class AskPut(msgspec.Struct, frozen=True, gc=False):
    """Its agent asks something, and cannot go on without the answer."""

    ask: AskId


class AskEnded(msgspec.Struct, frozen=True, gc=False):
    """A question of its agent is open no more; with `told` the next attempt hears of it."""

    ask: AskId
    told: bool


class AskHeard(msgspec.Struct, frozen=True, gc=False):
    """The agent that asked has been told how its question ended."""

    ask: AskId


class Edited(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Someone changed what the task asks for; these are its values now."""

    title: str
    needs: tuple[str, ...]
    priority: int
    emergency: bool
    deadline_ms: int
    failures_max: int
    wait: Wait | None
    until: WallTime | None
    start_tag: float
    seq: int
    lost: bool
    """Whether the newest holder may still come back: not to work that is asked for anew."""


class PauseSet(msgspec.Struct, frozen=True, gc=False):
    """Someone paused the task, or (None) lets it go on."""

    paused: Pause | None
    returns: bool = True
    """Whether a holder that fell silent may still come back."""


Step = Released | Matched | Advanced | Saved | LandingBegun | Resumed | Charged | ReviewWanted
"""Events that leave the task live."""

End = Completed | Opened | Failed | LeaseLost | Declined | Stopped | Parked | Cancelled
"""Events that end an attempt, or the task."""

Asked = StopAsked | Reopened | Edited | PauseSet
"""What people want of a task; it stays live, too."""

Question = AskPut | AskEnded | AskHeard
"""What its agents' questions come to; it stays live."""

Event = Step | Asked | Question | End


def approval(task: Task) -> Wait | None:
    """Return what a task waits for when nothing else is in its way."""
    return None if task.approval is None else Wait.APPROVAL


def authored(task: Task) -> Task:
    """Keep who made the work that another agent's place will land; a new attempt has its own."""
    if not task.landing_only:
        return msgspec.structs.replace(task, author=None, author_machine=None)
    if task.author_machine is not None:
        return task
    return msgspec.structs.replace(task, author=task.agent, author_machine=task.machine)


def holders(task: Task) -> tuple[tuple[Fence, MachineId], ...]:
    """Return who held the attempts of a task up to now, the newest of them."""
    if task.machine is None:
        return ()
    return (*task.holders, (task.fence, task.machine))[-HOLDERS_MAX:]


def work(event: LandingBegun | Parked | Reopened) -> dict[str, Any]:
    """Return the fields that name the work which an event brings, and how it lands."""
    found = {
        "commit": event.commit,
        "branch": event.branch,
        "base_commit": event.base_commit,
        "land_key": event.land_key,
    }
    if isinstance(event, Parked):
        return found
    reviewed = event.reviewed if isinstance(event, LandingBegun) else ()
    return {**found, "land": event.land, "verified": event.verified, "reviewed": reviewed}


def opened(event: Opened) -> dict[str, Any]:
    """Return the fields of a task whose work is under review: whoever goes on begins with it."""
    return {
        "commit": event.commit,
        "branch": event.branch,
        "checkpoint": event.commit,
        "pull_request": event.pull_request,
        "failures": 0,
        "failure": None,
        "reason": None,
        "landing_only": False,
    }
