"""Everything AgentCom refuses, as one tree with stable codes.

Doors translate `code` (to a frame, a problem document, an exit code); they never invent one.
A message says what happened and what to do next, and never repeats a secret.
"""

from typing import ClassVar

from agentcom.model.limits import MAILBOX_RETRY_MS


class AgentComError(Exception):
    """A refusal that the peer or the operator can act on."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    retryable: ClassVar[bool] = False
    cause: str = ""
    """By which the hub's log knows the request that it refused, where a hub said so."""

    @property
    def message(self) -> str:
        """What happened and what to do next."""
        return str(self.args[0]) if self.args else type(self).__doc__ or self.code


class InvalidInput(AgentComError):
    """A field has a value that is not allowed."""

    code = "invalid_input"
    status = 422

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class CursorAhead(InvalidInput):
    """A cursor is beyond the newest message: it is another log's, or the hub was restored."""

    code = "cursor_ahead"


class MalformedInput(AgentComError):
    """The bytes are not a valid message."""

    code = "malformed"


class TooLarge(AgentComError):
    """The input is over a limit."""

    code = "too_large"
    status = 413


class Unsupported(AgentComError):
    """The peer asked for a type or version that this side does not know."""

    code = "unsupported"
    status = 400


class NotAuthenticated(AgentComError):
    """No valid token came with the request."""

    code = "not_authenticated"
    status = 401


class NotAllowed(AgentComError):
    """The role of this identity does not include the action."""

    code = "not_allowed"
    status = 403


class NotFound(AgentComError):
    """There is no such thing, or not for this identity."""

    code = "not_found"
    status = 404


class Foreign(NotFound):
    """There is no such thing, or not for this identity."""


class Conflict(AgentComError):
    """The thing exists already, or changed meanwhile."""

    code = "conflict"
    status = 409


class KeyReused(Conflict):
    """The same request key came with another payload."""

    code = "key_reused"


class NameTaken(Conflict):
    """The name belongs to someone else."""

    code = "name_taken"


class IllegalTransition(Conflict):
    """The state machine has no such move."""

    code = "illegal_transition"

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"a task that is {state} cannot take {event}")
        self.state = state
        self.event = event


class AskOver(Conflict):
    """The question was answered before, is withdrawn, or its time ran out."""

    code = "ask_over"


class LockCycle(Conflict):
    """Those that the lock would wait for wait for its owner; give something back first."""

    code = "lock_cycle"


class LockOver(Conflict):
    """The lock was given back, was broken, or its time has passed; ask for a new one."""

    code = "lock_over"


class Stale(Conflict):
    """The fence is older than the task's: the work went to another attempt, the result is kept."""

    code = "stale"


class Superseded(Conflict):
    """A newer session of the same identity took over."""

    code = "superseded"


class RateLimited(AgentComError):
    """Too much at once; come back after `retry_after_ms`."""

    code = "rate_limited"
    status = 429
    retryable = True

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class MailboxFull(RateLimited):
    """A recipient has too much that it has not taken: nothing was stored."""

    code = "mailbox_full"

    def __init__(self, message: str) -> None:
        super().__init__(message, MAILBOX_RETRY_MS)


class TooManyLocks(AgentComError):
    """There is no room for another lock; give some back, or ask again later."""

    code = "too_many_locks"
    status = 429


class TooManyAsks(AgentComError):
    """Too many questions are open; some have to be answered or withdrawn first."""

    code = "too_many_asks"
    status = 429


class StorageFull(AgentComError):
    """The disk is full: nothing was stored."""

    code = "storage_full"
    status = 507
    retryable = True


class Unavailable(AgentComError):
    """The hub starts, stops or lost its store; ask again."""

    code = "unavailable"
    status = 503
    retryable = True


class Timeout(AgentComError):
    """No answer in time; the outcome is unknown, so ask again with the same key."""

    code = "timeout"
    status = 504
    retryable = True


class Fault(AgentComError):
    """The hub made a mistake; its log has the details under this request's id."""

    code = "fault"
    status = 500


class StoreRefused(AgentComError):
    """The store is damaged, foreign, newer than this program, or in use by another hub."""

    code = "store_refused"
    status = 500
