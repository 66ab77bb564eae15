"""Small parts of the view: a machine's session, and the books of groups and families."""

from agentcom.model.graph import Tally
from agentcom.model.ids import Instant, MachineId, TaskId


class Session:
    """A machine's lease on this hub's clock. In memory only; renewals are never rolled back."""

    __slots__ = (
        "connection",
        "expires_at",
        "margin_ms",
        "number",
        "suspect",
        "suspect_at",
        "ttl_ms",
    )

    def __init__(self, number: int, ttl_ms: int, margin_ms: int, connection: int | None) -> None:
        self.number = number
        self.ttl_ms = ttl_ms
        self.margin_ms = margin_ms
        self.connection = connection
        self.suspect = False
        self.suspect_at = Instant(0)
        self.expires_at = Instant(0)

    def renew(self, now: Instant) -> None:
        """Count the lease from the receipt of a heartbeat."""
        self.suspect = False
        self.suspect_at = Instant(now + self.ttl_ms // 2)
        self.expires_at = Instant(now + self.ttl_ms + self.margin_ms)


class Books:
    """What the view knows of groups, families and reviews (`core/graphs.py`), and of the lost."""

    __slots__ = ("below", "lost", "members", "pulls", "reviews", "tallies", "under_review")

    def __init__(self) -> None:
        self.members: dict[str, dict[TaskId, None]] = {}
        """Group -> its live tasks, oldest first."""
        self.below: dict[str, dict[TaskId, None]] = {}
        """Task -> the live ones that came of it: sub-tasks, and theirs."""
        self.lost: dict[TaskId, None] = {}
        """Tasks back in the queue whose silent holder may come back."""
        self.tallies: dict[str, Tally] = {}
        """Groups that have live tasks."""
        self.reviews: dict[TaskId, None] = {}
        """Live tasks that review others' work."""
        self.under_review: dict[MachineId, dict[TaskId, None]] = {}
        """Machine -> tasks whose pull requests it watches."""
        self.pulls: dict[str, dict[TaskId, None]] = {}
        """Address of a pull request -> tasks whose work is in it."""
