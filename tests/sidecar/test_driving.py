"""What every driver keeps to, run as the sidecar runs it: one suite for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agentcom.model.failure import FailureClass
from agentcom.sidecar import process, processes
from agentcom.sidecar.config import Settings
from agentcom.sidecar.machine_values import Spent
from agentcom.sidecar.runtime import base
from agentcom.testing import scenario
from agentcom.testing.waiting import until
from tests.sidecar.driving import DRIVERS, REAL, Desk, Track, track

pytestmark = [
    pytest.mark.skipif(not processes.has_table(), reason="looks at /proc"),
    pytest.mark.timeout(300),
]

SLOW = scenario.render([scenario.Shell(("sleep", "120")), scenario.Say("Done.")])
PATIENCE_S = 60


@pytest.fixture(params=DRIVERS)
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Track]:
    async with track(request.param, tmp_path) as ready:
        yield ready


def gated(gate: Path, *more: scenario.Step) -> str:
    """Return a prompt for a command that ends when there is a file `gate`."""
    wait = ("sh", "-c", f"until test -e {gate}; do sleep 0.05; done")
    return scenario.render([scenario.Shell(wait), *more, scenario.Say("Gone through.")])


async def dropped(driver: Track, running: process.AgentProcess, when: Callable[[], bool]) -> None:
    """Follow a run until something is so, then leave it, as a sidecar does that ends."""
    following = asyncio.create_task(driver.follow(running, Desk(["<<mock:say>>"])))
    await until(when, patience_s=PATIENCE_S)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("edit", None),
        ("auth", FailureClass.AUTH),
        ("quota", FailureClass.QUOTA),
        ("model-down", FailureClass.MODEL_UNAVAILABLE),
    ],
)
async def test_the_verdict_is_what_happened(
    driver: Track, name: str, failure: FailureClass | None
) -> None:
    verdict = await driver.run(f"<<mock:{name}>>")

    assert verdict.failure is failure, verdict.message
    assert (driver.tree / "hello.txt").exists() is (failure is None)
    assert not driver.left()


async def test_a_run_says_what_it_is_and_what_it_spent(driver: Track) -> None:
    verdict = await driver.run("<<mock:edit>>")

    kinds = [type(event) for event in driver.events()]
    assert kinds.count(base.SessionStarted) == kinds.count(base.TurnEnded) == 1
    assert kinds.count(base.ToolStarted) == kinds.count(base.ToolEnded) >= 1
    assert verdict.session
    assert verdict.summary
    assert verdict.usage.output > 0


async def test_a_session_is_taken_up_again(driver: Track) -> None:
    first = await driver.run("<<mock:say>>")
    second = await driver.run("<<mock:edit>>", resume=first.session)

    assert (second.failure, second.session) == (None, first.session)
    assert (driver.tree / "hello.txt").exists()


async def test_a_prompt_of_any_size_and_kind_arrives(driver: Track) -> None:
    prompt = f"- a list $(touch {driver.tree}/pwned)\n" + "x" * 200_000 + "\n<<mock:edit>>"

    verdict = await driver.run(prompt)

    assert verdict.failure is None
    assert [one.name for one in driver.tree.iterdir() if one.name != ".git"] == ["hello.txt"]


async def test_a_cancel_leaves_nothing(driver: Track) -> None:
    running = await driver.start(SLOW)
    following = asyncio.create_task(driver.follow(running))
    await until(lambda: driver.tool is not None, patience_s=PATIENCE_S)

    ended = await running.stop(base.Stop.CANCELLED)
    verdict = await following

    assert ended.stop is base.Stop.CANCELLED
    assert verdict.failure is FailureClass.AGENT
    assert not driver.left()


async def test_an_agent_that_shows_no_progress_is_stopped(driver: Track) -> None:
    running = await driver.start("<<mock:hang>>")
    real = driver.name in REAL  # a program of others takes its time before it hangs
    impatient = Settings(first_event_ms=4_000 if real else 1_000, between_events_ms=1_000)

    verdict = await driver.follow(running, settings=impatient)

    assert verdict.failure is FailureClass.NO_PROGRESS
    assert not driver.left()


async def test_a_sidecar_that_starts_again_says_nothing_twice(driver: Track) -> None:
    gate = driver.root / "gate"
    running = await driver.start(gated(gate, scenario.Write("hello.txt", "hello\n")))
    await dropped(driver, running, lambda: driver.tool is not None)

    again = await process.attach(running.attempt_dir)
    assert again is not None
    following = asyncio.create_task(driver.follow(again))
    await until(lambda: driver.tool is not None, patience_s=PATIENCE_S)
    gate.touch()
    verdict = await following

    assert (verdict.failure, verdict.summary) == (None, "Gone through.")
    spent = [one for one in driver.told if isinstance(one, Spent)]
    assert not spent, "nobody counts here"
    assert [type(one) for one in driver.events()].count(base.TurnEnded) == 1
    if driver.talks:
        assert len(driver.said()) == len(set(driver.said()))


async def test_a_further_turn_is_in_the_same_process_and_session(driver: Track) -> None:
    if not driver.talks:
        pytest.skip("this one takes one prompt")
    desk = Desk(["<<mock:edit>>", "<<mock:say>>"])

    verdict = await driver.run("<<mock:say>>", desk)

    assert verdict.failure is None, verdict.message
    assert desk.said == [(1, True), (2, True)]
    assert (driver.tree / "hello.txt").exists()
    events = driver.events()
    assert len({one.id for one in events if isinstance(one, base.SessionStarted)}) == 1
    assert [one.stop for one in events if isinstance(one, base.TurnEnded)] == ["end_turn"] * 3
    assert not driver.left()


async def test_a_further_turn_is_begun_once_whoever_follows(driver: Track) -> None:
    if not driver.talks:
        pytest.skip("this one takes one prompt")
    gate = driver.root / "gate"
    running = await driver.start("<<mock:say>>")
    following = asyncio.create_task(driver.follow(running, Desk([gated(gate)])))
    await until(lambda: driver.tool is not None, patience_s=PATIENCE_S)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following

    again = await process.attach(running.attempt_dir)
    assert again is not None
    desk = Desk([gated(gate)])
    gate.touch()
    verdict = await driver.follow(again, desk)

    assert verdict.failure is None, verdict.message
    assert desk.said == [(1, True)]
    assert driver.said().count("prompt-2") == 1
    assert [type(one) for one in driver.events()].count(base.TurnEnded) == 2


async def test_a_turn_that_fails_is_the_last(driver: Track) -> None:
    if not driver.talks:
        pytest.skip("this one takes one prompt")
    desk = Desk(["<<mock:auth>>", "<<mock:say>>"])

    verdict = await driver.run("<<mock:say>>", desk)

    assert verdict.failure is FailureClass.AUTH
    assert desk.said == [(1, True)]


async def test_a_word_reaches_the_turn_that_runs_or_waits_for_its_end(driver: Track) -> None:
    if not driver.talks:
        pytest.skip("this one takes one prompt")
    gate, desk = driver.root / "gate", Desk()
    following = asyncio.create_task(driver.follow(await driver.start(gated(gate)), desk))
    await until(lambda: driver.tool is not None, patience_s=PATIENCE_S)

    desk.bring("word-1", "mind the printer")
    steers = driver.name in REAL
    await until(lambda: "word-1" in driver.said() or not steers, patience_s=PATIENCE_S)
    gate.touch()
    verdict = await following

    assert verdict.failure is None, verdict.message
    assert desk.heards == ([("word-1", True)] if steers else [])
    assert list(desk.waiting) == ([] if steers else ["word-1"])
    assert desk.tell is None


@pytest.mark.cli
@pytest.mark.parametrize("name", REAL)
async def test_a_word_is_brought_once_whoever_follows(name: str, tmp_path: Path) -> None:
    async with track(name, tmp_path) as driver:
        gate, first = driver.root / "gate", Desk()
        running = await driver.start(gated(gate))
        following = asyncio.create_task(driver.follow(running, first))
        await until(lambda: driver.tool is not None, patience_s=PATIENCE_S)
        first.bring("word-1", "mind the printer")
        await until(lambda: "word-1" in driver.said(), patience_s=PATIENCE_S)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

        second = Desk(before={"word-1": "mind the printer"})
        gate.touch()
        verdict = await driver.follow(running, second)

        assert verdict.failure is None
        assert driver.said().count("word-1") == 1
        assert second.heards == [("word-1", True)]
