"""A person at the command line: real processes, or the same code in this process."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentcom.cli import errors
from agentcom.cli.root import root

WAIT_S = 90
"""Bounds every command; most take a tenth of a second."""


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
    """Runs `agentcom` as a process of its own, with a home of its own."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder

    def __call__(self, *words: str, ok: bool = True, stdin: str = "", **variables: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "agentcom.cli.main", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            input=stdin,
            timeout=WAIT_S,
            env={**self.variables(), **variables},
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert not ok or said.code == 0, said
        return said

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
