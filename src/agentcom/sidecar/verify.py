"""Verification: run the base's checks on an agent's commit, where the agent cannot interfere.

The caller ended the agent's tree and gives a clean worktree of the commit. Every check runs under a
supervisor of its own, so a time-out is real and nothing is left behind.
"""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model.verification import Check, CheckKind, CheckResult, Report, Tally
from agentcom.sidecar import (
    attempt_files,
    changes,
    computer,
    confines,
    process,
    summaries,
    supervise,
)
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.changes import Change
from agentcom.sidecar.confines import Confines
from agentcom.sidecar.runtime import base

_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
"""Colours and other control characters, which would also grow sixfold in JSON."""
_WITHIN: Final = """\
import os, resource, sys
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    print(f"{sys.argv[2]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
"""
"""Becomes the command, with so many bytes of data for each of its processes."""


class VerifyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one verification."""

    check_ms_max: int = 15 * 60_000
    """Beside the check's own time-out; the lower one holds."""
    grace_ms: int = 2_000
    output_tail_bytes: int = 64 << 10
    """Of all checks together: the report must fit into one frame."""
    passed_tail_bytes: int = 2 << 10
    """A check that passed has little to tell."""


@dataclass(frozen=True, slots=True)
class Confined:
    """What checks may use, reach and see."""

    boxes: Boxes
    confines: Confines = Confines()  # noqa: RUF009 - frozen
    shown: tuple[Path, ...] = ()


async def verify(
    worktree: Path,
    checks: Sequence[Check],
    limits: VerifyLimits | None = None,
    *,
    commit: str,
    setup: Sequence[Check] = (),
    attempt: str | None = None,
    environment: Mapping[str, str] | None = None,
    confined: Confined | None = None,
    change: Change | None = None,
    base: str = "",
) -> Report:
    """Run `setup`, then all `checks`, in `worktree`, and report on `commit`.

    Checks of files look at the tree as it was before the set-up. A failed set-up step ends it; a
    failed check does not. Cancelling kills what runs. `attempt` tags the processes, so that
    `process.kill_survivors` finds them after a crash. `change` is what the commit does to `base`;
    `environment` is what they may know beside the little that all may. `confined` None: no sandbox.
    """
    bounds = limits or VerifyLimits()
    tag = attempt or f"verify-{secrets.token_hex(8)}"
    told = {**(environment or {}), **({"AGENTCOM_BASE": base} if base else {})}
    run = _Run(worktree, bounds, tag, told, confined)
    paths: list[str] = []
    if any(check.paths for check in checks):
        paths = await asyncio.to_thread(changes.paths_of, worktree)
    results: list[CheckResult] = []
    async with _scratch() as scratch:
        for number, check in enumerate([*setup, *checks]):
            if check.kind.runs:
                result = await run.command(check, scratch / str(number))
            elif check.kind.compares:
                result = changes.judge(check, change)
            else:
                result = changes.judge_paths(check, paths)
            if number < len(setup):
                result = msgspec.structs.replace(result, setup=True)
            results.append(result)
            if number < len(setup) and not result.passed:
                break
    return Report(commit=commit, checks=_within(results, bounds) if checks else ())


@contextlib.asynccontextmanager
async def _scratch() -> AsyncIterator[Path]:
    """Give a private folder for home, temporary files and logs; remove it with what is in it."""
    path = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agentcom-verify-"))
    try:
        for name in ("home", "tmp"):
            (path / name).mkdir(mode=0o700)
        yield path
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, path, ignore_errors=True))


