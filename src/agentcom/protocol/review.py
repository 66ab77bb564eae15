"""Frames about pull requests: which ones a machine is to watch, and what it sees of them.

They belong to `protocol/frames.py`. Neither is acknowledged: what is to be watched is said again at
each connection, and what was seen for as long as it is watched.
"""

from agentcom.model.ids import Fence, TaskId
from agentcom.model.result import ReviewOutcome
from agentcom.protocol.live import Frame, Live


class ReviewFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="review"):
    """Watch this pull request; without one: do not watch any more. Said again while it is open."""

    task: TaskId
    fence: Fence
    pull_request: str | None = None
    """Its address at the forge."""
    repo: str = ""
    branch: str = ""
    at_once: bool = False
    """True: look now, also if it is watched already."""
    cause: str = ""


class ReviewedFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="reviewed"):
    """What became of a watched pull request. Not answered."""

    task: TaskId
    fence: Fence
    outcome: ReviewOutcome
    detail: str = ""
    commit: str | None = None
    """Of a merge: what the base has now."""


Pushed = Live | ReviewFrame
"""What the hub sends without being asked each time."""
