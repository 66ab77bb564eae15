"""Answers for clients without tools, whose model edits files by blocks in its text (aider)."""

from collections.abc import Iterable
from typing import Final

from agentcom.testing import scenario
from agentcom.testing.mock_llm.conversation import (
    Answer,
    Fault,
    Reply,
    Request,
    Silence,
    babble,
    garbage,
)

_ASKED_FOR: Final = "SEARCH/REPLACE"


def wanted(request: Request) -> bool:
    """Say whether the client asks for edits as blocks."""
    return not request.tools and _ASKED_FOR in request.instructions


def answer(steps: Iterable[scenario.Step]) -> Answer:
    """Return all that the steps write and say as one text; what needs a tool is left out."""
    parts: list[str] = []
    delay_ms = 0
    for step in steps:
        match step:
            case scenario.Fail(kind, says):
                return Fault(kind=kind, says=says, delay_ms=delay_ms)
            case scenario.Hang():
                return Silence(delay_ms=delay_ms)
            case scenario.Say(text):
                parts.append(text)
            case scenario.Write(path, text):
                parts.append(_block(path, text))
            case scenario.Sleep(duration_ms):
                delay_ms += duration_ms
            case scenario.Garbage(size_bytes):
                parts.append(garbage(size_bytes))
            case scenario.Huge(size_bytes):
                parts.append(babble(size_bytes))
            case _:
                pass
    return Reply(text="\n\n".join(parts) or "Done.", delay_ms=delay_ms)


def _block(path: str, text: str) -> str:
    end = "" if text.endswith("\n") else "\n"
    return f"{path}\n```\n<<<<<<< SEARCH\n=======\n{text}{end}>>>>>>> REPLACE\n```"
