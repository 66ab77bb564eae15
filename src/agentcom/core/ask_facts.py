"""Facts about questions; `Fact.actor` and the address beside it come from the door."""

import msgspec

from agentcom.model.address import Address
from agentcom.model.ask import AskId
from agentcom.model.ids import Fence, TaskId


class PutAsk(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Someone asks someone else; with `task` its agent cannot go on without the answer."""

    question: str
    asker: Address
    to: Address | None = None
    options: tuple[str, ...] = ()
    deadline_ms: int | None = None
    fallback: str | None = None
    task: TaskId | None = None
    fence: Fence | None = None


class AnswerAsk(msgspec.Struct, frozen=True, gc=False):
    """Someone answers a question."""

    ask: AskId
    by: Address
    answer: str


class WithdrawAsk(msgspec.Struct, frozen=True, gc=False):
    """Who put a question takes it back."""

    ask: AskId
    by: Address


class HearAsk(msgspec.Struct, frozen=True, gc=False):
    """The attempt that asked is about to be told how its question ended."""

    ask: AskId
    task: TaskId
    fence: Fence


class AskDue(msgspec.Struct, frozen=True, gc=False):
    """The time has come to look at a question that is open."""

    ask: AskId


Wish = PutAsk | AnswerAsk | WithdrawAsk | HearAsk
"""What people and agents want."""
