"""The values between the dialects and the script: what a request asks, what is answered.

A dialect module turns its JSON into a `Request` and an `Answer` back into its JSON; the script
(`scenarios.py`) knows no dialect.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from agentcom.testing import scenario

BYTES_PER_TOKEN: Final = 4
"""Tokens are counted as bytes / 4, so that the figures are stable."""

Json = Mapping[str, Any]
Dialect = Literal["chat", "responses", "messages", "generate"]


class Said(msgspec.Struct, frozen=True):
    """A text of the user."""

    text: str


class Called(msgspec.Struct, frozen=True):
    """A tool call that the model made earlier."""

    name: str


class Returned(msgspec.Struct, frozen=True):
    """What a tool call returned."""

    text: str


Item = Said | Called | Returned


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the client offers."""

    name: str
    namespace: str = ""
    kind: Literal["function", "custom", "local_shell"] = "function"
    schema: Json = {}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the model, whatever its dialect."""

    dialect: Dialect
    model: str
    stream: bool
    items: Sequence[Item]
    tools: Sequence[Tool]
    instructions: str = ""
    """What the client's own program tells the model, for clients that put their protocol there."""
    input_tokens: int
    nonce: str
    """A digest of the request: the answer is a pure function of it, its ids too."""


class Call(msgspec.Struct, frozen=True):
    """A tool call; `raw` is the input of a tool of the kind `custom`."""

    tool: Tool
    arguments: Json
    raw: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The model speaks, and calls at most one tool."""

    text: str = ""
    call: Call | None = None
    delay_ms: int = 0
    refusal: bool = False

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer, by size."""
        spoken = len(self.text.encode())
        if self.call is not None:
            spoken += len(self.call.raw.encode()) + len(msgspec.json.encode(self.call.arguments))
        return max(1, spoken // BYTES_PER_TOKEN)


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The provider answers with an error."""

    kind: scenario.FailureKind
    delay_ms: int = 0
    says: str = ""


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """The provider opens the answer and sends nothing."""

    delay_ms: int = 0


Answer = Reply | Fault | Silence


class Event(msgspec.Struct, frozen=True):
    """One server-sent event; `name` is empty in the dialects that do not name them."""

    name: str
    data: str


def event(name: str, body: Json) -> Event:
    """Return the event `name` with `body` as its data."""
    return Event(name, msgspec.json.encode(body).decode())


def garbage(size_bytes: int) -> str:
    """Return control characters, separators and broken escapes; no part of it repeats itself."""
    return "".join(f"\u2028\x07{number}\ufffd\\" for number in range(size_bytes // 12))


def babble(size_bytes: int) -> str:
    """Return a long text in which nothing repeats itself: some programs break off what does."""
    return " ".join(map(str, range(size_bytes // 6)))[:size_bytes]


def pieces(text: str) -> list[str]:
    """Cut `text` into at most 17 parts, as a streaming provider does."""
    size = max(24, -(-len(text) // 16))
    return [text[start : start + size] for start in range(0, len(text), size)]


def plain_text(content: object) -> str:
    """Return the text of a content field: a string, or a list of parts with a `text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return plain_text(content.get("text") or content.get("content") or "")
    if isinstance(content, Sequence):
        return "\n".join(plain_text(part) for part in content)
    return ""


def rows(value: object) -> list[Json]:
    """Return the objects in a list field; anything else in it is ignored."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [row for row in value if isinstance(row, Mapping)]