@dataclass(frozen=True, slots=True)
class _Run:
    """Where the commands of one verification run, and within which bounds."""

    worktree: Path
    bounds: VerifyLimits
    tag: str
    told: Mapping[str, str]
    """Variables beside the little that all may know."""
    confined: Confined | None

    async def command(self, check: Check, folder: Path) -> CheckResult:
        bounds = self.bounds
        size_bytes = min(check.output_bytes or bounds.output_tail_bytes, bounds.output_tail_bytes)
        launch = base.Launch(
            argv=_bounded(check),
            environment={**self.told, **_environment(folder.parent)},
            cwd=str(self.worktree),
        )
        limits = process.ProcessLimits(
            deadline_ms=min(check.timeout_ms, bounds.check_ms_max),
            grace_ms=bounds.grace_ms,
            output_bytes_max=bounds.output_tail_bytes,
            tail_bytes=bounds.output_tail_bytes,
            merge_output=True,
            durable=False,  # who lost the report checks again
        )
        made = CheckResult(name=check.name, passed=False, kind=check.kind)
        supervisors = self.confined.boxes.supervisors if self.confined is not None else None
        try:
            if self.confined is not None:
                known, scratch = self.confined, folder.parent
                limits = confines.bound(limits, known.confines, {}, computer.resources())
                launch = await asyncio.to_thread(
                    known.boxes.check, launch, known.confines, scratch=scratch, shown=known.shown
                )
            running = await process.start(
                folder, launch, limits=limits, attempt=self.tag, supervisors=supervisors
            )
        except process.NotStarted as error:
            code = supervise.NOT_FOUND
            return msgspec.structs.replace(made, exit_code=code, output_tail=error.message)
        ended = await _ended(running)
        output = await asyncio.to_thread(_said, folder, bounds.output_tail_bytes, ended)
        good = ended.code == 0 and ended.stop is None
        tests = summaries.tally(output) if check.kind is CheckKind.TESTS else None
        wrong = _wrong_with(check, tests) if good and check.kind is CheckKind.TESTS else ""
        encoded = output.encode()
        return msgspec.structs.replace(
            made,
            passed=good and not wrong,
            exit_code=ended.code if ended.signal is None else -ended.signal,
            timed_out=ended.stop is base.Stop.DEADLINE,
            duration_ms=process.duration_ms(folder),
            output_tail=encoded[max(0, len(encoded) - size_bytes) :].decode("utf-8", "ignore"),
            tests=tests,
            said=wrong or (summaries.in_words(tests) if tests is not None else ""),
        )


def _bounded(check: Check) -> tuple[str, ...]:
    if check.memory_bytes is None:
        return check.argv
    return (sys.executable, "-I", "-S", "-c", _WITHIN, str(check.memory_bytes), *check.argv)


def _wrong_with(check: Check, tests: Tally | None) -> str:
    """Return why tests that ended with exit code 0 are not good all the same."""
    if tests is None:
        unread = "its summary is not understood, so nobody knows how many tests passed"
        return unread if check.tests_min else ""
    least = 1 if check.tests_min is None else check.tests_min
    if tests.failed or tests.passed < least:
        return f"{summaries.in_words(tests)}; none may fail, and at least {least} must pass"
    return ""


async def _ended(running: process.AgentProcess) -> base.Exit:
    try:
        return await running.wait()
    except asyncio.CancelledError:
        await asyncio.shield(running.stop(base.Stop.CANCELLED))
        raise


def _environment(scratch: Path) -> dict[str, str]:
    """Return all that a check may know; no key of the sidecar or the agent is among it."""
    return {
        "PATH": os.environ.get("PATH", _DEFAULT_PATH),
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "CI": "1",
    }


def _said(folder: Path, size_bytes: int, ended: base.Exit) -> str:
    tail = _tail(folder, size_bytes)
    return f"{tail}\n[agentcom: stopped, it used {ended.said}]\n" if ended.said else tail


def _tail(folder: Path, size_bytes: int) -> str:
    with (folder / attempt_files.STDOUT).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size_bytes))
        return _CONTROL.sub("", file.read().decode("utf-8", "replace"))


def _within(results: Sequence[CheckResult], bounds: VerifyLimits) -> tuple[CheckResult, ...]:
    """Share the room for output: a little for what passed, the rest for what failed."""
    failed = sum(not result.passed for result in results)
    passed_bytes = min(bounds.passed_tail_bytes, bounds.output_tail_bytes // max(1, len(results)))
    room = bounds.output_tail_bytes - passed_bytes * (len(results) - failed)
    failed_bytes = room // max(1, failed)
    return tuple(
        msgspec.structs.replace(
            result, output_tail=_cut(result, passed_bytes if result.passed else failed_bytes)
        )
        for result in results
    )


def _cut(result: CheckResult, size_bytes: int) -> str:
    encoded = result.output_tail.encode()
    return encoded[max(0, len(encoded) - size_bytes) :].decode("utf-8", "ignore")
