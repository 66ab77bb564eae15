import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentcom.sidecar import attempt_files, fork_server, process, processes, supervisors, survivors
from agentcom.sidecar.runtime import base
from agentcom.sidecar.supervisors import Supervisors
from tests.sidecar.reading import first_line

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


def shell(script: str, **environment: str) -> base.Launch:
    known = {"PATH": os.environ["PATH"], **environment}
    return base.Launch(argv=["sh", "-c", script], environment=known, cwd="/")


def servers(parent: int | None = None) -> list[int]:
    """Return the fork servers that a process started."""
    name = fork_server.__name__.encode()
    found = processes.descendants(processes.read_table(), {parent or os.getpid()})
    return [one.pid for one in found if not one.zombie and name in _words(one.pid)]


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def record_of(running: process.AgentProcess) -> survivors.Record:
    record = survivors.read_record(running.attempt_dir)
    assert record is not None
    return record


async def gone(pid: int) -> None:
    entry = processes.read_entry(pid)
    if entry is not None:
        await asyncio.to_thread(processes.wait_gone, [entry], timeout_ms=20_000)
    assert processes.read_entry(pid) is None or processes.read_entry(pid).zombie  # type: ignore[union-attr] # asked right before


class Machine:
    """Starts agents under the supervisors of one machine."""

    def __init__(self, root: Path, kept: Supervisors) -> None:
        self.root = root
        self.kept = kept
        self.folders: list[Path] = []

    async def start(self, script: str, **environment: str) -> process.AgentProcess:
        folder = self.root / f"attempt-{len(self.folders)}"
        self.folders.append(folder)
        tag = f"{folder.name}@{self.root}"
        launch = shell(script, **environment)
        bounds = process.ProcessLimits(grace_ms=300)
        return await process.start(
            folder, launch, limits=bounds, attempt=tag, supervisors=self.kept
        )

    def clear(self) -> None:
        for folder in self.folders:
            process.kill_survivors(f"{folder.name}@{self.root}", folder)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    kept = Supervisors()
    async with kept.kept():
        made = Machine(tmp_path, kept)
        try:
            yield made
        finally:
            await asyncio.to_thread(made.clear)
    assert servers() == []


async def test_all_supervisors_are_forks_of_one_program_and_belong_to_nobody(
    machine: Machine,
) -> None:
    many = await asyncio.gather(*(machine.start(f"echo {n}; sleep 600") for n in range(8)))

    (server,) = servers()
    table = processes.read_table()
    parents = {table[record_of(one).pid].ppid for one in many}
    assert len({record_of(one).pid for one in many}) == 8
    assert parents.isdisjoint({server, os.getpid()})
    assert [await first_line(one) for one in many] == [b"%d" % n for n in range(8)]


async def test_an_agent_inherits_nothing_but_its_three_streams(machine: Machine) -> None:
    running = await machine.start("ls /proc/$$/fd; env", KEY="secret")
    said = [line async for _, line in running.lines()]

    assert said[:3] == [b"0", b"1", b"2"]
    assert {line.partition(b"=")[0] for line in said[3:]} - {b"PWD", b"_", b"SHLVL", b"OLDPWD"} == {
        b"PATH",
        b"KEY",
        b"AGENTCOM_ATTEMPT",
    }


async def test_the_fork_server_knows_no_key(machine: Machine, tmp_path: Path) -> None:
    running = await machine.start("sleep 600", KEY="secret")

    (server,) = servers()
    known = {line.partition(b"=")[0] for line in processes.read_environment(server) if line}
    assert known == {b"PATH", b"PYTHONPATH"}
    assert not (running.attempt_dir / attempt_files.LAUNCH).exists()


async def test_an_agent_outlives_the_fork_server(machine: Machine) -> None:
    running = await machine.start(
        "read x < /dev/null; while [ ! -e go ]; do sleep 0.01; done; exit 7"
    )
    (server,) = servers()
    os.kill(server, signal.SIGKILL)
    await gone(server)

    again = await machine.start("exit 0")
    assert (await again.wait()).code == 0
    assert servers() != [server]
    assert (await running.stop(base.Stop.CANCELLED)).stop is base.Stop.CANCELLED


async def test_an_order_that_a_killed_server_did_not_take_is_given_to_the_next(
    machine: Machine,
) -> None:
    await (await machine.start("true")).wait()
    (server,) = servers()
    os.kill(server, signal.SIGSTOP)
    starting = asyncio.create_task(machine.start("exit 3"))
    while not (machine.root / "attempt-1" / attempt_files.LAUNCH).exists():  # noqa: ASYNC110 - a file
        await asyncio.sleep(0)
    os.kill(server, signal.SIGKILL)

    assert (await (await starting).wait()).code == 3


async def test_a_server_that_hangs_is_replaced_and_leaves_no_order(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await machine.start("true")).wait()
    (server,) = servers()
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(supervisors, "END_MS_MAX", 1)
    with monkeypatch.context() as hurried:
        hurried.setattr(supervisors, "START_MS_MAX", 1)
        with pytest.raises(process.NotStarted):
            await machine.start("true", KEY="secret")

    assert not (machine.folders[-1] / attempt_files.LAUNCH).exists()
    monkeypatch.undo()
    assert (await (await machine.start("exit 4")).wait()).code == 4


async def test_the_fork_server_ends_with_its_sidecar_and_the_agent_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "attempt"
    starter = f"""
import asyncio, os, pathlib
from agentcom.sidecar import process
from agentcom.sidecar.runtime import base
from agentcom.sidecar.supervisors import Supervisors
script = "while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit 5"
launch = base.Launch(argv=["sh", "-c", script], environment=dict(os.environ), cwd="/")
async def main():
    kept = Supervisors()
    async with kept.kept():
        await process.start(pathlib.Path({str(folder)!r}), launch, supervisors=kept)
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    sidecar = await asyncio.create_subprocess_exec(
        sys.executable, "-c", starter, stdout=asyncio.subprocess.PIPE
    )
    assert sidecar.stdout is not None
    await sidecar.stdout.readline()
    (server,) = servers(sidecar.pid)
    sidecar.kill()
    await sidecar.wait()
    await gone(server)

    running = await process.attach(folder)
    assert running is not None
    (tmp_path / "go").touch()
    assert (await running.wait()).code == 5
