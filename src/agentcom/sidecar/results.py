"""How the sidecar words what an attempt came to; whether it is a success is the hub's judgement."""

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Final

import msgspec

from agentcom.model import limits
from agentcom.model.failure import FailureClass
from agentcom.model.ids import WallTime
from agentcom.model.result import Landing, Result, ResultStatus, TokenUsage
from agentcom.model.verification import Report
from agentcom.sidecar import git, supervise
from agentcom.sidecar.runtime import base, quota

REASONS_MAX: Final = 20
REASON_CHARS_MAX: Final = 300
RESULT_BYTES_MAX: Final = limits.FRAME_BYTES - 8_192
"""What a frame has room for, beside its envelope; a larger one would never be accepted."""

LONG_LIMIT_MS: Final = 60_000
"""A rate limit that lasts for longer than this is an exhausted quota for those who wait."""
_LIMITS: Final = (FailureClass.QUOTA, FailureClass.RATE_LIMIT)

replace: Final = msgspec.structs.replace


def failed(failure: FailureClass, message: str) -> Result:
    """Return the result of an attempt that made nothing."""
    return failed_with(Result(status=ResultStatus.FAILED), failure, message)


def failed_with(result: Result, failure: FailureClass, message: str) -> Result:
    """Return `result` as failed, with what it has."""
    cut = message[: limits.REASON_CHARS]
    return replace(result, status=ResultStatus.FAILED, failure=failure, message=cut)


def class_of(error: Exception) -> FailureClass:
    """Return what stands behind an error of the workspace."""
    return FailureClass.CONFLICT if isinstance(error, git.MergeConflict) else FailureClass.WORKSPACE


def said(error: Exception) -> str:
    """Return an error in words for people: the system's own come without their number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


def of_verdict(verdict: base.Verdict, *, now: WallTime, zone: tzinfo = UTC) -> Result:
    """Return the result that the run alone gives.

    `zone` is this computer's: programs state the reset of a quota as its time of day.
    """
    failure, resets = verdict.failure, None
    status = ResultStatus.DONE if failure is None else ResultStatus.FAILED
    if failure in _LIMITS:
        resets = verdict.resets_at_ms
        if resets is None:
            resets = quota.resets_at_ms(verdict.message, now_ms=now, zone=zone)
        if resets is not None and resets - now >= LONG_LIMIT_MS:
            failure = FailureClass.QUOTA  # whatever it is called: there is none for long
    if failure is FailureClass.QUOTA:
        status = ResultStatus.PARKED
    usage = verdict.usage
    return Result(
        status=status,
        failure=failure,
        message=verdict.message[: limits.REASON_CHARS],
        summary=verdict.summary[: limits.SUMMARY_CHARS],
        session=verdict.session,
        resets_at=WallTime(resets) if resets and failure is FailureClass.QUOTA else None,
        usage=TokenUsage(usage.input, usage.cached, usage.output),
    )


def not_ready(report: Report) -> Result:
    """Return the result of an attempt whose folder could not be set up: no agent was started."""
    last = report.checks[-1]
    missing = last.exit_code == supervise.NOT_FOUND
    how = "took too long" if last.timed_out else f"failed ({last.exit_code})"
    lines = last.output_tail.strip().splitlines()
    tail = f": {lines[-1].strip()}" if lines else ""
    failure = FailureClass.WORKSPACE if missing else FailureClass.VERIFICATION
    made = failed(failure, f"set-up {how}, no agent was started: {last.name}{tail}")
    return replace(made, report=report)


def some(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return so many reasons as a person reads."""
    rest = len(reasons) - REASONS_MAX
    more = (f"and {rest} more",) if rest > 0 else ()
    return (*(reason[:REASON_CHARS_MAX] for reason in reasons[:REASONS_MAX]), *more)


def fitted(result: Result) -> Result:
    """Return `result` so that it fits into one frame: the output of checks yields first."""
    if result.report is None or len(msgspec.json.encode(result)) <= RESULT_BYTES_MAX:
        return result
    bare = tuple(replace(check, output_tail="") for check in result.report.checks)
    result = replace(result, report=replace(result.report, checks=bare))
    if len(msgspec.json.encode(result)) <= RESULT_BYTES_MAX:
        return result
    return replace(result, protected=tuple(replace(one, diff="") for one in result.protected))


def fitted_landing(landing: Landing) -> Landing:
    """Return `landing` so that it fits into one frame: the output of the riders' checks yields."""
    if len(msgspec.json.encode(landing)) <= RESULT_BYTES_MAX:
        return landing
    riders = tuple(
        replace(rider, landing=replace(rider.landing, report=None)) for rider in landing.riders
    )
    return replace(landing, riders=riders)


def with_report(result: Result, report: Report) -> Result:
    """Return `result` with what its checks found."""
    result = replace(result, report=report)
    if report.verified:
        return result
    names = ", ".join(check.name for check in report.checks if not check.passed)
    return failed_with(result, FailureClass.VERIFICATION, f"checks failed: {names or 'none ran'}")
