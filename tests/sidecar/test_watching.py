"""What a run's events become on their way to the hub."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import cast

import pytest

from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.sidecar.config import Settings
from agentcom.sidecar.machine_values import Key, Noted, Spent
from agentcom.sidecar.process import AgentProcess
from agentcom.sidecar.runtime import base
from agentcom.sidecar.turns import Turns
from agentcom.sidecar.watching import Watch

KEY = Key(TaskId("t1"), Fence(1, 1))


class Calls:
    """A runtime whose agent only calls tools: each line of its output is the title of a call."""

    reports_progress = True
    uses_mcp = False
    takes_turns = False
    usage_spans_session = False

    def __init__(self) -> None:
        self.count = 0

    def parser(self) -> base.Parser:
        return cast("base.Parser", self)

    def feed(self, line: str) -> Iterator[base.RuntimeEvent]:
        self.count += 1
        yield base.ToolStarted(str(self.count), line)
        yield base.ToolEnded(str(self.count))

    def finish(self, _ended: base.Exit) -> base.Verdict:
        return base.Verdict(failure=None)


class Run:
    """A process that has said everything already."""

    def __init__(self, said: Sequence[str]) -> None:
        self.said = said

    async def lines(self) -> AsyncIterator[tuple[str, str]]:
        for line in self.said:
            yield "stdout", line

    async def wait(self) -> base.Exit:
        return base.Exit(code=0)


@pytest.mark.parametrize(
    ("said", "repeats"),
    [
        (["edit a", "pytest", "pytest", "pytest"], 3),
        (["pytest", "pytest", "edit a"], 1),
        (["edit a", "pytest", "edit a", "pytest"], 1),
        (["cat " + "x" * 300 + "1", "cat " + "x" * 300 + "2"], 1),
    ],
)
async def test_a_tool_call_that_is_made_again_word_for_word_is_counted(
    said: list[str], repeats: int
) -> None:
    told: list[Noted] = []

    async def tell(noted: Noted | Spent) -> None:
        assert isinstance(noted, Noted)
        told.append(noted)

    watch = Watch(KEY, cast("base.Runtime", Calls()), Settings(), tell=tell)
    await watch.follow(cast("AgentProcess", Run(said)))

    assert told[-1].progress.repeats == repeats


class Waiting(Calls):
    """A runtime whose agent only tries its model again: each line is the reason."""

    def feed(self, line: str) -> Iterator[base.RuntimeEvent]:
        yield base.Text("begun") if line == "text" else base.Retrying(line)

    def finish(self, ended: base.Exit) -> base.Verdict:
        return base.Verdict(failure=FailureClass.NO_PROGRESS, message=str(ended.stop))


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (["usage limit reached, try again in 3h"], FailureClass.QUOTA),
        (["rate limited"], FailureClass.NO_PROGRESS),
        (["usage limit reached", "text"], FailureClass.NO_PROGRESS),
        ([], FailureClass.NO_PROGRESS),
    ],
)
async def test_an_agent_that_only_waits_for_its_quota_has_none(
    said: list[str], failure: FailureClass
) -> None:
    async def tell(_noted: Noted | Spent) -> None:
        return

    watch = Watch(KEY, cast("base.Runtime", Waiting()), Settings(), tell=tell)

    verdict = await watch.follow(cast("AgentProcess", Run(said)))

    assert verdict.failure is failure


class Spends(Calls):
    """A runtime whose agent spends: each line of its output is a turn's tokens."""

    def feed(self, line: str) -> Iterator[base.RuntimeEvent]:
        self.count += int(line)
        yield base.Usage(output=int(line))

    def finish(self, _ended: base.Exit) -> base.Verdict:
        return base.Verdict(failure=None, usage=base.Usage(output=self.count + 5))


@pytest.mark.parametrize("over", [False, True])
async def test_turns_are_told_as_they_end_and_what_is_left_at_the_end(over: bool) -> None:
    told: list[Spent] = []

    async def tell(fact: Noted | Spent) -> None:
        if isinstance(fact, Spent):
            told.append(fact)

    turns = Turns(AgentId("bob"), "claude", {})
    runtime, running = cast("base.Runtime", Spends()), cast("AgentProcess", Run(["7", "9"]))
    watch = Watch(KEY, runtime, Settings(), tell=tell, turns=turns)
    await (watch.count(running) if over else watch.follow(running))

    assert [(fact.key, fact.turn.turn, fact.turn.output) for fact in told] == [
        (KEY, 1, 7),
        (KEY, 2, 9),
        (KEY, 3, 5),
    ]
