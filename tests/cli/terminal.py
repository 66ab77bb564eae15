"""A person at the command line: real processes, or the same code in this process."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from agentcom.cli import errors
from agentcom.cli.root import root

WAIT_S = 90
"""Bounds every command; most take a tenth of a second."""
ASKING = frozenset(
    {
        *("account", "alert", "ask", "audit", "budget", "channel", "context", "cost", "group"),
        *("limit", "lock", "logs", "machine", "msg", "note", "notify", "pause", "resume"),
        *("schedule", "status", "submit", "task", "token", "user", "who"),
    }
)
"""Commands that start nothing and end nothing: they ask a hub, or read and write a file."""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The rows of a listing in a pipe."""
        return [line.split("\t") for line in self.out.splitlines()]


class Shell:
    """Runs `agentcom` with a home of its own: what starts or ends something as a process.

    What only asks the hub runs here: a process of its own is nine tenths of what such a command
    costs. That the program can be run is shown by the rest, and by the journeys.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder

    def __call__(self, *words: str, ok: bool = True, stdin: str = "", **variables: str) -> Said:
        run = self._here if words[0] in ASKING else self._apart
        said = run(words, stdin, {**self.variables(), **variables})
        assert not ok or said.code == 0, said
        return said

    def _apart(self, words: Sequence[str], stdin: str, environment: Mapping[str, str]) -> Said:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "agentcom.cli.main", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            input=stdin,
            timeout=WAIT_S,
            env=environment,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def _here(self, words: Sequence[str], stdin: str, environment: Mapping[str, str]) -> Said:
        out, err = _pipe(), _pipe()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch("sys.stdin", _pipe(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = errors.run(root, words)
        return Said(code, _said(out), _said(err))

    def variables(self) -> dict[str, str]:
        """Return the environment of its processes."""
        return {**os.environ, "AGENTCOM_HOME": str(self.home)}


class Here:
    """Runs commands in this process, as in a pipe."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Said:
        code = errors.run(root, words)
        printed = self._capsys.readouterr()
        return Said(code, printed.out, printed.err)


def _pipe(text: str = "") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")


def _said(pipe: io.TextIOWrapper) -> str:
    pipe.flush()
    data = pipe.buffer
    assert isinstance(data, io.BytesIO)
    return data.getvalue().decode()
