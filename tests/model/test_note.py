"""Last words of an attempt: bounded, and of characters that can be seen."""

import pytest

from agentcom.model.limits import NOTE_CHARS
from agentcom.model.note import cleaned, one_line


@pytest.mark.parametrize("nothing", [None, "", "  \n\t "])
def test_nothing_said_is_no_note(nothing: str | None) -> None:
    assert cleaned(nothing) is None


def test_of_many_words_the_last_are_kept() -> None:
    said = cleaned("a" * 5_000 + "the parser is next")

    assert said is not None
    assert len(said) == NOTE_CHARS
    assert said.endswith("athe parser is next")


def test_what_cannot_be_seen_is_replaced_and_lines_stay() -> None:
    said = cleaned("one\r\ntwo\tx \x1b[31mred\x07 \u202egnp.exe \ud800 \U000e0041")

    assert said == "one\ntwo x \ufffd[31mred\ufffd \ufffdgnp.exe \ufffd \ufffd"
    assert said.encode()


def test_a_line_has_no_second_line_and_an_end() -> None:
    assert one_line("a\nb\x00c", 10) == "a\ufffdb\ufffdc"
    assert one_line("abcdef", 4) == "abc…"
