"""Everyday acts on a pool that is checked after every step."""

from collections.abc import Sequence
from typing import Any

from agentcom.core import facts
from agentcom.core.effects import Effect
from agentcom.core.facts import Fact
from agentcom.model.agent import Held, HeldStage
from agentcom.model.ids import MachineId, TaskId
from agentcom.model.replies import Submitted
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import LandPolicy, Phase, Task, TaskSpec
from agentcom.model.verification import CheckResult, Report
from agentcom.testing import invariants
from agentcom.testing.world import World, machine

KEY = "api#main"
LOST_MS = 25_000
"""The lease and its margin."""


class Pool(World):
    """A world whose invariants are checked after each batch."""

    def decide(self, batch: Sequence[Fact], *, commit: bool = True) -> Sequence[Effect]:
        effects = super().decide(batch, commit=commit)
        invariants.check(self.view, self.rows)
        return effects

    def running(self, title: str = "t", *, on: str = "m1", **fields: Any) -> TaskId:
        """Return a task that `on` is working on."""
        if MachineId(on) not in self.view.machines:
            self.machine(on)
        (task,) = self.submit(TaskSpec(title=title, prompt="p", **fields))
        assert self.task(task).machine == on
        self.accept(task)
        return task

    def ask_for(self, parent: TaskId, *specs: TaskSpec) -> list[TaskId]:
        """Let the agent of a running task ask for sub-tasks."""
        row = self.task(parent)
        body = facts.Submit(specs, parent, row.fence)
        reply = self.ask(body, machine(row.machine or ""))
        assert isinstance(reply, Submitted)
        return list(reply.tasks)

    def landing(self, *, on: str = "m1") -> TaskId:
        """Return a task whose verified work waits for its base, or has it."""
        task = self.running(on=on)
        assert self.finish(task, merging()).phase is Phase.LANDING
        return task

    def land(self, task: TaskId, status: LandStatus = LandStatus.LANDED) -> Task:
        row = self.task(task)
        report = Landing(status=status, commit="1" * 40, message=status.value)
        self.tell(facts.Landed(task, row.fence, report), machine(row.machine or ""))
        return self.task(task)

    def vanish(self, name: str) -> None:
        """Let a machine's lease run out."""
        session = self.view.sessions[MachineId(name)]
        if session.connection is not None:
            self.tell(facts.MachineDisconnected(MachineId(name), session.connection))
        self.advance(max(0, session.expires_at - self.now_ms))

    def restore(self) -> None:
        """Start a second later from the rows, as a hub does from a backup."""
        self.now_ms += 1_000
        self.incarnation = self.now.wall // 1_000
        self.restart()

    def holding(self, task: TaskId, stage: HeldStage = HeldStage.RUNNING) -> Held:
        return Held(task, self.task(task).fence, stage)


def done(**fields: Any) -> Result:
    """Return a result that claims success."""
    return Result(status=ResultStatus.DONE, commit="c" * 40, branch="work", **fields)


def report(*, passed: bool = True, commit: str = "c" * 40) -> Report:
    """Return what one check found."""
    return Report(commit=commit, checks=(CheckResult(name="pytest", passed=passed),))


def merging(**fields: Any) -> Result:
    """Return verified work that shall land."""
    return done(report=report(), land=LandPolicy.MERGE, land_key=KEY, **fields)


def failed(**fields: Any) -> Result:
    """Return a result without success."""
    return Result(status=ResultStatus.FAILED, message="it broke", **fields)


def queueing(**fields: Any) -> Result:
    """Return verified work that shall land with others."""
    wanted = {"report": report(), "land": LandPolicy.QUEUE, "land_key": KEY, **fields}
    return done(**wanted)
