"""Numbers that others wrote: in plain digits and in bounds, or none."""

import pytest

from agentcom.model.numerals import MOST, whole


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("42", 42), (str(MOST), MOST)],
)
def test_plain_digits_are_a_number(text: str, number: int) -> None:
    assert whole(text) == number


@pytest.mark.parametrize(
    "text",
    ["", " 1", "+1", "-1", "1_0", "1.0", "0x1", "\u00b2", "\u0663", str(MOST + 1), "9" * 5_000],
)
def test_anything_else_is_none_and_never_an_error(text: str) -> None:
    assert whole(text) is None


def test_what_is_above_a_bound_is_none() -> None:
    assert (whole("9", 9), whole("10", 9)) == (9, None)
