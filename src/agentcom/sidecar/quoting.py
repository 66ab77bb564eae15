"""How words of others are put before an agent: as data, between two lines that they cannot forge.

The two lines hold a token that is drawn for each quotation, after the words were written. Each
line of the words begins with a mark of quotation, whatever its writer took for a line's end.
"""

import secrets
from collections.abc import Iterable, Iterator
from typing import Final

_TOKEN_BYTES: Final = 12
_UNSEEN: Final = "\ufffd"
"""Stands for what cannot be seen: controls, marks of direction, halves of a character."""


def mark(word: str, token: str | None) -> str:
    """Return the name of a quotation's two lines; a new token is drawn if there is none."""
    return f"{word}-{token or secrets.token_hex(_TOKEN_BYTES)}"


def put(before: str, name: str, lines: Iterable[str]) -> str:
    """Return lines between the two that have a name, after the words that say what they are."""
    return "\n".join([before, f"<<< {name}", *lines, f">>> {name}", ""])


def lines_of(text: str) -> Iterator[str]:
    """Return a text line by line, each with its mark of quotation."""
    for line in text.splitlines():
        yield f"> {''.join(map(_seen, line))}"


def _seen(char: str) -> str:
    return char if char.isprintable() or char == "\t" else _UNSEEN
