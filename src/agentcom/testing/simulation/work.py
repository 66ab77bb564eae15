"""What an attempt does on its machine, as a generator that yields how long each step takes.

The agent is a process of its own and outlives the sidecar; preparing, verifying and landing are
the sidecar's, and end with it. What an agent does is decided when it starts, by its machine's
chance.
"""

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.model.graph import Dependency
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.result import (
    Landing,
    LandStatus,
    Result,
    ResultStatus,
    ReviewOutcome,
    Rider,
    RiderLanding,
    TokenUsage,
)
from agentcom.model.task import LandPolicy, Phase, TaskSpec
from agentcom.model.usage import TurnUsage
from agentcom.model.verification import CheckResult, Report
from agentcom.protocol import frames
from agentcom.sidecar import machine_landing
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Key, Record
from agentcom.testing.simulation.kernel import MS, SECOND, Kernel
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.origin import Origin, StaleClaim

LAND_KEY: Final = "repo#main"
PULL: Final = "https://forge.example/repo/pull/1"
CHECKPOINT_US: Final = 40 * SECOND
TOUCHED: Final = ((), ("src/a.py",), ("docs/x.md", "src/b/c.py"))
"""What an agent has changed, beside the `CLAIMS` that tasks make."""
AWAY_US: Final = 2 * SECOND
"""Pause between two questions to an origin that does not answer."""
RESETS_STATED: Final = 0.8
"""Share of exhausted quotas whose provider says when they reset."""
HANG_US: Final = 6 * 3_600 * SECOND

Steps = Generator[int, None, None]


@dataclass(slots=True)
class AgentProcess:
    """An agent that runs, or has run, on a machine."""

    ends_us: int
    outcome: FailureClass | None
    killed: bool = False
    spends: bool = False
    turns: int = 0
    """Turns that have ended; its output tells of them as often as it is read."""


class Host(Protocol):
    """The sidecar, as its work sees it."""

    def tell(self, fact: values.Fact) -> None:
        """Bring a fact to the machine."""
        ...

    def still_mine(self, key: Key) -> bool:
        """Return whether a landing may still push."""
        ...

    def riders(self, key: Key) -> tuple[Rider, ...] | None:
        """Return who lands with an attempt, as the hub last said; None: it does not queue."""
        ...

    @property
    def reaches_origin(self) -> bool:
        """Whether the git server answers."""
        ...

    @property
    def wall(self) -> WallTime:
        """The machine's wall clock."""
        ...


