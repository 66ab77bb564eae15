"""Tasks whose work goes to review."""

from agentcom.core import facts
from agentcom.core.effects import Watch
from agentcom.core.review_facts import Reviewed
from agentcom.model.ids import MachineId, TaskId
from agentcom.model.result import Landing, LandStatus, Result, ReviewOutcome
from agentcom.model.task import LandPolicy, Phase, Task
from agentcom.testing.world import machine
from tests.core.acts import KEY, Pool, done, report

URL = "https://forge.example/acme/api/pull/1"
BRANCH = "agent/pr/t1"


def to_review(**fields: object) -> Result:
    """Return good work that shall be reviewed."""
    return done(**{"report": report(), "land": LandPolicy.PULL_REQUEST, "land_key": KEY} | fields)


class Reviewing(Pool):
    """A pool with tasks under review."""

    def opened(self, task: TaskId) -> Task:
        """Let the machine of a landing task tell that its pull request is open."""
        row = self.task(task)
        landing = Landing(
            status=LandStatus.OPENED, commit="d" * 40, branch=BRANCH, pull_request=URL
        )
        self.tell(facts.Landed(task, row.fence, landing), machine(row.machine or ""))
        return self.task(task)

    def under_review(self, *, on: str = "m1", result: Result | None = None) -> TaskId:
        """Return a task whose pull request is open."""
        task = self.running(on=on)
        assert self.finish(task, result or to_review()).phase is Phase.LANDING
        self.opened(task)
        return task

    def see(
        self, task: TaskId, outcome: ReviewOutcome, detail: str = "1 comment of ann", **more: str
    ) -> Task:
        """Let the machine that watches a task's pull request tell what it sees."""
        row = self.task(task)
        body = Reviewed(task, row.fence, outcome, detail, more.get("commit"))
        self.tell(body, machine(more.get("on", row.machine or "")))
        return self.task(task)

    def watched(self, name: str = "m1") -> list[Watch]:
        """Return what a machine was told about pull requests, in order."""
        return [e for e in self.effects if isinstance(e, Watch) and e.machine == MachineId(name)]
