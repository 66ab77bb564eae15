import msgspec
import pytest

from agentcom.model import errors, limits
from agentcom.model.failure import FailureClass
from agentcom.model.ids import WallTime
from agentcom.model.result import Result, ResultStatus
from agentcom.model.verification import CheckResult, Report
from agentcom.sidecar import results
from agentcom.sidecar.runtime import base

NOW = WallTime(1_790_000_000_000)
DONE = Result(status=ResultStatus.DONE, commit="a" * 40)


def test_a_run_without_a_failure_is_done() -> None:
    verdict = base.Verdict(failure=None, summary="did it", session="s1")

    result = results.of_verdict(verdict, now=NOW)

    assert (result.status, result.summary, result.session) == (ResultStatus.DONE, "did it", "s1")


def test_an_exhausted_quota_parks_until_its_reset() -> None:
    stated = base.Verdict(failure=FailureClass.QUOTA, resets_at_ms=9)
    said = base.Verdict(failure=FailureClass.QUOTA, message="usage limit, try again in 2h 5m")

    results_ = [results.of_verdict(verdict, now=NOW) for verdict in (stated, said)]

    assert [result.status for result in results_] == [ResultStatus.PARKED] * 2
    assert [result.resets_at for result in results_] == [9, NOW + 7_500_000]


@pytest.mark.parametrize(
    ("said", "failure", "resets_at"),
    [
        ("Rate limit reached, try again in 20s", FailureClass.RATE_LIMIT, None),
        ("Rate limit reached, try again in 20m", FailureClass.QUOTA, 1_200_000),
        ("Rate limit reached", FailureClass.RATE_LIMIT, None),
    ],
)
def test_a_rate_limit_that_lasts_is_a_quota(
    said: str, failure: FailureClass, resets_at: int | None
) -> None:
    verdict = base.Verdict(failure=FailureClass.RATE_LIMIT, message=said)

    result = results.of_verdict(verdict, now=NOW)

    assert result.failure is failure
    assert result.resets_at == (None if resets_at is None else NOW + resets_at)


def test_a_failed_check_is_named() -> None:
    checks = (CheckResult(name="lint", passed=True), CheckResult(name="tests", passed=False))

    result = results.with_report(DONE, Report(commit="a" * 40, checks=checks))

    assert result.failure is FailureClass.VERIFICATION
    assert result.message == "checks failed: tests"


def test_a_result_fits_into_one_frame_whatever_its_checks_print() -> None:
    loud = CheckResult(name="tests", passed=False, output_tail='"' * limits.FRAME_BYTES)
    result = results.with_report(DONE, Report(commit="a" * 40, checks=(loud,)))

    fitted = results.fitted(result)

    assert len(msgspec.json.encode(fitted)) < limits.FRAME_BYTES
    assert fitted.report is not None
    assert [check.name for check in fitted.report.checks] == ["tests"]


def test_a_person_reads_twenty_reasons_and_not_a_thousand() -> None:
    reasons = results.some([f"deletes the test {n}" for n in range(1_000)])

    assert len(reasons) == results.REASONS_MAX + 1
    assert reasons[-1] == "and 980 more"


def test_an_error_of_the_system_is_told_in_words() -> None:
    assert results.said(OSError(28, "No space left on device")) == "No space left on device"
    assert results.said(OSError(2, "No such file", "/x")) == "No such file: /x"
    assert results.said(errors.Stale("old")) == "old"
