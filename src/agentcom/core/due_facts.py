"""Facts of timers: a moment has come; see `core/facts.py` and `core/deadlines.py`."""

import msgspec

from agentcom.model.ids import AccountId, AgentId, Fence, MachineId, TaskId


class DeadlineReached(msgspec.Struct, frozen=True, gc=False):
    """Some attempt may have used up its time: the earliest deadline has come."""


class LandingOverdue(msgspec.Struct, frozen=True, gc=False):
    """A landing has had its base for long enough."""

    task: TaskId
    fence: Fence


class WaitEnded(msgspec.Struct, frozen=True, gc=False):
    """The time has come for a task that waited for a time."""

    task: TaskId


class AccountDue(msgspec.Struct, frozen=True, gc=False):
    """The reset of an account's quota may have come, or what waits for it need not any more."""

    account: AccountId


class TrialDue(msgspec.Struct, frozen=True, gc=False):
    """The time has come for an agent in quarantine to try one task."""

    agent: AgentId


class CutOffDue(msgspec.Struct, frozen=True, gc=False):
    """A machine that was stopped has had its time to confirm that."""

    machine: MachineId
    connection: int


Due = DeadlineReached | LandingOverdue | WaitEnded | AccountDue | TrialDue | CutOffDue
