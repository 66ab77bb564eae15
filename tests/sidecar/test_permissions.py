"""Permissions of agents, as questions at a real hub; and agents that ask for them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentcom.model import errors
from agentcom.model.address import Address
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.ids import WallTime
from agentcom.protocol import calls, told
from agentcom.sidecar import permissions as module
from agentcom.sidecar import processes
from agentcom.sidecar.config import Settings
from agentcom.sidecar.permissions import Permissions
from agentcom.sidecar.runtime import base
from agentcom.testing import scenario
from agentcom.testing.waiting import until
from tests.sidecar.driving import KEY, REAL_CLI, Desk, Track, track

ASKED = base.PermissionAsked("asked-1", "Bash: rm -rf\nbuild", open=True)
EDIT = scenario.render([scenario.Write("hello.txt", "hello\n"), scenario.Say("So it goes.")])


class Hub:
    """Answers the calls of one agent, in order."""

    def __init__(self, *answers: AskState | errors.AgentComError, answer: str = "allow") -> None:
        self.answers = list(answers)
        self.answer = answer
        self.calls: list[tuple[calls.Call, str | None]] = []

    async def do(
        self, _key: object, call: calls.Call, _kind: object, request: str | None = None
    ) -> told.AskShown:
        self.calls.append((call, request))
        if not self.answers:
            await asyncio.Event().wait()
        now = self.answers.pop(0)
        if isinstance(now, errors.AgentComError):
            raise now
        ask = Ask(
            id=AskId("a1"), asker=Address("agent:ada"), question="?", at=WallTime(0), state=now,
            answer=self.answer,
        )  # fmt: skip
        return told.AskShown(ask=ask)


def desk(hub: Hub) -> Permissions:
    return Permissions(hub, KEY, "run-1")  # type: ignore[arg-type] # what it needs of an endpoint


async def test_a_persons_yes_is_a_yes() -> None:
    hub = Hub(AskState.OPEN, AskState.OPEN, AskState.ANSWERED)

    assert await desk(hub).allows(ASKED)

    (put, request), (show, again), _ = hub.calls
    assert isinstance(put, calls.AskPut)
    assert put.question == "Permission: may the agent do this? Bash: rm -rf build"
    assert (put.options, put.fallback) == (("allow", "deny"), "deny")
    assert request == "permission/1.1/run-1/asked-1"
    assert isinstance(show, calls.AskShow)
    assert again is None


@pytest.mark.parametrize(
    ("hub", "why"),
    [
        (Hub(AskState.ANSWERED, answer="deny"), "said no"),
        (Hub(AskState.EXPIRED), "nobody answered"),
        (Hub(AskState.WITHDRAWN), "the task is over"),
        (Hub(errors.Stale("over")), "the attempt is over"),
        (Hub(errors.TooManyAsks("4")), "too many"),
    ],
)
async def test_everything_else_is_a_no(hub: Hub, why: str) -> None:
    assert not await desk(hub).allows(ASKED), why


async def test_a_hub_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0)
    hub = Hub(errors.Unavailable("away"), errors.Timeout("slow"), AskState.ANSWERED)

    assert await desk(hub).allows(ASKED)
    assert len({request for _, request in hub.calls}) == 1


async def test_without_a_hub_the_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERMISSION_MS", 0)
    monkeypatch.setattr(module, "_MARGIN_S", 0.01)

    assert not await desk(Hub()).allows(ASKED)


async def test_a_question_whose_agent_is_gone_is_withdrawn() -> None:
    hub = Hub(AskState.OPEN)
    open_ = desk(hub)
    asking = asyncio.create_task(open_.allows(ASKED))
    await until(lambda: len(hub.calls) == 2)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    hub.answers.append(AskState.WITHDRAWN)

    await open_.withdraw(ASKED)
    await open_.withdraw(ASKED)

    assert [call for call, _ in hub.calls[2:]] == [calls.AskWithdraw(ask=AskId("a1"))]


# With agents ---------------------------------------------------------------------------------

ASKERS = (
    "acp,permission",
    pytest.param("claude", marks=REAL_CLI),
    pytest.param("codex", marks=REAL_CLI),
)


@pytest.fixture(params=ASKERS)
async def asker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Track]:
    if not processes.has_table():
        pytest.skip("looks at /proc")
    async with track(request.param, tmp_path, permissions="ask") as ready:
        yield ready


@pytest.mark.parametrize("allowed", [True, False])
async def test_an_agent_does_what_it_may_and_goes_on_if_it_may_not(
    asker: Track, allowed: bool
) -> None:
    at = Desk(answer=allowed)

    verdict = await asker.run(EDIT, at)

    assert (verdict.failure, verdict.summary) == (None, "So it goes.")
    assert (asker.tree / "hello.txt").exists() is allowed
    assert len(at.asked) == 1


async def test_an_agent_that_waits_for_a_yes_is_not_stuck(asker: Track) -> None:
    at = Desk()
    running = await asker.start(EDIT)
    hasty = Settings(first_event_ms=60_000, between_events_ms=1_500, progress_interval_ms=20)
    following = asyncio.create_task(asker.follow(running, at, settings=hasty))
    await until(lambda: at.asked, patience_s=60)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(following), 2.0)

    ended = await running.stop(base.Stop.CANCELLED)
    await following

    assert ended.stop is base.Stop.CANCELLED
    assert at.withdrawn == at.asked
    assert not asker.left()


async def test_an_open_question_is_put_again_by_a_sidecar_that_starts_again(asker: Track) -> None:
    running = await asker.start(EDIT)
    first = Desk()
    following = asyncio.create_task(asker.follow(running, first))
    await until(lambda: first.asked, patience_s=60)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following

    second = Desk(answer=True)
    verdict = await asker.follow(running, second)

    assert verdict.failure is None
    assert second.asked == first.asked
    assert not first.withdrawn
    assert (asker.tree / "hello.txt").exists()


async def test_who_denies_everything_asks_nobody(tmp_path: Path) -> None:
    async with track("acp,permission", tmp_path, permissions="deny") as strict:
        at = Desk(answer=True)
        verdict = await strict.run(EDIT, at)

        assert verdict.failure is None
        assert not at.asked
        assert not (strict.tree / "hello.txt").exists()
