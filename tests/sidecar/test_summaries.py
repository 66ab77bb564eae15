"""What test runners say at their end."""

import pytest

from agentcom.model.verification import Tally
from agentcom.sidecar import summaries


@pytest.mark.parametrize(
    ("output", "passed", "failed", "skipped"),
    [
        ("===== 3 failed, 12 passed, 1 skipped, 2 warnings in 0.51s =====\n", 12, 3, 1),
        ("12 passed in 0.02s\n", 12, 0, 0),
        ("==== 2 passed, 1 error in 1.00s ====\n", 2, 1, 0),
        ("==== 5 passed, 1 xfailed in 61.20s (0:01:01) ====\n", 5, 0, 1),
        ("Ran 5 tests in 0.003s\n\nOK\n", 5, 0, 0),
        ("Ran 0 tests in 0.000s\n\nOK\n", 0, 0, 0),
        ("Ran 5 tests in 0.003s\n\nFAILED (failures=1, errors=2, skipped=1)\n", 1, 3, 1),
        (
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n"
                "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n"
            ),
            4,
            2,
            1,
        ),
        ("Tests:       1 failed, 2 skipped, 5 passed, 8 total\n", 5, 1, 2),
        ("      Tests  1 failed | 5 passed (6)\n".lstrip(), 5, 1, 0),
        ("\n  5 passing (10ms)\n  1 pending\n  2 failing\n", 5, 2, 1),
        ("# tests 6\n# pass 5\n# fail 1\n# skipped 0\n", 5, 1, 0),
        ("--- PASS: TestA (0.00s)\n    --- FAIL: TestB/x (0s)\n--- SKIP: C (0s)\nok\n", 1, 1, 1),
    ],
)
def test_a_runners_summary_is_read(output: str, passed: int, failed: int, skipped: int) -> None:
    want = Tally(passed=passed, failed=failed, skipped=skipped)

    assert summaries.tally(f"collecting\n{output}") == want


@pytest.mark.parametrize("output", ["", "all good\n", "ok  \tpkg\t0.1s\n", "1 file in 3s\n"])
def test_what_is_no_summary_has_no_tally(output: str) -> None:
    assert summaries.tally(output) is None


def test_a_tally_is_told_in_words() -> None:
    assert summaries.in_words(Tally(passed=2, skipped=1)) == "2 passed, 1 skipped"
    assert summaries.in_words(Tally()) == "no test ran"
