"""Following a channel, and who is there, in a terminal, against a real hub."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agentcom.cli.errors import Exit
from tests.cli.terminal import WAIT_S, Shell

pytestmark = pytest.mark.slow


class Watch:
    """A command that goes on until it is interrupted."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def until(self, text: str) -> list[str]:
        """Return the lines up to the one that has the text."""
        lines: list[str] = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.append(line.rstrip("\n"))
            if text in line:
                return lines
        raise AssertionError(lines)

    def interrupt(self) -> int:
        """End it as Ctrl-C does; return its exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        """Return its exit code when it is over."""
        return self._process.wait(WAIT_S)


@contextmanager
def watching(shell: Shell, *words: str) -> Iterator[Watch]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "agentcom.cli.main", *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=shell.folder,
        env={**os.environ, "AGENTCOM_HOME": str(shell.home), "PYTHONUNBUFFERED": "1"},
    )
    with process:
        try:
            yield Watch(process)
        finally:
            process.kill()


def test_a_channel_is_shown_as_it_is_written(fleet: Shell) -> None:
    fleet("channel", "post", "project", "first")
    fleet("channel", "post", "project", "second")

    with watching(fleet, "channel", "watch", "project", "--last", "1") as watch:
        before = watch.until("second")
        assert "first" not in "\n".join(before)
        fleet("channel", "post", "project", "third")
        assert "-> #project" in "\n".join(watch.until("third"))
        assert watch.interrupt() == Exit.INTERRUPTED


def test_whoever_is_no_member_watches_nothing(fleet: Shell) -> None:
    said = fleet("channel", "watch", "nope", ok=False)

    assert said.code == Exit.MISSING


def test_watching_ends_with_the_channel(fleet: Shell) -> None:
    fleet("channel", "create", "talk")
    fleet("channel", "post", "talk", "hello")
    with watching(fleet, "channel", "watch", "talk") as watch:
        watch.until("hello")
        fleet("channel", "post", "talk", "still here")
        watch.until("still here")  # it follows by now
        fleet("channel", "set", "talk", "--archive")
        fleet("channel", "delete", "talk", "--yes")
        assert watch.ended() == Exit.MISSING


def test_who_is_there_is_shown_and_what_changes(fleet: Shell) -> None:
    shown = fleet("who", "--json", "address,state,host")
    assert '"agent:tester"' in shown.out
    assert '"arch"' in shown.out

    with watching(fleet, "who", "--watch", "--state", "idle", "--state", "draining") as watch:
        assert "idle" in watch.until("agent:tester")[-1]
        fleet("agent", "pause", "tester")
        assert "draining" in watch.until("agent:tester")[-1]
        fleet("agent", "resume", "tester")
        assert watch.interrupt() == Exit.INTERRUPTED
