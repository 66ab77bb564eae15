"""The page of drivers says with which code each cell was found."""

from collections.abc import Sequence

from agentcom.testing.agent_checks import Row
from tests.tools import matrix


def rows(*scenarios: str) -> Sequence[Row]:
    return [
        Row(
            runtime="pi",
            version="1",
            scenario=one,
            passed=True,
            expected="done",
            found="done",
            duration_ms=1,
        )
        for one in scenarios
    ]


def test_a_row_that_is_tried_again_leaves_the_others_at_their_commit() -> None:
    first = matrix.joined(None, "aaa", rows("success", "hang"))

    again = matrix.joined(first, "bbb", rows("hang"))

    assert again.commit == "aaa, bbb"
    assert [row.scenario for row in again.rows] == ["success", "hang"]


def test_a_program_whose_rows_were_all_tried_again_is_of_one_commit() -> None:
    first = matrix.joined(None, "aaa", rows("success", "hang"))

    again = matrix.joined(first, "bbb", rows("success", "hang"))

    assert again.commit == "bbb"
