"""An announced sleep: what runs is given back before it, and agents work again after it."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from shutil import which

import msgspec
import pytest

from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.sidecar import processes, sleeping
from agentcom.sidecar.config import Config
from agentcom.sidecar.lifetime import cancel
from agentcom.sidecar.preflight import ASLEEP
from agentcom.sidecar.shell import EXIT_DONE, Sidecar
from agentcom.testing.waiting import PATIENCE_S, until
from tests.client.fake_hub import FakeHub
from tests.sidecar.git_origin import Origin, git
from tests.sidecar.sidecar_world import (
    QUICK,
    RUNTIMES,
    WRITE,
    config,
    end_all,
    left_behind,
    prompt,
    record,
)

pytestmark = pytest.mark.skipif(
    not processes.has_table() or not all(map(which, ("dbus-daemon", "dbus-monitor", "dbus-send"))),
    reason="needs Linux with D-Bus",
)

BUS = """<busconfig>
  <type>system</type>
  <listen>unix:dir={folder}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/> <allow send_type="signal"/> <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>"""


class Bus:
    """A system bus of our own, on which we are logind."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def announce(self, sleeps: str) -> None:
        """Say what logind says before a sleep ("true") and after it ("false")."""
        call = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForSleep")
        words = (f"--bus={self._address}", "--type=signal", *call, f"boolean:{sleeps}")
        process = await asyncio.create_subprocess_exec("dbus-send", *words)
        assert await process.wait() == 0


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    settings = tmp_path / "bus.conf"
    settings.write_text(BUS.format(folder=tmp_path))
    words = ["dbus-daemon", f"--config-file={settings}", "--nofork", "--print-address=1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield Bus(address)
        daemon.terminate()


class Heard:
    """What was announced, again and again until the listener is there to hear it."""

    def __init__(self, bus: Bus) -> None:
        self.said: list[bool] = []
        self._bus = bus

    async def __call__(self, sleeps: bool) -> None:
        self.said.append(sleeps)

    async def ready(self) -> None:
        """Return once announcements are heard; they are forgotten."""

        async def heard() -> bool:
            await self._bus.announce("false")
            return bool(self.said)

        await until(heard)
        self.said.clear()


async def test_each_sleep_is_heard_before_and_after(bus: Bus) -> None:
    heard = Heard(bus)
    following = asyncio.create_task(sleeping.follow(heard))
    await heard.ready()

    await bus.announce("true")
    await bus.announce("false")
    await until(lambda: heard.said[-2:] == [True, False])

    await cancel([following])


async def test_who_is_cancelled_again_and_again_leaves_no_process(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[asyncio.subprocess.Process] = []
    start = sleeping._started

    async def started() -> asyncio.subprocess.Process:
        made.append(await start())
        return made[-1]

    monkeypatch.setattr(sleeping, "_started", started)
    following = asyncio.create_task(sleeping.follow(Heard(bus)))
    while not following.done():
        await asyncio.sleep(0)
        following.cancel()

    assert [process.returncode is None for process in made] == [False]


async def test_without_a_bus_nothing_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")

    async def told(_sleeps: bool) -> None:
        raise AssertionError

    async with asyncio.timeout(PATIENCE_S):
        await sleeping.follow(told)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, hub: FakeHub) -> Iterator[Config]:
    made = config(tmp_path, hub.url, msgspec.structs.replace(QUICK, checkpoint_interval_ms=60_000))
    yield made
    end_all(made.home)
    assert not left_behind(made.home)


async def test_what_runs_is_saved_and_given_back_before_a_sleep(
    bus: Bus, machine: Config, hub: FakeHub, tmp_path: Path
) -> None:
    origin = Origin(tmp_path / "forge")
    sidecar = Sidecar(machine, runtimes=RUNTIMES)
    running = asyncio.create_task(sidecar.run(handle_signals=False))
    spec = TaskSpec(title="A task", prompt=prompt(WRITE, {"hang": True}), repo=origin.url)
    made = record(spec)
    await hub.connected()
    await hub.send(frames.Assign(assignment=made.assignment, body=made.body))
    # Unlike a glob, a walk goes on where git removes a folder meanwhile.
    await until(lambda: any("hello.txt" in files for *_, files in os.walk(machine.home.root)))

    async def announce() -> None:
        await bus.announce("true")  # it is heard once somebody listens

    await until(lambda: hub.all(frames.StoppedFrame), each=announce)

    assert not left_behind(machine.home)
    saved = hub.all(frames.Checkpoint)[-1]
    assert git(origin.path, "show", f"{saved.commit}:hello.txt") == "hello"
    await until(lambda: _problems(hub) == {ASLEEP})

    await bus.announce("false")
    await until(lambda: _problems(hub) == {""})
    sidecar.stop()
    assert await running == EXIT_DONE


def _problems(hub: FakeHub) -> set[str]:
    """Return what the newest hello says keeps the agents from working."""
    return {agent.problem for agent in hub.all(frames.MachineHello)[-1].agents}
