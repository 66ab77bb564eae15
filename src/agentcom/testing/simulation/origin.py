"""The git server of the simulation: one base branch, and one fence ref for each task.

It does what `sidecar/fences.py` and `sidecar/landing.py` ask of a real one: every move of a fence
is a compare-and-swap, and a landing moves base and fence in one push.
"""

from collections.abc import Collection, Sequence

from agentcom.model.ids import Fence, TaskId
from agentcom.model.result import Landing, LandStatus, Rider
from agentcom.testing.simulation.forge import Forge
from agentcom.testing.simulation.trace import Trace


class Origin:
    """What a git server holds of all tasks."""

    def __init__(self, trace: Trace) -> None:
        self.landed: dict[TaskId, str] = {}
        """The commit of each task that is in the base."""
        self.fences: dict[TaskId, Fence] = {}
        self.forge = Forge(trace)
        self._trace = trace

    def claim(self, task: TaskId, fence: Fence) -> str | None:
        """Move a task's fence ref to `fence`; return the commit if the task landed before.

        Raises:
            StaleClaim: a newer attempt was here.
        """
        known = self.fences.get(task)
        if known is not None and known > fence:
            raise StaleClaim
        if task in self.landed:
            return self.landed[task]
        self.fences[task] = fence
        return None

    def land_together(
        self, batch: Sequence[Rider], *, bad: Collection[TaskId]
    ) -> dict[TaskId, Landing]:
        """Push a batch of commits, each if its fence is the newest; return what became of them."""
        places = [one.seq for one in batch if one.seq]
        self._trace.check("work lands in its order", places == sorted(places), batch)
        return {one.task: self._land_one(one, good=one.task not in bad) for one in batch}

    def _land_one(self, one: Rider, *, good: bool) -> Landing:
        try:
            known = self.claim(one.task, one.fence)
        except StaleClaim:
            return Landing(status=LandStatus.STALE, message="origin knows a newer attempt")
        if known is None:
            self._trace.check("what lands has passed its checks", good, one)
            self.land(one.task, one.fence, one.commit)
        return Landing(status=LandStatus.LANDED, commit=self.landed[one.task])

    def land(self, task: TaskId, fence: Fence, commit: str) -> bool:
        """Push a commit into the base if `fence` is still the task's; return whether it is in."""
        if task in self.landed:
            return self.landed[task] == commit
        if self.fences.get(task) != fence:
            return False
        self._trace.check("work lands once", task not in self.landed, task)
        self.landed[task] = commit
        return True

    def push_pull(self, task: TaskId, fence: Fence, commit: str) -> bool:
        """Move the branch of a task's pull request if `fence` is the task's; return whether."""
        if self.fences.get(task) != fence:
            return False
        self.forge.push(task, commit)
        return True

    def merged(self, task: TaskId, commit: str) -> None:
        """Take note that reviewers brought a commit into the base; again and again is once."""
        known = self.landed.setdefault(task, commit)
        self._trace.check("work is merged once", known == commit, task)


class StaleClaim(Exception):
    """Origin knows a newer attempt of the task."""
