"""Last words of an attempt, for the next one: bounded, and of printable characters alone."""

from typing import Final

from agentcom.model.limits import NOTE_CHARS

_UNSEEN: Final = "\ufffd"
"""Stands for what cannot be seen: controls, marks of direction, halves of a character."""


def cleaned(text: str | None) -> str | None:
    """Return the end of what an agent said as a note; None if it said nothing."""
    if not text:
        return None
    end = text[-NOTE_CHARS:].replace("\r\n", "\n").replace("\t", " ")
    return "".join(map(_seen, end)).strip() or None


def one_line(text: str, chars_max: int) -> str:
    """Return the beginning of a text that others wrote, on one line."""
    cut = text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"
    return "".join(char if char.isprintable() else _UNSEEN for char in cut)


def _seen(char: str) -> str:
    return char if char.isprintable() or char == "\n" else _UNSEEN
