"""People write to each other, keep notes, and wait for an answer, all in a terminal."""

import json
import subprocess
import sys

import pytest

from agentcom.testing.waiting import PATIENCE_S
from tests.cli.terminal import Shell


def test_a_message_is_written_read_and_answered_in_one_thread(fleet: Shell, eve: Shell) -> None:
    fleet("msg", "send", "eve", "the parser is yours")
    letter = json.loads(eve("msg", "ls", "--json", "seq,sender").out)[-1]
    read = eve("msg", "read").out
    eve("msg", "send", letter["sender"], "thanks", "--reply-to", str(letter["seq"]))

    assert "the parser is yours" in read
    assert "thanks" in fleet("msg", "read").out
    thread = eve("msg", "thread", str(letter["seq"])).out
    assert thread.index("the parser is yours") < thread.index("thanks")
    assert eve("msg", "ls").lines == []


def test_what_must_be_acknowledged_stays_until_it_is(fleet: Shell, eve: Shell) -> None:
    sent = json.loads(fleet("msg", "send", "eve", "--ack", "main is closed", "--json").out)
    first = eve("msg", "read")
    (row,) = eve("msg", "ls").lines

    eve("msg", "ack", row[0])

    assert f"agentcom msg ack {row[0]}" in first.err
    assert eve("msg", "ls").lines == []
    assert "acked" in fleet("msg", "show", sent["message"]).out


def test_a_reader_that_waits_gets_what_comes(fleet: Shell, eve: Shell) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-P", "-m", "agentcom.cli.main", "msg", "read", "--wait", "40s"],
        env=eve.variables(),
        stdout=subprocess.PIPE,
        text=True,
    )
    fleet("msg", "send", "eve", "are you there?")
    out, _ = waiting.communicate(timeout=PATIENCE_S)

    assert waiting.returncode == 0
    assert "are you there?" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("msg", "send", "nobody", "x"), 3, "nobody"),
        (("msg", "send", "eve"), 2, "no text"),
        (("msg", "show", "9999"), 2, "the newest message of this mailbox is"),
        (("msg", "read", "--wait", "soon"), 2, "no duration"),
        (("note", "show", "nothing"), 3, "try: agentcom note ls"),
    ],
)
def test_what_is_wrong_is_said_in_words(
    fleet: Shell, eve: Shell, words: tuple[str, ...], code: int, says: str
) -> None:
    said = fleet(*words, ok=False)

    assert (said.code, says in said.err) == (code, True), said
