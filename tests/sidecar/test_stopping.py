"""Cancel, revoke and a signal while origin hangs: nobody waits for a push."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from agentcom.model.task import StopReason, TaskSpec
from agentcom.protocol import frames
from agentcom.sidecar import processes
from agentcom.sidecar.config import Config
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.shell import EXIT_DONE, EXIT_NOT_ALLOWED, Sidecar
from agentcom.testing.waiting import until
from tests.client.fake_hub import FakeHub
from tests.sidecar.git_origin import Origin
from tests.sidecar.sidecar_world import (
    FIRST,
    QUICK,
    RUNTIMES,
    TASK,
    WRITE,
    attempts,
    config,
    end_all,
    left_behind,
    prompt,
    record,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

SOON_S = 15
"""Far below the minute that a push hangs, far above what a stop takes."""


class HangingOrigin(Origin):
    """Takes everything but checkpoints: those never end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hanging = folder / "hanging"
        hook = self.path / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(
            f"#!/bin/sh\nif grep -q checkpoint; then touch {self.hanging}; exec sleep 60; fi\n"
        )
        hook.chmod(0o755)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as running:
        yield running


@pytest.fixture
def origin(tmp_path: Path) -> HangingOrigin:
    return HangingOrigin(tmp_path / "forge")


@pytest.fixture
def machine(tmp_path: Path, hub: FakeHub) -> Iterator[Config]:
    settings = msgspec.structs.replace(QUICK, checkpoint_interval_ms=50, keep_ms=200)
    made = config(tmp_path, hub.url, settings)
    yield made
    end_all(made.home)


def hangs(origin: Origin) -> Record:
    steps = (WRITE, {"say": "written"}, {"hang": True})
    return record(TaskSpec(title="A task", prompt=prompt(*steps), repo=origin.url))


async def begun(
    machine: Config, hub: FakeHub, origin: HangingOrigin
) -> tuple[Sidecar, asyncio.Task[int]]:
    sidecar = Sidecar(machine, runtimes=RUNTIMES)
    running = asyncio.create_task(sidecar.run(handle_signals=False))
    made = hangs(origin)
    await hub.connected()
    await hub.send(frames.Assign(assignment=made.assignment, body=made.body))
    await until(origin.hanging.exists)
    return sidecar, running


async def test_a_signal_waits_for_no_checkpoint(
    machine: Config, hub: FakeHub, origin: HangingOrigin
) -> None:
    sidecar, running = await begun(machine, hub, origin)

    sidecar.stop()

    async with asyncio.timeout(SOON_S):
        assert await running == EXIT_DONE
    assert left_behind(machine.home)  # its successor adopts it


async def test_a_cancelled_agent_ends_before_any_push(
    machine: Config, hub: FakeHub, origin: HangingOrigin
) -> None:
    sidecar, running = await begun(machine, hub, origin)

    async with asyncio.timeout(SOON_S):
        await hub.send(frames.StopFrame(task=TASK, fence=FIRST, reason=StopReason.CANCELLED))
        await hub.expect(frames.StoppedFrame)

        assert not left_behind(machine.home)
    sidecar.stop()
    await running


async def test_a_revoked_machine_ends_its_agents_at_once(
    machine: Config, hub: FakeHub, origin: HangingOrigin
) -> None:
    _, running = await begun(machine, hub, origin)

    await hub.close(4401)

    async with asyncio.timeout(SOON_S):
        assert await running == EXIT_NOT_ALLOWED
    assert not left_behind(machine.home)


async def test_a_stop_is_told_though_nothing_can_be_kept(
    machine: Config, origin: HangingOrigin
) -> None:
    runner, told = attempts(machine)
    made = hangs(origin)
    running = asyncio.create_task(runner.run(made, adopt=False))
    await until(origin.hanging.exists)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    async with asyncio.timeout(SOON_S):
        await runner.wind_down(made, stale=False)

    assert not left_behind(machine.home)
    assert told.stopped.result is None
