"""Whole numbers as others wrote them: in a header, a button, an option."""

from typing import Final

MOST: Final = (1 << 63) - 1
"""What fits into a field of the store."""
_DIGITS_MAX: Final = 40
"""Zeros in front among them. Python refuses thousands of digits by an error of its own."""


def whole(text: str, most: int = MOST) -> int | None:
    """Return the number that `text` is in the digits 0 to 9; None: it is none, or is above `most`.

    To `str.isdigit` a small raised 2 is a digit, too, which `int` then refuses.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
        return None
    number = int(text)
    return number if number <= most else None
