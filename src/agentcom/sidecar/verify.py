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
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agentcom.model.verification import Check, CheckResult, Report
from agentcom.sidecar import attempt_files, computer, confines, process, supervise
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.confines import Confines
from agentcom.sidecar.runtime import base

_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
"""Colours and other control characters, which would also grow sixfold in JSON."""


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
) -> Report:
    """Run `setup`, then all `checks`, in `worktree`, and report on `commit`.

    A failed set-up step ends it; a failed check does not. Cancelling kills what runs. `attempt`
    tags the processes, so that `process.kill_survivors` finds them after a crash. `environment` is
    what they may know beside the little that all may. `confined` None: no sandbox.
    """
    bounds = limits or VerifyLimits()
    tag = attempt or f"verify-{secrets.token_hex(8)}"
    results: list[CheckResult] = []
    async with _scratch() as scratch:
        for number, check in enumerate([*setup, *checks]):
            folder = scratch / str(number)
            variables = {**(environment or {}), **_environment(scratch)}
            launch = base.Launch(argv=check.argv, environment=variables, cwd=str(worktree))
            result = await _run(check, launch, _Run(folder, bounds, tag, confined))
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


class _Run(NamedTuple):
    folder: Path
    bounds: VerifyLimits
    tag: str
    confined: Confined | None


async def _run(check: Check, launch: base.Launch, run: _Run) -> CheckResult:
    folder, bounds, scratch = run.folder, run.bounds, run.folder.parent
    limits = process.ProcessLimits(
        deadline_ms=min(check.timeout_ms, bounds.check_ms_max),
        grace_ms=bounds.grace_ms,
        output_bytes_max=bounds.output_tail_bytes,
        tail_bytes=bounds.output_tail_bytes,
        merge_output=True,
    )
    try:
        if run.confined is not None:
            known = run.confined
            limits = confines.bound(limits, known.confines, {}, computer.resources())
            launch = await asyncio.to_thread(
                known.boxes.check, launch, known.confines, scratch=scratch, shown=known.shown
            )
        running = await process.start(folder, launch, limits=limits, attempt=run.tag)
    except process.NotStarted as error:
        code = supervise.NOT_FOUND
        return CheckResult(name=check.name, passed=False, exit_code=code, output_tail=error.message)
    ended = await _ended(running)
    return CheckResult(
        name=check.name,
        passed=ended.code == 0 and ended.stop is None,
        exit_code=ended.code if ended.signal is None else -ended.signal,
        timed_out=ended.stop is base.Stop.DEADLINE,
        duration_ms=process.duration_ms(folder),
        output_tail=await asyncio.to_thread(_said, folder, bounds.output_tail_bytes, ended),
    )


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
