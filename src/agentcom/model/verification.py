"""Checks of an agent's work, and what they found."""

from enum import StrEnum

import msgspec


class CheckKind(StrEnum):
    """What a check looks at."""

    COMMAND = "command"
    TESTS = "tests"
    EXISTS = "exists"
    ABSENT = "absent"
    DIFF = "diff"
    SECRETS = "secrets"

    runs: bool
    """Whether it runs a command."""
    compares: bool
    """Whether it looks at what a commit changes, which only a repository tells."""

    def __init__(self, text: str) -> None:
        self.runs = text in {"command", "tests"}
        self.compares = text in {"diff", "secrets"}


class DiffLimits(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a change may touch; None and empty mean: no limit."""

    files: int | None = None
    lines: int | None = None
    """Added and removed ones together."""
    allow: tuple[str, ...] = ()
    """Globs; each changed path must match one."""
    forbid: tuple[str, ...] = ()


class Check(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that decides whether work is good; a command is argv, never a shell."""

    name: str
    argv: tuple[str, ...] = ()
    timeout_ms: int = 900_000
    kind: CheckKind = CheckKind.COMMAND
    paths: tuple[str, ...] = ()
    """Globs of files that must be there, or must not."""
    diff: DiffLimits | None = None
    tests_min: int | None = None
    """So many tests must have passed; None: at least one, where the summary is understood."""
    memory_bytes: int | None = None
    """Of data, for each process of the command; None: no limit but the machine's."""
    output_bytes: int | None = None
    """Of output that the report keeps; None: what the report has room for."""

    @property
    def what(self) -> tuple[object, ...]:
        """What it looks at, whatever it is called and allowed."""
        return (self.kind, self.argv, self.paths, self.diff, self.tests_min)


class Tally(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How many tests passed and failed, as their runner said at its end."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


class CheckResult(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What one check found; the tail of its output is bounded."""

    name: str
    passed: bool
    exit_code: int | None = None
    timed_out: bool = False
    duration_ms: int = 0
    output_tail: str = ""
    kind: CheckKind = CheckKind.COMMAND
    said: str = ""
    """What it found, in a line."""
    tests: Tally | None = None
    setup: bool = False
    """Whether it is a set-up step, which ran before the checks."""


class Report(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """All checks of one commit."""

    commit: str
    checks: tuple[CheckResult, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether there was a check and all of them passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)