class Work:
    """All work of one machine."""

    answers: int = 0
    """What agents asked for and the hub has answered."""
    began: Callable[[Record], None] = staticmethod(lambda _record: None)
    """Called with each attempt whose agent starts."""

    def answered(self, key: Key, answer: msgspec.Raw | frames.ErrorFrame) -> None:
        """Take note of an answer to what an agent asked for."""
        del key, answer
        self.answers += 1

    def __init__(
        self, kernel: Kernel, options: Options, origin: Origin, rng: random.Random
    ) -> None:
        self.agents: dict[Key, AgentProcess] = {}
        """What runs beside the sidecar, and outlives it."""
        self.quiet = False
        """True in the liveness phase: agents are good."""
        self._kernel = kernel
        self._options = options
        self._origin = origin
        self._rng = rng
        self._reviewers = random.Random(f"{options.seed}/reviewers")
        self.shown: dict[Key, int] = {}
        """How many comments each attempt was shown."""

    def attempt(self, host: Host, record: Record, *, adopt: bool) -> Steps:
        """Bring one attempt to its end."""
        key = record.key
        agent = self.agents.get(key) if adopt else None
        if agent is not None:
            self._read_turns(host, record, agent)
        if agent is None:
            yield self._about(SECOND)
            yield from self._reach(host)
            try:
                landed = self._claim(record)
            except StaleClaim:
                host.tell(values.Stopped(key))
                return
            if landed is not None:
                yield from self._verified(host, record, _done(record, landed))
                return
            agent = self.agents[key] = self._new_agent(record)
            self.began(record)
            pull = self._origin.forge.find(key.task)
            self.shown[key] = pull.wanted if pull is not None else 0
            agent.spends = bool(self._options.spends) and self._rng.random() < self._options.spends
        host.tell(values.PhaseReached(key, Phase.WORKING))
        yield from self._watched(host, record, agent)
        self._end_turn(host, record, agent)
        host.tell(values.PhaseReached(key, Phase.VERIFYING))
        commit = f"{key.text}-{self._rng.getrandbits(32):08x}"
        if agent.outcome is None:
            yield from self._verified(host, record, _done(record, commit))
            return
        yield self._about(SECOND)
        host.tell(values.Ended(key, self._failed(host, agent.outcome)))

    def landing(self, host: Host, record: Record) -> Steps:
        """Bring an attempt's commit into the base, if the lease lasts."""
        key, result = record.key, record.result
        commit = result.commit if result is not None else record.assignment.commit
        assert commit is not None
        yield self._about(2 * SECOND)
        yield from self._reach(host)
        if host.riders(key) is not None:
            yield from self._land_together(
                host, Rider(task=key.task, fence=key.fence, commit=commit)
            )
            return
        if not host.still_mine(key):
            host.tell(values.LandEnded(key, None))
            return
        if not self.quiet and self._rng.random() < self._options.agent_fails / 4:
            status = LandStatus.CONFLICT if self._rng.random() < 0.5 else LandStatus.ERROR
            host.tell(values.LandEnded(key, Landing(status=status, message="it does not fit")))
            return
        if record.assignment.landing_only:
            try:
                self._claim(record)
            except StaleClaim:
                stale = Landing(status=LandStatus.STALE, message="origin knows a newer attempt")
                host.tell(values.LandEnded(key, stale))
                return
        yield self._about(300 * MS)
        if _policy(record) is LandPolicy.PULL_REQUEST:
            yield from self._to_review(host, record, commit)
            return
        landed = self._origin.land(key.task, key.fence, commit)
        yield self._about(300 * MS)
        if landed:
            done = Landing(status=LandStatus.LANDED, commit=commit)
        else:
            done = Landing(status=LandStatus.STALE, message="origin knows a newer attempt")
        host.tell(values.LandEnded(key, done))

    def _to_review(self, host: Host, record: Record, commit: str) -> Steps:
        """Push the branch, open the pull request unless it is there, answer, tell."""
        key, forge = record.key, self._origin.forge
        pull = forge.find(key.task)
        told: Landing | None = None
        if pull is not None and pull.state == "merged":
            told = Landing(status=LandStatus.LANDED, commit=pull.merged_as)
        elif pull is not None and pull.state == "closed" and record.assignment.pull_request:
            told = Landing(status=LandStatus.REJECTED, message="closed")
        elif not self._origin.push_pull(key.task, key.fence, commit):
            told = Landing(status=LandStatus.STALE, message="origin knows a newer attempt")
        if told is None:
            yield self._about(300 * MS)
            forge.open(key.task, commit)
            forge.answer(key.task, self.shown.get(key, 0))
            told = Landing(
                status=LandStatus.OPENED, commit=commit, branch="agent/pr/x", pull_request=PULL
            )
            yield self._about(300 * MS)
        host.tell(values.LandEnded(key, told))

    def look(self, task: TaskId) -> tuple[ReviewOutcome, str | None] | None:
        """Return what there is to tell of a task's pull request."""
        seen = self._origin.forge.look(task, self._reviewers, quiet=self.quiet)
        if seen is None:
            return None
        outcome, pull = seen
        if outcome is ReviewOutcome.MERGED:
            self._origin.merged(task, pull.merged_as)
            return outcome, pull.merged_as
        return outcome, None

    def _land_together(self, host: Host, first: Rider) -> Steps:
        """Bring the commits of `first` and its riders into the base, as many as are good."""
        key = Key(first.task, first.fence)
        along = host.riders(key) or ()
        left, ended = [first, *along], dict[TaskId, Landing]()
        fails = 0.0 if self.quiet else self._options.agent_fails / 4
        bad = {one.task for one in left if self._rng.random() < fails}
        while left:
            good = len(left)
            search = machine_landing.Search(good)
            while isinstance(step := search.step(), machine_landing.Check):
                yield self._about(SECOND)
                search.found(
                    step.count, passed=not any(one.task in bad for one in left[: step.count])
                )
            if isinstance(step, machine_landing.ThrowOut):
                good = step.good
                failed = Landing(status=LandStatus.VERIFICATION, message="the checks fail together")
                ended[left[good].task] = failed
            yield self._about(300 * MS)
            wanted = (first, *(host.riders(key) or ()))
            if not host.still_mine(key):
                host.tell(values.LandEnded(key, None))
                return
            batch = [one for one in left[:good] if one in wanted]
            ended |= self._origin.land_together(batch, bad=bad)
            left = [one for one in left[good:] if one.task not in ended and one in wanted]
        riders = tuple(
            RiderLanding(task=one.task, fence=one.fence, landing=ended[one.task])
            for one in along
            if one.task in ended
        )
        host.tell(values.LandEnded(key, msgspec.structs.replace(ended[first.task], riders=riders)))

    def wind_down(self, host: Host, record: Record) -> Steps:
        """End an attempt's agent, and tell when nothing runs any more."""
        yield self._about(500 * MS)
        agent = self.agents.pop(record.key, None)
        if agent is not None:
            self._read_turns(host, record, agent)
        host.tell(values.Stopped(record.key))

    def kill(self, key: Key) -> None:
        """Kill an agent from outside."""
        agent = self.agents.get(key)
        if agent is not None and agent.ends_us > self._kernel.now_us:
            agent.ends_us = self._kernel.now_us
            agent.outcome = FailureClass.CRASHED

    def settle(self, key: Key, *, ends: bool) -> None:
        """Let an agent end soon, or never by itself."""
        agent = self.agents[key]
        last_us = self._kernel.now_us + (10 * SECOND if ends else HANG_US)
        if not ends and agent.ends_us > self._kernel.now_us:
            agent.ends_us = last_us
        agent.ends_us = min(agent.ends_us, last_us)

    # Steps ----------------------------------------------------------------------------------------

    def _watched(self, host: Host, record: Record, agent: AgentProcess) -> Iterator[int]:
        key = record.key
        while self._kernel.now_us < agent.ends_us:
            left_us = agent.ends_us - self._kernel.now_us
            yield min(left_us, CHECKPOINT_US)
            if self._kernel.now_us >= agent.ends_us or not host.reaches_origin:
                continue
            if self._options.subtasks and not self.quiet:
                self._ask_for_more(host, key)
            self._end_turn(host, record, agent)
            text = f"step {self._rng.getrandbits(8)}"
            spent = TokenUsage(output=int(agent.outcome is not FailureClass.QUOTA))
            note = frames.Progress(task=key.task, fence=key.fence, text=text, usage=spent)
            host.tell(values.Noted(key, note))
            commit = f"wip-{key.text}-{self._rng.getrandbits(16):04x}"
            touched = TOUCHED[int(commit[-1], 16) % len(TOUCHED)] if self._options.limits else ()
            said = values.Saved(key, commit, f"session-{key.text}", text, touched, len(touched))
            host.tell(said)

    def _ask_for_more(self, host: Host, key: Key) -> None:
        rng = self._rng
        if rng.random() < self._options.subtasks:
            count = rng.randrange(1, 4)
            specs = tuple(
                TaskSpec(
                    title=f"part {at}",
                    prompt="do a part",
                    ref=f"p{at}",
                    depends_on=(Dependency(f"p{at - 1}"),) if at and rng.random() < 0.3 else (),
                    deadline_ms=rng.choice((120_000, 600_000)),
                )
                for at in range(count)
            )
            host.tell(values.Asked(key, f"n{rng.getrandbits(40):x}", specs))

    def _end_turn(self, host: Host, record: Record, agent: AgentProcess) -> None:
        if agent.spends:
            agent.turns += 1
            host.tell(_spent(record, agent.turns))

    def _read_turns(self, host: Host, record: Record, agent: AgentProcess) -> None:
        for turn in range(1, agent.turns + 1):
            host.tell(_spent(record, turn))

    def _verified(self, host: Host, record: Record, result: Result) -> Iterator[int]:
        yield self._about(2 * SECOND)
        yield from self._reach(host)
        host.tell(values.Ended(record.key, result))

    def _reach(self, host: Host) -> Iterator[int]:
        while not host.reaches_origin:
            yield AWAY_US

    def _claim(self, record: Record) -> str | None:
        if record.body.spec.repo is None:
            return None
        return self._origin.claim(record.key.task, record.key.fence)

    def _new_agent(self, record: Record) -> AgentProcess:
        options, rng = self._options, self._rng
        works_us = int(rng.expovariate(1 / options.work_us)) + 100 * MS
        now = self._kernel.now_us
        if self.quiet:
            return AgentProcess(now + min(works_us, 4 * SECOND), None)
        left = rng.random()
        for outcome, share in (
            (FailureClass.AGENT, options.agent_fails),
            (FailureClass.CRASHED, options.agent_crashes),
            (FailureClass.QUOTA, options.quota),
        ):
            left -= share
            if left < 0:
                return AgentProcess(now + works_us, outcome)
        if left < options.agent_hangs:
            return AgentProcess(now + HANG_US, FailureClass.AGENT)
        deadline_us = record.body.spec.deadline_ms * MS
        if works_us > deadline_us:  # the sidecar's own deadline, as its supervisor keeps it
            return AgentProcess(now + deadline_us, FailureClass.DEADLINE)
        return AgentProcess(now + works_us, None)

    def _failed(self, host: Host, failure: FailureClass) -> Result:
        if failure is FailureClass.QUOTA:
            resets_at = WallTime(host.wall + 1_000 + int(self._rng.random() * 90_000))
            stated = resets_at if self._rng.random() < RESETS_STATED else None
            return Result(
                status=ResultStatus.PARKED, failure=failure, message="quota", resets_at=stated
            )
        return Result(status=ResultStatus.FAILED, failure=failure, message=failure.value)

    def _about(self, mean_us: int) -> int:
        return int(mean_us * (0.2 + 1.6 * self._rng.random()))


def _policy(record: Record) -> LandPolicy:
    return record.result.land if record.result is not None else record.assignment.land


def _spent(record: Record, turn: int) -> values.Spent:
    agent = record.assignment.agent
    spent = TurnUsage(turn=turn, agent=agent, model="simulated", input=900, output=100)
    return values.Spent(record.key, spent)


def _done(record: Record, commit: str) -> Result:
    spec = record.body.spec
    if spec.repo is None:
        return Result(status=ResultStatus.DONE)
    report = Report(commit=commit, checks=(CheckResult(name="tests", passed=True, exit_code=0),))
    merge = spec.land is not None
    return Result(
        status=ResultStatus.DONE,
        commit=commit,
        branch=f"agent/{record.key.text}",
        base_commit="base",
        report=report,
        verify_expected=True,
        land=spec.land or LandPolicy.BRANCH,
        land_key=LAND_KEY if merge else None,
        needs_person=("the tests were changed",) if spec.labels.get("person") else (),
    )
