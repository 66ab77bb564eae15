"""Why an attempt did not succeed, and what follows from each reason."""

from enum import StrEnum
from typing import Final


class FailureClass(StrEnum):
    """Why an attempt did not succeed; decides whether another attempt can help."""

    AUTH = "auth"
    QUOTA = "quota"
    RATE_LIMIT = "rate_limit"
    MODEL_UNAVAILABLE = "model_unavailable"
    REFUSED = "refused"
    CONTEXT_FULL = "context_full"
    NO_PROGRESS = "no_progress"
    DEADLINE = "deadline"
    CRASHED = "crashed"
    NOT_INSTALLED = "not_installed"
    AGENT = "agent"
    VERIFICATION = "verification"
    NO_CHANGE = "no_change"
    WORKSPACE = "workspace"
    CONFLICT = "conflict"
    DEPENDENCY = "dependency"
    LEASE_LOST = "lease_lost"
    REVOKED = "revoked"
    REJECTED = "rejected"
    BUDGET = "budget"
    EXPIRED = "expired"
    RESOURCES = "resources"

    @property
    def final(self) -> bool:
        """Whether no further attempt can cure it, so that the task fails at once."""
        return self in _FINAL


class OnQuota(StrEnum):
    """What becomes of a task whose agent's account has no quota left."""

    MOVE = "move"
    """Another account's agent may go on with it at once."""
    WAIT = "wait"
    """It waits until this account's quota resets."""


_FINAL: Final = frozenset(
    {
        *(FailureClass.CONFLICT, FailureClass.DEPENDENCY, FailureClass.REFUSED),
        *(FailureClass.REVOKED, FailureClass.REJECTED, FailureClass.BUDGET, FailureClass.EXPIRED),
    }
)
