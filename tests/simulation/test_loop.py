"""The event loop of virtual time: asyncio's own rules, without waiting."""

import asyncio

import pytest

from agentcom.testing.simulation.kernel import SECOND, Kernel
from agentcom.testing.simulation.loop import NodeLoop


async def pause(seconds: float) -> None:
    """Wait for the loop's own clock, which is virtual."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def loop(kernel: Kernel) -> NodeLoop:
    return NodeLoop(kernel)  # type: ignore[abstract]  # what a hub needs of one


def test_sleep_takes_virtual_time_alone(kernel: Kernel, loop: NodeLoop) -> None:
    seen: list[float] = []

    async def sleeper() -> None:
        for _ in range(3):
            await pause(100)
            seen.append(asyncio.get_running_loop().time())

    loop.create_task(sleeper())
    loop.pump()
    kernel.run_until(250 * SECOND)

    assert seen == [100, 200]


def test_a_timeout_cancels_what_takes_too_long(kernel: Kernel, loop: NodeLoop) -> None:
    seen: list[str] = []

    async def waiter() -> None:
        try:
            async with asyncio.timeout(5):
                await pause(60)
        except TimeoutError:
            seen.append(f"late at {asyncio.get_running_loop().time():.0f}")

    loop.create_task(waiter())
    loop.pump()
    kernel.run_until(SECOND * 10)

    assert seen == ["late at 5"]


@pytest.mark.parametrize(("suspended", "woke_at"), [(True, 35), (False, 30)])
def test_a_frozen_process_runs_nothing_and_a_suspended_one_ages_not(
    kernel: Kernel, loop: NodeLoop, *, suspended: bool, woke_at: int
) -> None:
    seen: list[int] = []

    async def sleeper() -> None:
        await pause(15)
        seen.append(kernel.now_us // SECOND)

    loop.create_task(sleeper())
    loop.pump()
    kernel.run_until(10 * SECOND)
    loop.freeze()
    kernel.run_until(30 * SECOND)
    assert seen == []
    loop.thaw(suspended=suspended)
    kernel.run_until(60 * SECOND)

    assert seen == [woke_at]


def test_what_nobody_caught_is_remembered(loop: NodeLoop) -> None:
    def broken() -> None:
        raise ValueError("a bug")

    loop.call(broken)

    assert "a bug" in loop.failures[0]


def test_a_killed_process_unwinds_and_never_runs_again(kernel: Kernel, loop: NodeLoop) -> None:
    seen: list[str] = []

    async def waiter() -> None:
        try:
            await pause(5)
            seen.append("went on")
        finally:
            seen.append("unwound")

    loop.create_task(waiter())
    loop.pump()
    loop.bury()
    kernel.run_until(60 * SECOND)

    assert seen == ["unwound"]
