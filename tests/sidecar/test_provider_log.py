"""Quotas that a program passes on as rate limits."""

from pathlib import Path

import pytest

from agentcom.model.failure import FailureClass
from agentcom.sidecar import attempt_files, provider_log
from agentcom.sidecar.runtime import base

LIMITED = base.Verdict(failure=FailureClass.RATE_LIMIT, message="Rate limit.", session="s-1")
QUOTA = "429 You've hit your usage limit. Try again in 2h 5m."


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "attempt"
    logs = tmp_path / "home" / "logs"
    folder.mkdir()
    logs.mkdir(parents=True)
    named = f"{logs.parent}\nlogs/{{session}}.txt"
    (folder / attempt_files.PROVIDER_LOG).write_text(named)
    return folder


def own(attempt: Path, *, session: str = "s-1") -> Path:
    return attempt.parent / "home" / "logs" / f"{session}.txt"


def test_standard_error_tells_of_a_quota(attempt: Path) -> None:
    (attempt / attempt_files.STDERR).write_text(f"Traceback\nStatus/{QUOTA}\nRateLimitError\n")

    verdict = provider_log.corrected(LIMITED, attempt)

    assert (verdict.failure, verdict.message) == (FailureClass.QUOTA, f"Status/{QUOTA}")


def test_the_programs_own_log_tells_of_a_quota_and_its_stamp_is_no_reset(attempt: Path) -> None:
    stamp = "2026-11-28T20:40:17.117Z [ERROR] [OPENAI_ERROR] "
    own(attempt).write_text(f"{stamp}API Error: {QUOTA}\n  statusCode: 429,\n")

    verdict = provider_log.corrected(LIMITED, attempt)

    assert (verdict.failure, verdict.message) == (FailureClass.QUOTA, f"API Error: {QUOTA}")


def test_only_the_last_answer_of_the_provider_counts(attempt: Path) -> None:
    own(attempt).write_text(f"{QUOTA}\n429 Too many requests, slow down.\n")

    assert provider_log.corrected(LIMITED, attempt) == LIMITED


def test_another_failure_keeps_its_class(attempt: Path) -> None:
    (attempt / attempt_files.STDERR).write_text(QUOTA)
    failed = base.Verdict(failure=FailureClass.AGENT, message="It gave up.")

    assert provider_log.corrected(failed, attempt) == failed


@pytest.mark.parametrize("session", ["../s-1", "", "s 1", "{session}"])
def test_no_session_leads_out_of_the_logs(attempt: Path, session: str) -> None:
    own(attempt, session="other").write_text(QUOTA)
    (attempt.parent / "home" / "s-1.txt").write_text(QUOTA)
    limited = base.Verdict(failure=FailureClass.RATE_LIMIT, session=session)

    assert provider_log.corrected(limited, attempt) == limited


def test_no_link_leads_out_of_the_logs(attempt: Path) -> None:
    elsewhere = attempt.parent / "secret.txt"
    elsewhere.write_text(QUOTA)
    own(attempt).symlink_to(elsewhere)

    linked = provider_log.corrected(LIMITED, attempt)
    own(attempt).unlink()
    own(attempt).parent.rmdir()
    own(attempt).parent.symlink_to(attempt.parent)
    (attempt.parent / "s-1.txt").write_text(QUOTA)

    assert linked == LIMITED
    assert provider_log.corrected(LIMITED, attempt) == LIMITED


def test_a_log_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    assert provider_log.corrected(LIMITED, tmp_path) == LIMITED
