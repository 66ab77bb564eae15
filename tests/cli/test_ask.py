"""People ask and answer in a terminal."""

import json

import pytest

from agentcom.cli.errors import Exit
from tests.cli.terminal import Shell

pytestmark = pytest.mark.xdist_group("cli-fleet")


def put(shell: Shell, *words: str) -> str:
    """Put a question that nobody has answered, and return its id."""
    found = shell("ask", "put", *words, ok=False)
    assert found.code == Exit.PENDING, found.err
    ask, state = found.out.strip().split("\t")
    assert state == "open"
    return ask


def me(shell: Shell) -> str:
    return str(json.loads(shell("ask", "ls", "--mine", "--json", "asker").out)[0]["asker"])


def test_a_question_is_answered_once_and_shown_with_its_answer(fleet: Shell, eve: Shell) -> None:
    ask = put(fleet, "--to", "eve", "which\none?", "--option", "red", "--option", "blue")

    assert [row[0] for row in eve("ask", "ls").lines] == [ask]
    assert eve("ask", "answer", ask[-6:], "green", ok=False).code == Exit.USAGE
    assert eve("ask", "answer", ask[-6:], "blue").out == f"{ask}\tanswered\n"
    again = eve("ask", "answer", ask, "red", ok=False)
    assert again.code == Exit.STALE
    assert "answered by user:eve" in again.err
    shown = fleet("ask", "show", ask).out.splitlines()
    assert shown[0].startswith(f"{ask}  answered  user:")
    assert shown[1:] == ["which", "one?", "  or: red", "  or: blue", "answer of user:eve:", "blue"]
    done = fleet("ask", "show", ask, "--wait", "5s", "--json", "answer,state")
    assert json.loads(done.out) == {"answer": "blue", "state": "answered"}
    assert "blue" in fleet("msg", "read").out


def test_a_question_that_is_open_says_so_and_can_be_taken_back(fleet: Shell, eve: Shell) -> None:
    ask = put(eve, "--to", "agent:tester", "--deadline", "1h", "--fallback", "no", "may I?")

    assert fleet("ask", "show", ask, ok=False).code == Exit.PENDING
    assert me(eve) == "user:eve"
    assert fleet("ask", "withdraw", ask, ok=False).code == Exit.MISSING
    assert eve("ask", "withdraw", ask[-6:]).out == f"{ask}\twithdrawn\n"
    assert "withdrawn" in eve("ask", "ls", "--mine", "--ended").out
    assert eve("ask", "ls", "--mine").out == ""


def test_a_wait_ends_with_the_answer_that_the_deadline_takes(fleet: Shell) -> None:
    words = ("--to", "agent:tester", "--deadline", "1s", "--fallback", "as you like", "how?")

    done = fleet("ask", "put", *words, "--wait", "1m", "--json", "state,answer,answered_by")

    assert json.loads(done.out) == {
        "state": "answered",
        "answer": "as you like",
        "answered_by": "hub",
    }
