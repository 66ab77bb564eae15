"""The computer stays awake while an attempt runs, by the system's own tool."""

import asyncio
import os
import platform
from pathlib import Path

import pytest

from agentcom.sidecar.wakefulness import Wakefulness
from agentcom.testing.waiting import until

TOOL = "caffeinate" if platform.system() == "Darwin" else "systemd-inhibit"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for the tool on the path, which notes when it begins and ends."""
    log, tool = tmp_path / "log", tmp_path / TOOL
    # The last word is the program that reads our pipe; before it there are only options.
    # What only delays a sleep has a log of its own, and is like the other.
    tool.write_text(
        f'#!/bin/sh\nlog={log}\ncase "$*" in *mode=delay*) log={log}.delay ;; esac\n'
        'echo "begin $*" >> $log\nfor last; do :; done\n"$last"\necho end >> $log\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return log


def lines(log: Path) -> list[str]:
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


async def said(log: Path, *wanted: str) -> None:
    async def holds() -> bool:
        return lines(log) == list(wanted)

    await until(holds)


async def test_two_attempts_share_one_lock_that_ends_with_the_second(log: Path) -> None:
    awake = Wakefulness()
    with awake.kept():
        with awake.kept():
            await said(log, "begin")
        assert lines(log) == ["begin"]
    await said(log, "begin", "end")

    with awake.kept():
        await said(log, "begin", "end", "begin")
    await said(log, "begin", "end", "begin", "end")


async def test_an_attempt_that_is_cancelled_gives_the_lock_back(log: Path) -> None:
    awake, inside = Wakefulness(), asyncio.Event()

    async def attempt() -> None:
        with awake.kept():
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(attempt())
    await inside.wait()
    await said(log, "begin")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await said(log, "begin", "end")


async def test_a_refusal_is_met_once_and_stops_no_attempt(log: Path) -> None:
    awake = Wakefulness()
    tool = log.parent / TOOL
    tool.write_text(
        f'#!/bin/sh\ncase "$*" in *mode=delay*) ;; *) echo begin >> {log} ;; esac\nexit 1\n'
    )
    with awake.kept():
        await said(log, "begin")
        await until(lambda: _over(awake))
    with awake.kept():
        pass

    assert lines(log) == ["begin"]


async def test_without_a_tool_there_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Wakefulness().kept():
        pass


def _over(awake: Wakefulness) -> bool:
    return all(holder.poll() is not None for holder in awake._holders.values())
