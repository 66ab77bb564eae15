"""Checks of an agent's work, and what they found."""

import msgspec


class Check(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One command that decides whether work is good; argv, never a shell."""

    name: str
    argv: tuple[str, ...]
    timeout_ms: int = 900_000


class CheckResult(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What one check found; the tail of its output is bounded."""

    name: str
    passed: bool
    exit_code: int | None = None
    timed_out: bool = False
    duration_ms: int = 0
    output_tail: str = ""


class Report(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """All checks of one commit."""

    commit: str
    checks: tuple[CheckResult, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether there was a check and all of them passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)
